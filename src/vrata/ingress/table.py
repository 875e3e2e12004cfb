"""Everything that is to be served, kept by what changed: an Ingress touches its hosts, and nothing else is looked at.

Two Ingresses that claim one host and path: the older one wins, the other is told. Does no I/O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from vrata.ingress.endpoints import service_of
from vrata.ingress.model import BackendKey, Claim, Claims, Problem, RowKey
from vrata.ingress.rows import ANY, prefix_row

K = TypeVar("K")
V = TypeVar("V")
Rows = Mapping[RowKey, BackendKey]


@dataclass(frozen=True)
class Change:
    """What is different since the last look: rows of hosts (none: the host is served no more), backends in and out.

    `looked_at` are all hosts that were worked out again: their conflicts may be others with the same rows.
    """

    looked_at: frozenset[str] = frozenset()
    hosts: Mapping[str, Rows] = field(default_factory=dict)
    added: frozenset[BackendKey] = frozenset()
    removed: frozenset[BackendKey] = frozenset()


class Table:
    """The claims of all Ingresses, and what follows from them."""

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}
        self.problems: dict[str, tuple[Problem, ...]] = {}  # by host: of conflicts
        self._claims: dict[str, Claims] = {}
        self._claimants: dict[str, set[str]] = {}  # host -> Ingresses
        self._uses: Counter[BackendKey] = Counter()  # rows that lead to it
        self._users: dict[BackendKey, set[str]] = {}  # Ingresses that name it
        self._of_service: dict[str, set[BackendKey]] = {}
        self._dirty: set[str] = set()

    @property
    def ours(self) -> frozenset[str]:
        """Keys of the Ingresses that are served."""
        return frozenset(self._claims)

    @property
    def backends(self) -> frozenset[BackendKey]:
        """All that a row leads to."""
        return frozenset(self._uses)

    def backends_of(self, service: str) -> frozenset[BackendKey]:
        """Those of one Service."""
        return frozenset(self._of_service.get(service, ()))

    def told(self, backend: BackendKey, reason: str, message: str) -> tuple[Problem, ...]:
        """What is wrong with a backend, for every Ingress that names it."""
        return tuple(
            Problem(ingress, reason, f"{claim.at}.{message}")
            for ingress in self._users.get(backend, ())
            for claim in _all(self._claims[ingress])
            if claim.backend == backend
        )

    def put(self, ingress: str, claims: Claims | None) -> None:
        """An Ingress asks for this from now on; None: for nothing."""
        old = self._claims.pop(ingress, None)
        if old is not None:
            _index(self._claimants, _hosts(old), ingress, add=False)
            _index(self._users, {claim.backend for claim in _all(old)}, ingress, add=False)
            self._dirty |= _hosts(old)
        if claims is not None:
            self._claims[ingress] = claims
            _index(self._claimants, _hosts(claims), ingress)
            _index(self._users, {claim.backend for claim in _all(claims)}, ingress)
            self._dirty |= _hosts(claims)

    def settle(self) -> Change:
        """Work out the hosts that were touched."""
        hosts: dict[str, Rows] = {}
        touched: Counter[BackendKey] = Counter()
        for host in self._dirty:
            old = self.rows.pop(host, {})
            new, problems = self._compile(host)
            if new:
                self.rows[host] = new
            if problems:
                self.problems[host] = problems
            else:
                self.problems.pop(host, None)
            if new != old:
                hosts[host] = new
                touched.update(new.values())
                touched.subtract(old.values())
        looked_at, self._dirty = frozenset(self._dirty), set()
        added = {key for key, number in touched.items() if number > 0 and key not in self._uses}
        self._uses.update(touched)
        removed = {key for key in touched if self._uses[key] <= 0}
        for key in added:
            _index(self._of_service, {service_of(key)}, key)
        for key in removed:
            del self._uses[key]
            _index(self._of_service, {service_of(key)}, key, add=False)
        return Change(looked_at, hosts, frozenset(added), frozenset(removed))

    def _compile(self, host: str) -> tuple[dict[RowKey, BackendKey], tuple[Problem, ...]]:
        claimants = self._claimants.get(host, ())
        rows: dict[RowKey, BackendKey] = {}
        owners: dict[RowKey, str] = {}
        problems = []
        by_age = sorted(claimants, key=lambda key: self._claims[key].age)
        for ingress in by_age:
            for claim in self._claims[ingress].hosts.get(host, ()):
                owner = owners.setdefault(claim.row, ingress)
                if rows.setdefault(claim.row, claim.backend) != claim.backend:
                    message = (
                        f"{claim.at}: its host and path belong to the older Ingress {owner}; use another host or path"
                    )
                    problems.append(Problem(ingress, "PathConflict", message))
        if host == ANY:
            problems += self._default(rows, by_age)
        return rows, tuple(problems)

    def _default(self, rows: dict[RowKey, BackendKey], by_age: list[str]) -> list[Problem]:
        """A default backend is the least of all rows; a rule for every host and path leaves it nothing."""
        problems = []
        owner, everything = "", prefix_row(ANY, "/")
        ruled = everything in rows
        for ingress in by_age:
            claim = self._claims[ingress].default
            if claim is None or ruled:
                continue
            owner = owner or ingress
            if rows.setdefault(everything, claim.backend) != claim.backend:
                message = f"{claim.at}: the older Ingress {owner} has the default backend; only one can"
                problems.append(Problem(ingress, "DefaultConflict", message))
        return problems


def _hosts(claims: Claims) -> set[str]:
    return {*claims.hosts, *((ANY,) if claims.default else ())}


def _all(claims: Claims) -> Iterator[Claim]:
    for found in claims.hosts.values():
        yield from found
    if claims.default:
        yield claims.default


def _index(index: dict[K, set[V]], keys: Iterable[K], value: V, *, add: bool = True) -> None:
    """Note a value under keys, or take it off; a key without values is forgotten."""
    for key in keys:
        if add:
            index.setdefault(key, set()).add(value)
        else:
            index[key].discard(value)
            if not index[key]:
                del index[key]
