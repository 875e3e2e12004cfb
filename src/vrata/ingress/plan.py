"""Steps from what HAProxy is running to what is to be served: pure.

A pass looks at some hosts and some backends; what else HAProxy has is left alone. After any prefix of the steps every
row leads to a backend that serves what the row's Ingress names.
"""

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field

from vrata.ingress.model import BackendKey, Certificate, Place, Policy, Route, RowKey, Scheme, SecretKey, Server, Slot
from vrata.ingress.places import PATTERNS, Kind, further_slots, kind_of, place, rows_of_policy
from vrata.ingress.rows import prefix_row
from vrata.ingress.served import file_names, fits, secret_digest, secret_of_file
from vrata.ingress.streams import Port

Patterns = tuple[tuple[str, Place], ...]  # of one host, in order


@dataclass(frozen=True)
class Observed:
    """What the running HAProxy has of the hosts and slots that a pass looks at.

    `servers` maps their names to whether they are in maintenance, by slot; a slot without any may be left out.
    `certificates` are names of files (`vrata.ingress.served`), `policies` of rows (`vrata.ingress.places`); `patterns` are
    of every host. `files` are those of authorities, and certificates for pods. `ports` are bound, whether or not they
    lead anywhere. `live` are the kinds of which it takes another slot while it runs.
    """

    places: dict[BackendKey, Slot]
    free: Collection[Slot]
    rows: Mapping[Scheme, Mapping[str, Mapping[RowKey, Place]]]
    servers: Mapping[Slot, Mapping[str, bool]]
    certificates: Set[str] = frozenset()
    policies: Set[str] = frozenset()
    patterns: Mapping[Scheme, Mapping[str, Patterns]] = field(default_factory=dict)
    users: Mapping[SecretKey, str] = field(default_factory=dict)
    files: Set[str] = frozenset()
    authorities: Mapping[str, str] = field(default_factory=dict)
    through: Mapping[str, Slot] = field(default_factory=dict)
    ports: Set[Port] = frozenset()
    streams: Mapping[Port, Slot] = field(default_factory=dict)
    replicas: Set[str] = frozenset()
    proxies: Mapping[str, str] = field(default_factory=dict)
    forbidden: Set[str] = frozenset()
    live: Set[Kind] = frozenset()


@dataclass(frozen=True)
class Desired:
    """What they shall have; `unwanted` backends are looked at because no row leads to them any more.

    A Secret with () has no certificate that could be served, or no host that wants it. `files` are the contents of others
    by name, `strays` files of Secrets that nobody knows any more. `authorities` are digests of Secrets by host, `policies`
    rows by name, `users` the versions of lists of users; None: nobody's any more. `replicas` are addresses of others,
    `proxies` all rows of that map, `forbidden` addresses that no tenant's URL may lead to.
    """

    hosts: Mapping[str, Mapping[RowKey, Route]] = field(default_factory=dict)
    patterns: Mapping[str, tuple[tuple[str, Route], ...]] = field(default_factory=dict)
    policies: Mapping[str, Policy | None] = field(default_factory=dict)
    users: Mapping[SecretKey, str | None] = field(default_factory=dict)
    streams: Mapping[Port, BackendKey] = field(default_factory=dict)
    backends: Mapping[BackendKey, tuple[Server, ...]] = field(default_factory=dict)
    unwanted: frozenset[BackendKey] = frozenset()
    certificates: Mapping[SecretKey, tuple[Certificate, ...]] = field(default_factory=dict)
    files: Mapping[SecretKey, Mapping[str, str]] = field(default_factory=dict)
    authorities: Mapping[str, str | None] = field(default_factory=dict)
    through: Mapping[str, BackendKey | None] = field(default_factory=dict)
    strays: frozenset[str] = frozenset()
    replicas: frozenset[str] = frozenset()
    proxies: Mapping[str, str] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reload:
    """Nothing less will do; `reason` is counted, `detail` logged."""

    reason: str
    detail: str


@dataclass(frozen=True)
class AddSlot:
    """A free slot more."""

    slot: Slot


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
    place: Place
    was: Place | None


@dataclass(frozen=True)
class DropRow:
    scheme: Scheme
    row: RowKey


@dataclass(frozen=True)
class AddPolicy:
    name: str
    policy: Policy


@dataclass(frozen=True)
class DropPolicy:
    name: str


@dataclass(frozen=True)
class PutStream:
    """A port leads there from now on."""

    port: Port
    slot: Slot
    was: Slot | None


@dataclass(frozen=True)
class DropStream:
    port: Port


@dataclass(frozen=True)
class PutThrough:
    """A host's TLS goes there unopened, from the next connection on."""

    host: str
    slot: Slot
    was: Slot | None


