"""Everything that is to be served, kept by what changed: an Ingress touches its hosts, and nothing else is looked at.

Two Ingresses that claim one host and path, or one host's certificate: the older one wins, the other is told. A host belongs
to the namespace of the oldest Ingress that names it: nobody else's rules are for it, and what none of its own is for goes to
rules of the same namespace only, unless hosts are shared. No I/O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vrata.ingress.annotations.grammar import LONGEST_MATCHED, MOST_STEPS, steps_of
from vrata.ingress.endpoints import service_of
from vrata.ingress.model import (
    CAREFULLY,
    NO_POLICY,
    NOT_HERE,
    TO_EVERY,
    TO_WILDCARD,
    BackendKey,
    CertificateClaim,
    Claim,
    Claims,
    Place,
    Policy,
    Problem,
    Role,
    Route,
    RowKey,
    SecretKey,
)
from vrata.ingress.policy import careful, guards_of, join, too_long
from vrata.ingress.rows import ANY, candidates, moved_row, pattern_of, plain_rows, prefix_row

K = TypeVar("K")
V = TypeVar("V")
Rows = Mapping[RowKey, Route]
HOST_CONFLICT, TOO_COSTLY = "HostConflict", "PatternsTooCostly"
MOST_STEPS_OF_HOST = 4 * MOST_STEPS
MOST_READINGS = 64  # of a path, on a host with guards

_PROOF = "/.well-known/acme-challenge/"


@dataclass(frozen=True)
class Host:
    """What one host is served with: rows, or patterns in the order in which they are tried."""

    rows: Rows = field(default_factory=dict)
    patterns: tuple[tuple[str, Route], ...] = ()
    certificate: SecretKey | None = None
    authority: SecretKey | None = None  # of clients' certificates
    through: BackendKey | None = None  # whose pods end TLS
    problems: tuple[Problem, ...] = ()

    def routes(self) -> Iterator[Route]:
        """All of its routes."""
        yield from self.rows.values()
        yield from (route for _, route in self.patterns)


NOTHING = Host()


@dataclass(frozen=True)
class Change:
    """What was looked at since the last time: hosts as they are now, backends that came and went, touched Secrets.

    `secrets` are of certificates that hosts are served with, `named` all others.
    """

    hosts: Mapping[str, Host] = field(default_factory=dict)
    added: frozenset[BackendKey] = frozenset()
    removed: frozenset[BackendKey] = frozenset()
    secrets: frozenset[SecretKey] = frozenset()
    policies: frozenset[Policy] = frozenset()
    named: frozenset[SecretKey] = frozenset()


class Table:
    """The claims of all Ingresses, and what follows from them."""

    def __init__(self, *, shared_hosts: bool = False) -> None:
        self._shared_hosts = shared_hosts
        self._owners: dict[str, str] = {}  # host -> namespace, as it was worked out last
        self._remembered: dict[str, str] = {}  # likewise, of the time before this process
        self.kept: dict[
            str, str
        ] = {}  # hosts whose namespace is not that of the oldest Ingress, for it had them before
        self._owned: dict[str, set[str]] = {}  # namespace -> hosts
        self.hosts: dict[str, Host] = {}
        self._claims: dict[str, Claims] = {}
        self._claimants: dict[str, set[str]] = {}  # host -> Ingresses
        self._certificates: dict[str, dict[str, list[CertificateClaim]]] = {}  # Ingress -> host
        self._uses: Counter[BackendKey] = Counter()  # routes that lead to it
        self._policies: Counter[Policy] = Counter()  # routes that have it
        self._users: dict[str, set[str]] = {}  # backend or Secret -> Ingresses that name it
        self._named_at: dict[str, dict[str, list[str]]] = {}  # Ingress -> what it names -> fields
        self._of_service: dict[str, set[BackendKey]] = {}
        self._of_secret: dict[SecretKey, set[str]] = {}  # hosts
        self._named: dict[SecretKey, set[str]] = {}  # Secret that is no host's certificate -> Ingresses
        self._aliases: dict[str, set[tuple[str, str]]] = {}  # host -> aliases, and the Ingresses that say so
        self._dirty: set[str] = set()
        self._dirty_named: set[SecretKey] = set()

    @property
    def ours(self) -> frozenset[str]:
        """Keys of the Ingresses that are served."""
        return frozenset(self._claims)

    @property
    def backends(self) -> frozenset[BackendKey]:
        """All that a row leads to."""
        return frozenset(self._uses)

    @property
    def policies(self) -> frozenset[Policy]:
        """All that a route has."""
        return frozenset(self._policies)

    @property
    def secrets(self) -> frozenset[SecretKey]:
        """All whose certificate a host is served with."""
        return frozenset(self._of_secret)

    def uses(self, backend: BackendKey) -> bool:
        """Whether a row leads there."""
        return backend in self._uses

    @property
    def named(self) -> frozenset[SecretKey]:
        """All Secrets that are named for something else than a host's certificate."""
        return frozenset(self._named)

    def authorised_by(self, secret: SecretKey) -> Iterator[tuple[str, Host]]:
        """The hosts whose clients' certificates a Secret's authority signs."""
        return ((name, host) for name, host in self.hosts.items() if host.authority == secret)

    def names(self, ingress: str) -> frozenset[str]:
        """The hosts that an Ingress names in rules."""
        return self._claims[ingress].named if ingress in self._claims else frozenset()

    def has(self, policy: Policy) -> bool:
        """Whether a route has it."""
        return policy in self._policies

    def backends_of(self, service: str) -> frozenset[BackendKey]:
        """Those of one Service."""
        return frozenset(self._of_service.get(service, ()))

    def hosts_of(self, secret: SecretKey) -> tuple[str, ...]:
        """The hosts that are served with a Secret's certificate."""
        return tuple(sorted(self._of_secret.get(secret, ())))

    def owner(self, host: str, key: str) -> tuple[str, str]:
        """The Ingress that a row or pattern of a host is of, and the field that says so."""
        rules = self._rules(host, self._admitted(host, []), [])
        ingress, claim = rules[1][key]
        return ingress, claim.at.removesuffix(".backend")

    def naming(self, thing: BackendKey | SecretKey) -> tuple[str, ...]:
        """The Ingresses that name it."""
        return tuple(self._users.get(thing, ()))

    def told(self, thing: BackendKey | SecretKey, reason: str, message: str) -> tuple[Problem, ...]:
        """What is wrong with a backend or a Secret, for every Ingress that names it."""
        return tuple(
            Problem(ingress, reason, f"{at}{message}")
            for ingress in self._users.get(thing, ())
            for at in self._named_at[ingress][thing]
        )

    def put(self, ingress: str, claims: Claims | None) -> None:
        """An Ingress asks for this from now on; None: for nothing."""
        for entry, add in ((self._claims.pop(ingress, None), False), (claims, True)):
            if entry is not None:
                _index(self._claimants, _hosts(entry), ingress, add=add)
                for alias, hosts in _aliases(entry).items():
                    _index(self._aliases, hosts, (alias, ingress), add=add)
                _index(self._users, _named(entry), ingress, add=add)
                self._dirty |= _hosts(entry)
                named = {one.secret for one in entry.secrets}
                _index(self._named, named, ingress, add=add)
                self._dirty_named |= named
        self._certificates.pop(ingress, None)
        self._named_at.pop(ingress, None)
        if claims is not None:
            self._claims[ingress] = claims
            self._named_at[ingress] = _named(claims)
            named_by_host = self._certificates[ingress] = {}
            for one in claims.certificates:
                named_by_host.setdefault(one.host, []).append(one)

    def settle(self) -> Change:
        """Work out the hosts that were touched."""
        hosts: dict[str, Host] = {}
        touched: Counter[BackendKey] = Counter()
        policies: Counter[Policy] = Counter()
        secrets = set()
        for host in self._touched():
            old, new = self.hosts.pop(host, NOTHING), self._compile(host)
            hosts[host] = new
            if new != NOTHING:
                self.hosts[host] = new
            for served, count in ((new, 1), (old, -1)):
                for route in served.routes():
                    policies[route.policy] += count
                    for backend in route.backends():
                        touched[backend] += count
            for secret, add in ((old.certificate, False), (new.certificate, True)):
                if secret and old.certificate != new.certificate:
                    _index(self._of_secret, {secret}, host, add=add)
                if secret and (old.certificate, old.authority) != (new.certificate, new.authority):
                    secrets.add(secret)
        self._dirty.clear()
        added = {key for key, number in touched.items() if number > 0 and key not in self._uses}
        self._uses.update(touched)
        del policies[NO_POLICY]
        self._policies.update(policies)
        for policy in policies:
            if self._policies[policy] <= 0:
                del self._policies[policy]
        removed = {key for key in touched if self._uses[key] <= 0}
        for key in added:
            _index(self._of_service, {service_of(key)}, key)
        for key in removed:
            del self._uses[key]
            _index(self._of_service, {service_of(key)}, key, add=False)
        changed = frozenset(policy for policy, count in policies.items() if count)
        named = frozenset(self._dirty_named)
        self._dirty_named.clear()
        return Change(hosts, frozenset(added), frozenset(removed), frozenset(secrets), changed, named)

    def _touched(self) -> set[str]:
        """Hosts to be looked at: also those that lead to rules of a wildcard, or for every host, which have another owner."""
        self._dirty |= {alias for host in self._dirty for alias, _ in self._aliases.get(host, ())}
        touched = set(self._dirty)
        for host in self._dirty:
            old, new = self._owners.get(host, ""), self.namespace_of(host)
            self._own(host, new)
            if old == new:
                continue
            for namespace in filter(None, (old, new)):
                _index(self._owned, {namespace}, host, add=namespace == new)
                below = self._owned.get(namespace, ()) if host.startswith(ANY) else ()
                touched |= {one for one in below if host in candidates(one)}
        return touched

    def _own(self, host: str, namespace: str) -> None:
        for found in (self._owners, self._remembered, self.kept):
            found.pop(host, None)
        if namespace:
            self._owners[host] = namespace
        if namespace and namespace != self._first(host).partition("/")[0]:
            self.kept[host] = namespace

    def remember(self, kept: Mapping[str, str]) -> None:
        """Hosts that a process before this one kept for their namespaces. Call it before the first `settle`."""
        self._remembered = dict(kept)

    def _by_age(self, host: str) -> list[str]:
        return sorted(self._claimants.get(host, ()), key=lambda key: self._claims[key].age)

    def _first(self, host: str, namespace: str = "") -> str:
        """The oldest Ingress, perhaps of a namespace, that names a host in a rule, or else serves it for lack of a rule.

        Empty if there is none. A default backend beside rules takes «every host» from nobody who has a rule for it.
        """
        by_age = [key for key in self._by_age(host) if not namespace or key.startswith(f"{namespace}/")]
        asked = [(key, self._claims[key]) for key in by_age]
        naming = (key for key, one in asked if host in one.named)
        others = (key for key, one in asked if _serves(one, host))
        return next(naming, next(others, ""))

    def namespace_of(self, host: str) -> str:
        """The namespace that a host belongs to; empty: nobody's, or everybody's.

        Who has it keeps it as long as one of its Ingresses asks for it, for the age of another one may be that of an Ingress
        which has named this host for a moment only.
        """
        if self._shared_hosts:
            return ""
        held = self._owners.get(host) or self._remembered.get(host, "")
        claims = (self._claims[key] for key in self._claimants.get(host, ()) if key.startswith(f"{held}/"))
        if held and any(host in one.named or (host == ANY and one.default) for one in claims):
            return held
        return self._first(host).partition("/")[0]

    def _admitted(self, host: str, problems: list[Problem]) -> list[str]:
        """The Ingresses whose word counts for a host, by age; the others are told."""
        by_age, owner = self._by_age(host), self.namespace_of(host)
        if not owner:
            return by_age
        ours = [key for key in by_age if key.partition("/")[0] == owner]
        for ingress in by_age if len(ours) < len(by_age) else ():
            claims = self._claims[ingress]
            asked = [*claims.hosts.get(host, ()), *([claims.default] if host == ANY and claims.default else [])]
            # A default backend beside rules for hosts is for these; that it is not for all others is nothing to tell.
            at = [one.at for one in asked if one is not claims.default or ANY in claims.named]
            at += [one.at for one in self._certificates[ingress].get(host, ())]
            if at and ingress.partition("/")[0] != owner:
                name = "every host" if host == ANY else f"the host {host}"
                message = (
                    f"{at[0].removesuffix('.backend')}: {name} belongs to the namespace of"
                    f" Ingress {self._first(host, owner)}"
                )
                remedy = "use another host, or start the controller with --shared-hosts"
                problems.append(Problem(ingress, HOST_CONFLICT, f"{message}, which had it first; {remedy}"))
        return ours

    def _miss(self, host: str) -> Route | None:
        """What becomes of requests that no rule of a host is for; None: other hosts' rules are tried."""
        owner = self.namespace_of(host)
        if not owner or host == ANY:
            return None
        wildcard, every = list(candidates(host))[1:]
        if owner == self.namespace_of(wildcard) and wildcard != host:
            where = TO_WILDCARD
        else:
            where = TO_EVERY if owner == self.namespace_of(every) else NOT_HERE
        return Route(BackendKey(""), miss=where)

    def _compile(self, host: str) -> Host:
        problems: list[Problem] = []
        by_age = self._admitted(host, problems)
        patterned, rules = self._rules(host, by_age, problems)
        authority = self._authority(host, by_age)
        miss = self._miss(host)
        routes = {key: claim.route for key, (_, claim) in rules.items()}
        guarded = is_guarded(routes.values(), goes_on=miss is not None and miss.miss != NOT_HERE)
        if guarded:
            most = _readings(claim.pattern for _, claim in rules.values()) if patterned else MOST_READINGS
            guarded_by = {one: careful(one, most) for one in {route.policy for route in routes.values()}}
            routes = {key: route._replace(policy=guarded_by[route.policy]) for key, route in routes.items()}
            if miss and miss.miss != NOT_HERE:
                miss = miss._replace(miss=Place(f"{miss.miss}{most}{CAREFULLY}"))
        certificate, through = self._certificate(host, by_age, problems), _through(host, routes)
        if through:  # no request that comes over TLS ended here is for this host, whatever its path
            miss = (miss or Route(BackendKey(""), miss=TO_WILDCARD))._replace(http_only=True)
        if not patterned:
            rows = {RowKey(key): route for key, route in routes.items()}
            for row in tuple(rows) if guarded else ():
                for plain in plain_rows(row):
                    rows.setdefault(plain, rows[row])
            if miss:
                rows.setdefault(prefix_row(host, "/"), miss)
            return Host(rows, (), certificate, authority, through, tuple(problems))
        longest_first = sorted(rules, key=lambda key: (-len(rules[key][1].pattern), key))
        patterns = tuple((key, routes[key]) for key in longest_first)
        if miss and (everything := pattern_of(host, "/")) not in routes:
            patterns += ((everything, miss),)
        return Host({}, patterns, certificate, authority, through, tuple(problems))

    def _authority(self, host: str, by_age: list[str]) -> SecretKey | None:
        """Of clients' certificates: the oldest Ingress that names one decides."""
        return next((claim.authority for _, claim in self._asked(host, by_age) if claim.authority), None)

    def _asked(self, host: str, by_age: list[str]) -> list[tuple[str, Claim]]:
        """Claims with their Ingresses; an alias counts only where there is no rule, but for one that proves who has the host."""
        asked = [(ingress, claim) for ingress in by_age for claim in self._claims[ingress].hosts.get(host, ())]
        rules = [one for one in asked if one[1].role is not Role.ALIAS]
        if any(claim.role is Role.RULE and _PROOF not in claim.row for _, claim in rules):
            return rules
        beside = self._beside(host, asked)
        return sorted([*asked, *beside], key=lambda one: self._claims[one[0]].age) if beside else asked

    def _beside(self, alias: str, asked: list[tuple[str, Claim]]) -> list[tuple[str, Claim]]:
        """What other Ingresses say of the host that has the alias: their guards hold there, too."""
        say = {ingress for ingress, claim in asked if claim.alias_of}
        namespaces = {ingress.partition("/")[0] for ingress in say}
        return [
            (ingress, replace(claim, row=moved_row(claim.row, alias), role=Role.ALIAS))
            for host in sorted({claim.alias_of for _, claim in asked} - {""})
            for ingress in self._admitted(host, [])
            if ingress not in say and ingress.partition("/")[0] in namespaces
            for claim in self._claims[ingress].hosts.get(host, ())
            if claim.role is Role.RULE
        ]

    def _rules(
        self, host: str, by_age: list[str], problems: list[Problem]
    ) -> tuple[bool, dict[str, tuple[str, Claim]]]:
        """Whether the host's paths are patterns; then what serves each row or pattern, with its Ingress."""
        authority = self._authority(host, by_age)
        asked = self._asked(host, by_age)
        for ingress in dict.fromkeys(one for one, claim in asked if claim.authority not in (None, authority)):
            signer = str(authority).partition(";")[0]
            message = f"an older Ingress has clients of {host} show certificates that {signer} signs"
            problems.append(Problem(ingress, "AuthorityConflict", f"auth-tls-secret: {message}; name the same Secret"))
        asked = [(ingress, claim) for ingress, claim in asked if claim.authority in (None, authority)]
        rules = self._of_one_end(host, [one for one in asked if one[1].role is not Role.CANARY], problems)
        rules, rest = [one for one in rules if not one[1].rest], [one for one in rules if one[1].rest]
        patterned = any(claim.regex for _, claim in rules)
        rules = self._affordable(host, rules, problems) if patterned else rules
        found: dict[str, tuple[str, Claim]] = {}
        for ingress, claim in rules:
            key = pattern_of(host, claim.pattern) if patterned else claim.row
            owner, first = found.setdefault(key, (ingress, claim))
            if first.route != claim.route:
                at = claim.at.removesuffix(".backend")
                message = f"{at}: its host and path belong to the older Ingress {owner}; use another host or path"
                problems.append(Problem(ingress, "PathConflict", message))
        for ingress, claim in rest:
            found.setdefault(pattern_of(host, "/") if patterned else claim.row, (ingress, claim))
        canaries: dict[str, str] = {}
        for ingress, claim in asked:
            if claim.role is Role.CANARY:
                key = pattern_of(host, claim.pattern) if patterned else claim.row
                self._add_canary(found, canaries, key, (ingress, claim), problems)
        if host == ANY:
            self._default(found, by_age, problems, patterned=patterned)
        return patterned, found

    @staticmethod
    def _of_one_end(host: str, rules: list[tuple[str, Claim]], problems: list[Problem]) -> list[tuple[str, Claim]]:
        """Where TLS of a host ends is one question for all of its paths: the oldest Ingress answers it.

        Over plain HTTP there is no TLS: where it goes unopened, the paths of others are served there, such as those that prove
        to an authority who has the host (ACME, HTTP-01). Such a path has no say: its Ingress may be as old as any, to the
        second, and its name may come first.
        """
        if not rules:
            return []
        oldest, says = next((rule for rule in rules if _PROOF not in rule[1].row), rules[0])
        through = says.route.through
        kept = []
        told: set[str] = set()
        for ingress, claim in rules:
            if claim.route.through == through:
                kept.append((ingress, claim))
                continue
            if through:
                kept.append((ingress, replace(claim, route=claim.route._replace(http_only=True, https_only=False))))
            if ingress not in told and not (through and _PROOF in claim.row):
                told.add(ingress)
                effect = "over HTTPS its paths are not served" if through else "it is left out there"
                message = (
                    f"ssl-passthrough: the older Ingress {oldest} says otherwise of {host}: {effect}; use another host"
                )
                problems.append(Problem(ingress, "PassthroughConflict", message))
        return kept

    @staticmethod
    def _affordable(host: str, rules: list[tuple[str, Claim]], problems: list[Problem]) -> list[tuple[str, Claim]]:
        """A request is tried with all patterns of its host: those of the oldest Ingresses that take little time together."""
        steps: dict[str, int] = {}
        for ingress, claim in rules:
            steps[ingress] = steps.get(ingress, 0) + (steps_of(claim.pattern) if claim.regex else 0)
        total, refused = 0, set()
        for ingress, own in steps.items():
            total += own
            if own and total > MOST_STEPS_OF_HOST:
                refused.add(ingress)
                total -= own
                message = f"spec.rules: the paths of {host} could take too long together"
                remedy = "use fewer with * or + before something that they match, too"
                problems.append(Problem(ingress, TOO_COSTLY, f"{message}; {remedy}"))
        return [one for one in rules if one[0] not in refused]

    @staticmethod
    def _add_canary(
        found: dict[str, tuple[str, Claim]],
        canaries: dict[str, str],
        key: str,
        asked: tuple[str, Claim],
        problems: list[Problem],
    ) -> None:
        ingress, claim = asked
        at = claim.at.removesuffix(".backend")
        owner, main = found.get(key, ("", None))
        if main is None:
            message = f"{at}: a canary needs another Ingress with the same host and path; make that first"
            problems.append(Problem(ingress, "CanaryAlone", message))
        elif owner.partition("/")[0] != ingress.partition("/")[0]:
            message = f"{at}: its host and path are Ingress {owner}'s, of another namespace; make the canary there"
            problems.append(Problem(ingress, "CanaryElsewhere", message))
        elif key in canaries:
            message = f"{at}: its host and path have the older canary {canaries[key]}; remove one of the two"
            problems.append(Problem(ingress, "CanaryConflict", message))
        elif too_long(policy := join(main.route.policy, claim.route.policy)):
            message = f"{at}: what it asks for and what Ingress {owner} does are too long together; name fewer things"
            problems.append(Problem(ingress, "CanaryTooLong", message))
        else:
            route = main.route._replace(canary=claim.route.backend, policy=policy)
            found[key], canaries[key] = (owner, replace(main, route=route)), ingress

    def _certificate(self, host: str, by_age: list[str], problems: list[Problem]) -> SecretKey | None:
        """Of the oldest Ingress that names one; those that the host leads to come before those that only name it."""
        found: SecretKey | None = None
        owner = ""
        serving = {ingress for ingress, _ in self._asked(host, by_age)}
        for ingress in sorted(by_age, key=lambda key: key not in serving):
            for claim in self._certificates[ingress].get(host, ()):
                found, owner = found or claim.secret, owner or ingress
                if claim.secret != found:
                    message = f"{claim.at}: {host} is served with {found}, which Ingress {owner} names"
                    problems.append(Problem(ingress, "CertificateConflict", f"{message}; name the same Secret"))
        return found

    def _default(
        self, found: dict[str, tuple[str, Claim]], by_age: list[str], problems: list[Problem], *, patterned: bool
    ) -> None:
        """A default backend is the least of all rows; a rule for every host and path leaves it nothing."""
        everything = pattern_of(ANY, "/") if patterned else prefix_row(ANY, "/")
        ruled = everything in found
        for ingress in by_age:
            claim = self._claims[ingress].default
            if claim is None or ruled:
                continue
            owner, first = found.setdefault(everything, (ingress, claim))
            if first.route != claim.route:
                message = f"{claim.at}: the older Ingress {owner} has the default backend; only one can"
                problems.append(Problem(ingress, "DefaultConflict", message))


