"""Everything that is to be served, kept by what changed: an Ingress touches its hosts, and nothing else is looked at.

Two Ingresses that claim one host and path, or one host's certificate: the older one wins, the other is told. No I/O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from vrata.ingress.endpoints import service_of
from vrata.ingress.model import BackendKey, Claim, Claims, Problem, Route, RowKey, SecretKey
from vrata.ingress.rows import ANY, host_of, prefix_row

K = TypeVar("K")
V = TypeVar("V")
Rows = Mapping[RowKey, Route]


@dataclass(frozen=True)
class Host:
    """What one host is served with."""

    rows: Rows = field(default_factory=dict)
    certificate: SecretKey | None = None
    problems: tuple[Problem, ...] = ()


NOTHING = Host()


@dataclass(frozen=True)
class Change:
    """What was looked at since the last time: hosts as they are now, backends that came and went, touched Secrets."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    added: frozenset[BackendKey] = frozenset()
    removed: frozenset[BackendKey] = frozenset()
    secrets: frozenset[SecretKey] = frozenset()


class Table:
    """The claims of all Ingresses, and what follows from them."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self._claims: dict[str, Claims] = {}
        self._claimants: dict[str, set[str]] = {}  # host -> Ingresses
        self._uses: Counter[BackendKey] = Counter()  # rows that lead to it
        self._users: dict[str, set[str]] = {}  # backend or Secret -> Ingresses that name it
        self._of_service: dict[str, set[BackendKey]] = {}
        self._of_secret: dict[SecretKey, set[str]] = {}  # hosts
        self._dirty: set[str] = set()

    @property
    def ours(self) -> frozenset[str]:
        """Keys of the Ingresses that are served."""
        return frozenset(self._claims)

    @property
    def backends(self) -> frozenset[BackendKey]:
        """All that a row leads to."""
        return frozenset(self._uses)

    @property
    def secrets(self) -> frozenset[SecretKey]:
        """All whose certificate a host is served with."""
        return frozenset(self._of_secret)

    def uses(self, backend: BackendKey) -> bool:
        """Whether a row leads there."""
        return backend in self._uses

    def backends_of(self, service: str) -> frozenset[BackendKey]:
        """Those of one Service."""
        return frozenset(self._of_service.get(service, ()))

    def hosts_of(self, secret: SecretKey) -> tuple[str, ...]:
        """The hosts that are served with a Secret's certificate."""
        return tuple(sorted(self._of_secret.get(secret, ())))

    def owner(self, row: RowKey) -> tuple[str, str]:
        """The Ingress that a row is of, and the field that says so."""
        host = host_of(row)
        by_age = sorted(self._claimants[host], key=lambda key: self._claims[key].age)
        for rules in (True, False):
            for ingress in by_age:
                claims = self._claims[ingress]
                asked = claims.hosts.get(host, ()) if rules else (claims.default,) if claims.default else ()
                for claim in asked:
                    if claim.row == row:
                        return ingress, claim.at.removesuffix(".backend")
        raise KeyError(row)

    def told(self, thing: BackendKey | SecretKey, reason: str, message: str) -> tuple[Problem, ...]:
        """What is wrong with a backend or a Secret, for every Ingress that names it."""
        return tuple(
            Problem(ingress, reason, f"{at}{message}")
            for ingress in self._users.get(thing, ())
            for named, at in _named(self._claims[ingress])
            if named == thing
        )

    def put(self, ingress: str, claims: Claims | None) -> None:
        """An Ingress asks for this from now on; None: for nothing."""
        for entry, add in ((self._claims.pop(ingress, None), False), (claims, True)):
            if entry is not None:
                _index(self._claimants, _hosts(entry), ingress, add=add)
                _index(self._users, {named for named, _ in _named(entry)}, ingress, add=add)
                self._dirty |= _hosts(entry)
        if claims is not None:
            self._claims[ingress] = claims

    def settle(self) -> Change:
        """Work out the hosts that were touched."""
        hosts: dict[str, Host] = {}
        touched: Counter[BackendKey] = Counter()
        secrets = set()
        for host in self._dirty:
            old, new = self.hosts.pop(host, NOTHING), self._compile(host)
            hosts[host] = new
            if new != NOTHING:
                self.hosts[host] = new
            touched.update(route.backend for route in new.rows.values())
            touched.subtract(route.backend for route in old.rows.values())
            for secret, add in ((old.certificate, False), (new.certificate, True)):
                if secret and old.certificate != new.certificate:
                    _index(self._of_secret, {secret}, host, add=add)
                    secrets.add(secret)
        self._dirty.clear()
        added = {key for key, number in touched.items() if number > 0 and key not in self._uses}
        self._uses.update(touched)
        removed = {key for key in touched if self._uses[key] <= 0}
        for key in added:
            _index(self._of_service, {service_of(key)}, key)
        for key in removed:
            del self._uses[key]
            _index(self._of_service, {service_of(key)}, key, add=False)
        return Change(hosts, frozenset(added), frozenset(removed), frozenset(secrets))

    def _compile(self, host: str) -> Host:
        rows: dict[RowKey, Route] = {}
        owners: dict[RowKey, str] = {}
        problems: list[Problem] = []
        by_age = sorted(self._claimants.get(host, ()), key=lambda key: self._claims[key].age)
        for ingress in by_age:
            for claim in self._claims[ingress].hosts.get(host, ()):
                owner = owners.setdefault(claim.row, ingress)
                if rows.setdefault(claim.row, claim.route).backend != claim.route.backend:
                    at = claim.at.removesuffix(".backend")
                    message = f"{at}: its host and path belong to the older Ingress {owner}; use another host or path"
                    problems.append(Problem(ingress, "PathConflict", message))
        if host == ANY:
            problems += self._default(rows, by_age)
        certificate = self._certificate(host, by_age, problems)
        return Host(rows, certificate, tuple(problems))

    def _certificate(self, host: str, by_age: list[str], problems: list[Problem]) -> SecretKey | None:
        found: SecretKey | None = None
        owner = ""
        for ingress in by_age:
            for claim in self._claims[ingress].certificates:
                if claim.host == host:
                    found, owner = found or claim.secret, owner or ingress
                    if claim.secret != found:
                        message = f"{claim.at}: {host} is served with {found}, which the older Ingress {owner} names"
                        problems.append(Problem(ingress, "CertificateConflict", f"{message}; name the same Secret"))
        return found

    def _default(self, rows: dict[RowKey, Route], by_age: list[str]) -> list[Problem]:
        """A default backend is the least of all rows; a rule for every host and path leaves it nothing."""
        problems = []
        owner, everything = "", prefix_row(ANY, "/")
        ruled = everything in rows
        for ingress in by_age:
            claim = self._claims[ingress].default
            if claim is None or ruled:
                continue
            owner = owner or ingress
            if rows.setdefault(everything, claim.route) != claim.route:
                message = f"{claim.at}: the older Ingress {owner} has the default backend; only one can"
                problems.append(Problem(ingress, "DefaultConflict", message))
        return problems


def _hosts(claims: Claims) -> set[str]:
    return {*claims.hosts, *(one.host for one in claims.certificates), *((ANY,) if claims.default else ())}


def _all(claims: Claims) -> Iterator[Claim]:
    for found in claims.hosts.values():
        yield from found
    if claims.default:
        yield claims.default


def _named(claims: Claims) -> Iterator[tuple[BackendKey | SecretKey, str]]:
    """What an Ingress names, and where; the fields of a backend follow a dot."""
    for claim in _all(claims):
        yield claim.route.backend, f"{claim.at}."
    for certificate in claims.certificates:
        yield certificate.secret, f"{certificate.at}: "


def _index(index: dict[K, set[V]], keys: Iterable[K], value: V, *, add: bool = True) -> None:
    """Note a value under keys, or take it off; a key without values is forgotten."""
    for key in keys:
        if add:
            index.setdefault(key, set()).add(value)
        else:
            index[key].discard(value)
            if not index[key]:
                del index[key]
