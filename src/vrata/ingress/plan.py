"""Steps from what HAProxy is running to what is to be served: pure.

A pass looks at some hosts and some backends; what else HAProxy has is left alone. After any prefix of the steps every
row leads to a backend that serves what the row's Ingress names.
"""

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field

from vrata.ingress.model import REDIRECT, BackendKey, Certificate, Route, RowKey, Scheme, SecretKey, Server, Slot
from vrata.ingress.served import file_names, fits, secret_digest, secret_of_file


@dataclass(frozen=True)
class Observed:
    """What the running HAProxy has of the hosts and slots that a pass looks at.

    `servers` maps their names to whether they are in maintenance, by slot; a slot without any may be left out.
    `certificates` are names of files (`vrata.ingress.served`).
    """

    places: dict[BackendKey, Slot]
    free: Collection[Slot]
    rows: Mapping[Scheme, Mapping[str, Mapping[RowKey, Slot]]]
    servers: Mapping[Slot, Mapping[str, bool]]
    certificates: Set[str] = frozenset()


@dataclass(frozen=True)
class Desired:
    """What they shall have; `unwanted` backends are looked at because no row leads to them any more.

    A Secret with None has no certificate that could be served, or no host that wants it. `strays` are files of Secrets
    that nobody knows any more.
    """

    hosts: Mapping[str, Mapping[RowKey, Route]] = field(default_factory=dict)
    backends: Mapping[BackendKey, tuple[Server, ...]] = field(default_factory=dict)
    unwanted: frozenset[BackendKey] = frozenset()
    certificates: Mapping[SecretKey, Certificate | None] = field(default_factory=dict)
    strays: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reload:
    """Nothing less will do; `reason` is counted, `detail` logged."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Assign:
    """From now on the slot is this backend's."""

    slot: Slot
    backend: BackendKey


@dataclass(frozen=True)
class AddServer:
    slot: Slot
    server: Server


@dataclass(frozen=True)
class ReviveServer:
    """A server that was on its way out and is wanted again."""

    slot: Slot
    server: str


@dataclass(frozen=True)
class PutRow:
    """A row that did not exist (`was` is None), or leads somewhere else from now on."""

    scheme: Scheme
    row: RowKey
    slot: Slot
    was: Slot | None


@dataclass(frozen=True)
class DropRow:
    scheme: Scheme
    row: RowKey


@dataclass(frozen=True)
class RemoveServer:
    slot: Slot
    server: str


@dataclass(frozen=True)
class Release:
    """The slot may be given to another backend: it has no servers, and no row leads to it."""

    slot: Slot


@dataclass(frozen=True)
class AddCertificate:
    """Serve these hosts with it; one that is served already stays until it is dropped."""

    name: str
    certificate: Certificate


@dataclass(frozen=True)
class DropCertificate:
    name: str


Action = (
    AddCertificate
    | DropCertificate
    | Reload
    | Assign
    | AddServer
    | ReviveServer
    | PutRow
    | DropRow
    | RemoveServer
    | Release
)


def plan_pass(observed: Observed, desired: Desired) -> list[Action]:
    """New places first, then the rows that lead there, then what nothing leads to any more."""
    new = sorted(key for key in desired.backends if key not in observed.places)
    if len(new) > len(observed.free):
        detail = f"{len(new)} more backends, {len(observed.free)} are prepared"
        return [Reload("more backends than are prepared", detail)]
    assigned = dict(zip(new, observed.free, strict=False))
    slots = ChainMap(assigned, observed.places)
    here = {slots[key]: servers for key, servers in desired.backends.items()}
    here |= {slots[key]: () for key in desired.unwanted if key in slots}
    certificates = _certificates(observed.certificates, desired.certificates, desired.strays)
    too_long = [one.name for one in certificates if isinstance(one, AddCertificate) and not fits(one.certificate)]
    if too_long:
        return [Reload("a certificate too long to be sent", ", ".join(too_long))]
    return [
        *certificates,
        *(Assign(slot, backend) for backend, slot in assigned.items()),
        *_servers_in(observed.servers, here),
        *_rows(observed.rows, desired.hosts, slots),
        *_servers_out(observed.servers, here),
        *(
            Release(slots[key])
            for key in sorted(desired.unwanted)
            if key in slots and not observed.servers.get(slots[key])
        ),
    ]


def _servers_in(
    observed: Mapping[Slot, Mapping[str, bool]], desired: Mapping[Slot, Iterable[Server]]
) -> Iterable[Action]:
    for slot, servers in desired.items():
        found = observed.get(slot, {})
        for server in servers:
            if server.name not in found:
                yield AddServer(slot, server)
            elif found[server.name]:
                yield ReviveServer(slot, server.name)


def _servers_out(
    observed: Mapping[Slot, Mapping[str, bool]], desired: Mapping[Slot, Iterable[Server]]
) -> Iterable[Action]:
    for slot, servers in desired.items():
        wanted = {server.name for server in servers}
        yield from (RemoveServer(slot, name) for name in observed.get(slot, {}) if name not in wanted)


def _certificates(
    observed: Set[str], desired: Mapping[SecretKey, Certificate | None], strays: frozenset[str]
) -> list[AddCertificate | DropCertificate]:
    """The new one first: HAProxy goes on with the old one until that is dropped."""
    if not desired and not strays:
        return []
    wanted: dict[str, Certificate] = {}
    for secret, whole in desired.items():
        wanted |= file_names(secret, whole) if whole else {}
    looked_at = {secret_digest(secret) for secret in desired}
    old = (name for name in sorted(observed) if secret_of_file(name) in looked_at or name in strays)
    return [
        *(AddCertificate(name, part) for name, part in wanted.items() if name not in observed),
        *(DropCertificate(name) for name in old if name not in wanted),
    ]


def place(route: Route, scheme: Scheme, slots: Mapping[BackendKey, Slot]) -> Slot:
    """Where a row leads."""
    return REDIRECT if route.https_only and scheme is Scheme.HTTP else slots[route.backend]


def _rows(
    observed: Mapping[Scheme, Mapping[str, Mapping[RowKey, Slot]]],
    desired: Mapping[str, Mapping[RowKey, Route]],
    slots: Mapping[BackendKey, Slot],
) -> Iterable[Action]:
    drops: list[Action] = []
    for scheme, hosts in observed.items():
        for host, rows in desired.items():
            found = hosts.get(host, {})
            for row, route in rows.items():
                slot = place(route, scheme, slots)
                if found.get(row) != slot:
                    yield PutRow(scheme, row, slot, found.get(row))
            drops += [DropRow(scheme, row) for row in found if row not in rows]
    yield from drops