def is_guarded(routes: Iterable[Route], *, goes_on: bool) -> bool:
    """Whether some paths of a host have other guards than others, so that none may be taken for another one.

    `goes_on`: what none of them is for is served by rules of other hosts.
    """
    guards = {guards_of(policy) for policy in {route.policy for route in routes}}
    return len(guards) > 1 or (goes_on and bool(guards - {frozenset()}))


def _readings(patterns: Iterable[str]) -> int:
    """How many readings of a path may be tried with all patterns of a host, twice each, in about two milliseconds."""
    steps = sum(max(steps_of(one), LONGEST_MATCHED) for one in patterns)
    return max(1, min(MOST_READINGS, MOST_STEPS // steps))


def _through(host: str, routes: Mapping[str, Route]) -> BackendKey | None:
    """Where a host's TLS goes unopened: as its root does, or its first path."""
    found = [routes.get(prefix_row(host, "/")), *routes.values()]
    return next((route.backend for route in found if route and route.through), None)


def _hosts(claims: Claims) -> set[str]:
    return {
        *claims.hosts,
        *claims.named,
        *(one.host for one in claims.certificates),
        *((ANY,) if claims.default else ()),
    }


def _aliases(claims: Claims) -> dict[str, set[str]]:
    """The hosts whose rules each alias has."""
    return {
        alias: hosts
        for alias, entries in claims.hosts.items()
        if (hosts := {claim.alias_of for claim in entries if claim.alias_of})
    }


def _serves(claims: Claims, host: str) -> bool:
    """Whether it is more than a canary or a certificate."""
    default = host == ANY and claims.default is not None
    return default or any(claim.role is not Role.CANARY for claim in claims.hosts.get(host, ()))


def _all(claims: Claims) -> Iterator[Claim]:
    for found in claims.hosts.values():
        yield from found
    if claims.default:
        yield claims.default


def _named(claims: Claims) -> dict[str, list[str]]:
    """What an Ingress names, and where; the fields of a backend follow a dot."""
    named: dict[str, list[str]] = {}
    for claim in (one for one in _all(claims) if not one.rest):  # the default backend is among them itself
        named.setdefault(claim.route.backend, []).append(f"{claim.at}.")
        if claim.route.fallback:
            named.setdefault(claim.route.fallback, []).append("default-backend: ")
    for certificate in claims.certificates:
        named.setdefault(certificate.secret, []).append(f"{certificate.at}: ")
    for one in claims.secrets:
        named.setdefault(one.secret, []).append(f"{one.at}: ")
    return named


def _index(index: dict[K, set[V]], keys: Iterable[K], value: V, *, add: bool = True) -> None:
    """Note a value under keys, or take it off; a key without values is forgotten."""
    for key in keys:
        if add:
            index.setdefault(key, set()).add(value)
        else:
            index[key].discard(value)
            if not index[key]:
                del index[key]
