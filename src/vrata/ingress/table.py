"""Everything that is to be served, kept by what changed: an Ingress touches its hosts, and nothing else is looked at.

Two Ingresses that claim one host and path, or one host's certificate: the older one wins, the other is told. No I/O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vrata.ingress.endpoints import service_of
from vrata.ingress.model import (
    NO_POLICY,
    BackendKey,
    CertificateClaim,
    Claim,
    Claims,
    Policy,
    Problem,
    Role,
    Route,
    RowKey,
    SecretKey,
)
from vrata.ingress.policy import CAREFUL, guards_of, join, too_long
from vrata.ingress.rows import ANY, pattern_of, prefix_row

K = TypeVar("K")
V = TypeVar("V")
Rows = Mapping[RowKey, Route]


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

    def __init__(self) -> None:
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
        rules = self._rules(host, self._by_age(host), [])
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
        for host in self._dirty:
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

    def _by_age(self, host: str) -> list[str]:
        return sorted(self._claimants.get(host, ()), key=lambda key: self._claims[key].age)

    def _compile(self, host: str) -> Host:
        problems: list[Problem] = []
        by_age = self._by_age(host)
        patterned, rules = self._rules(host, by_age, problems)
        authority = self._authority(host, by_age)
        routes = _careful({key: claim.route for key, (_, claim) in rules.items()})
        certificate = self._certificate(host, by_age, problems)
        if not patterned:
            rows = {RowKey(key): route for key, route in routes.items()}
            return Host(rows, (), certificate, authority, _through(host, routes), tuple(problems))
        longest_first = sorted(rules, key=lambda key: (-len(rules[key][1].pattern), key))
        patterns = tuple((key, routes[key]) for key in longest_first)
        return Host({}, patterns, certificate, authority, _through(host, routes), tuple(problems))

    def _authority(self, host: str, by_age: list[str]) -> SecretKey | None:
        """Of clients' certificates: the oldest Ingress that names one decides."""
        return next((claim.authority for _, claim in self._asked(host, by_age) if claim.authority), None)

    def _asked(self, host: str, by_age: list[str]) -> list[tuple[str, Claim]]:
        """Claims with their Ingresses; an alias counts only where there is no rule."""
        asked = [(ingress, claim) for ingress in by_age for claim in self._claims[ingress].hosts.get(host, ())]
        rules = [one for one in asked if one[1].role is not Role.ALIAS]
        return rules if any(claim.role is Role.RULE for _, claim in rules) else asked

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
        patterned = any(claim.regex for _, claim in rules)
        found: dict[str, tuple[str, Claim]] = {}
        for ingress, claim in rules:
            key = pattern_of(host, claim.pattern) if patterned else claim.row
            owner, first = found.setdefault(key, (ingress, claim))
            if first.route != claim.route:
                at = claim.at.removesuffix(".backend")
                message = f"{at}: its host and path belong to the older Ingress {owner}; use another host or path"
                problems.append(Problem(ingress, "PathConflict", message))
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
        """Where TLS of a host ends is one question for all of its paths: the oldest Ingress answers it."""
        through = bool(rules) and rules[0][1].route.through
        for ingress in dict.fromkeys(ingress for ingress, claim in rules if claim.route.through != through):
            message = f"ssl-passthrough: the older Ingress {rules[0][0]} says otherwise of {host}; use another host"
            problems.append(Problem(ingress, "PassthroughConflict", message))
        return [one for one in rules if one[1].route.through == through]

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


def _careful(routes: dict[str, Route]) -> dict[str, Route]:
    """Where some paths of a host are guarded and others are not, none is taken for another one."""
    if len({guards_of(route.policy) for route in routes.values()}) < 2:
        return routes
    return {key: route._replace(policy=join(route.policy, CAREFUL)) for key, route in routes.items()}


def _through(host: str, routes: Mapping[str, Route]) -> BackendKey | None:
    """Where a host's TLS goes unopened: as its root does, or its first path."""
    found = [routes.get(prefix_row(host, "/")), *routes.values()]
    return next((route.backend for route in found if route and route.through), None)


def _hosts(claims: Claims) -> set[str]:
    return {*claims.hosts, *(one.host for one in claims.certificates), *((ANY,) if claims.default else ())}


def _all(claims: Claims) -> Iterator[Claim]:
    for found in claims.hosts.values():
        yield from found
    if claims.default:
        yield claims.default


def _named(claims: Claims) -> dict[str, list[str]]:
    """What an Ingress names, and where; the fields of a backend follow a dot."""
    named: dict[str, list[str]] = {}
    for claim in _all(claims):
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