@dataclass(frozen=True)
class DropThrough:
    host: str


@dataclass(frozen=True)
class PutUsers:
    """From now on this version of a list of users counts; None: none, so nobody may enter."""

    secret: SecretKey
    version: str | None
    was: str | None


@dataclass(frozen=True)
class ReplacePatterns:
    """All patterns of a scheme in one step, for their order counts."""

    scheme: Scheme
    hosts: Mapping[str, Patterns]


@dataclass(frozen=True)
class ReplaceProxies:
    """All rows of the map in one step: whose PROXY headers are believed, from the next connection on."""

    rows: Mapping[str, str]


@dataclass(frozen=True)
class ReplaceForbidden:
    """All addresses that no tenant's URL may lead to, from the next request on."""

    addresses: frozenset[str]


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


@dataclass(frozen=True)
class AddFile:
    """Authorities, or a certificate for pods."""

    name: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class DropFile:
    name: str


@dataclass(frozen=True)
class PutAuthority:
    """Clients of a host show certificates that this Secret's authority signs, from the next connection on."""

    host: str
    digest: str


@dataclass(frozen=True)
class DropAuthority:
    host: str


Action = (
    AddFile
    | DropFile
    | PutAuthority
    | DropAuthority
    | AddCertificate
    | DropCertificate
    | Reload
    | AddSlot
    | Assign
    | AddServer
    | ReviveServer
    | AddPolicy
    | DropPolicy
    | PutUsers
    | PutStream
    | DropStream
    | PutThrough
    | DropThrough
    | ReplacePatterns
    | ReplaceProxies
    | ReplaceForbidden
    | PutRow
    | DropRow
    | RemoveServer
    | Release
)


def plan_pass(observed: Observed, desired: Desired) -> list[Action]:
    """New places first, then the rows that lead there, then what nothing leads to any more."""
    new_ports = sorted(desired.streams.keys() - observed.ports)
    if new_ports:
        return [Reload("a new port", ", ".join(port.name for port in new_ports))]
    # One that has gone is harmless, and often comes back.
    new_replicas = sorted(desired.replicas - observed.replicas)
    if new_replicas:
        return [Reload("a new replica", ", ".join(new_replicas))]
    assigned: dict[BackendKey, Slot] = {}
    added: list[Slot] = []
    for kind in Kind:
        new = sorted(key for key in desired.backends if key not in observed.places and kind_of(key) is kind)
        free = [slot for slot in observed.free if slot[0] == kind] if new else []
        if len(new) > len(free) and kind in observed.live:
            known = (*observed.places.values(), *observed.free)
            further = further_slots(known, kind, len(new) - len(free))
            added, free = [*added, *further], [*free, *further]
        if len(new) > len(free):
            return [Reload("more backends than are prepared", f"{len(new)} more backends, {len(free)} are prepared")]
        assigned |= zip(new, free, strict=False)
    slots = ChainMap(assigned, observed.places)
    here = {slots[key]: servers for key, servers in desired.backends.items()}
    here |= {slots[key]: () for key in desired.unwanted if key in slots}
    certificates = _certificates(observed.certificates, desired.certificates, desired.strays)
    new_files, old_files = _files(observed.files, desired.files, desired.strays)
    too_long = [one.name for one in certificates if isinstance(one, AddCertificate) and not fits(one.certificate.pem)]
    too_long += [one.name for one in new_files if not fits(one.content)]
    if too_long:
        return [Reload("a certificate too long to be sent", ", ".join(too_long))]
    was = {host: observed.authorities.get(host) for host in desired.authorities}
    moved = {host: digest for host, digest in desired.authorities.items() if digest != was[host]}
    return [
        *([ReplaceForbidden(desired.forbidden)] if desired.forbidden != observed.forbidden else []),
        *([ReplaceProxies(desired.proxies)] if desired.proxies != observed.proxies else []),
        *new_files,
        # Who connects while certificates change is of no authority, old or new.
        *(DropAuthority(host) for host in moved if was[host]),
        *certificates,
        *(PutAuthority(host, digest) for host, digest in moved.items() if digest),
        *(AddSlot(slot) for slot in added),
        *(Assign(slot, backend) for backend, slot in assigned.items()),
        *_servers_in(observed.servers, here),
        *(
            PutUsers(secret, version, observed.users.get(secret))
            for secret, version in desired.users.items()
            if version != observed.users.get(secret)
        ),
        *(AddPolicy(name, text) for name, text in desired.policies.items() if text and name not in observed.policies),
        *_routes(observed, desired, slots),
        *(
            PutStream(port, slots[backend], observed.streams.get(port))
            for port, backend in desired.streams.items()
            if observed.streams.get(port) != slots[backend]
        ),
        *(DropStream(port) for port in observed.streams if port not in desired.streams),
        *_through(observed.through, desired.through, slots),
        *(DropPolicy(name) for name, text in desired.policies.items() if text is None and name in observed.policies),
        *_servers_out(observed.servers, here),
        *(
            Release(slots[key])
            for key in sorted(desired.unwanted)
            if key in slots and not observed.servers.get(slots[key])
        ),
        *old_files,
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


def _through(
    observed: Mapping[str, Slot], desired: Mapping[str, BackendKey | None], slots: Mapping[BackendKey, Slot]
) -> Iterable[Action]:
    for host, backend in desired.items():
        was = observed.get(host)
        if backend and slots[backend] != was:
            yield PutThrough(host, slots[backend], was)
        elif was and not backend:
            yield DropThrough(host)


def _files(
    observed: Set[str], desired: Mapping[SecretKey, Mapping[str, str]], strays: frozenset[str]
) -> tuple[list[AddFile], list[DropFile]]:
    wanted = {name: content for found in desired.values() for name, content in found.items()}
    looked_at = {secret_digest(secret) for secret in desired}
    old = [name for name in sorted(observed) if secret_of_file(name) in looked_at or name in strays]
    return (
        [AddFile(name, content) for name, content in wanted.items() if name not in observed],
        [DropFile(name) for name in old if name not in wanted],
    )


def _certificates(
    observed: Set[str], desired: Mapping[SecretKey, tuple[Certificate, ...]], strays: frozenset[str]
) -> list[AddCertificate | DropCertificate]:
    """The new one first: HAProxy goes on with the old one until that is dropped."""
    if not desired and not strays:
        return []
    wanted: dict[str, Certificate] = {}
    for secret, wholes in desired.items():
        wanted |= file_names(secret, wholes)
    looked_at = {secret_digest(secret) for secret in desired}
    old = (name for name in sorted(observed) if secret_of_file(name) in looked_at or name in strays)
    return [
        *(AddCertificate(name, part) for name, part in wanted.items() if name not in observed),
        *(DropCertificate(name) for name in old if name not in wanted),
    ]


def policy_rows(policies: Iterable[Policy]) -> dict[str, Policy]:
    """Policies by the names of their rows."""
    return {name: text for policy in policies for name, text in rows_of_policy(policy).items()}


def patterns_of(
    hosts: Mapping[str, tuple[tuple[str, Route], ...]], scheme: Scheme, slots: Mapping[BackendKey, Slot]
) -> dict[str, Patterns]:
    """The rows of hosts whose paths are patterns."""
    return {
        host: tuple((key, place(route, scheme, slots)) for key, route in rows) for host, rows in hosts.items() if rows
    }


def rows_of(
    hosts: Mapping[str, Mapping[RowKey, Route]],
    patterned: Iterable[str],
    scheme: Scheme,
    slots: Mapping[BackendKey, Slot],
) -> dict[str, dict[RowKey, Place]]:
    """The rows of hosts; one with patterns has a single row, which says so."""
    found = {host: {row: place(route, scheme, slots) for row, route in rows.items()} for host, rows in hosts.items()}
    return found | {host: {prefix_row(host, "/"): PATTERNS} for host in patterned}


def _routes(observed: Observed, desired: Desired, slots: Mapping[BackendKey, Slot]) -> Iterable[Action]:
    """New patterns come before the rows that send requests to them, old ones go after those."""
    drops: list[Action] = []
    for scheme, rows in observed.rows.items():
        old = dict(observed.patterns.get(scheme, {}))
        new = patterns_of(desired.patterns, scheme, slots)
        wanted = {host: old[host] for host in old if host not in desired.patterns} | new
        kept = old | new
        if kept != old:
            yield ReplacePatterns(scheme, kept)
        for host, asked in rows_of(desired.hosts, new, scheme, slots).items():
            found, root = rows.get(host, {}), prefix_row(host, "/")
            stale = [row for row in found if row not in asked]
            # What a pass that stopped has left behind patterns is seen by nobody, and must not be when they go.
            hidden = found.get(root) == PATTERNS
            yield from (DropRow(scheme, row) for row in stale if hidden and row != root)
            for row, where in sorted(asked.items(), key=lambda one: one[0] == root):
                if found.get(row) != where:
                    yield PutRow(scheme, row, where, found.get(row))
            drops += [DropRow(scheme, row) for row in stale if not hidden or row == root]
        if wanted != kept:
            drops.append(ReplacePatterns(scheme, wanted))
    yield from drops
