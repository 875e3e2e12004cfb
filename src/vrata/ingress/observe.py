"""Reads from a running HAProxy what it has: slots and their backends, routes, servers (management guide 2.6, section 9.3).

Everything once after a start; of later passes only the servers of the slots that they touch: nobody else writes to this
HAProxy, so rows and owners are what it confirmed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vrata.haproxy.runtime import RuntimeClient, parse_statistics
from vrata.ingress.model import BackendKey, Place, RowKey, Scheme, SecretKey, Slot
from vrata.ingress.places import LIVE, Kind, is_slot
from vrata.ingress.plan import Patterns
from vrata.ingress.render import (
    AUTHORITIES,
    FORBIDDEN,
    HOST_COUNTERS,
    HOSTS,
    OWNERS,
    POLICIES,
    PROXIES,
    STREAMS,
    THROUGH,
    USERS,
    map_path,
    patterns_map,
    routes_of,
)
from vrata.ingress.rows import host_of, read_patterns
from vrata.ingress.served import DEFAULT, LIST, is_trust
from vrata.ingress.streams import Port

Servers = dict[Slot, dict[str, bool]]
_SLOTS_A_QUESTION = 200
_REMOTE = re.compile(r"id=(\S+)\(remote,")


@dataclass
class Running:
    """Slots and routes as one HAProxy process has them."""

    owners: dict[Slot, BackendKey] = field(default_factory=dict)
    places: dict[BackendKey, Slot] = field(default_factory=dict)  # the same the other way round
    free: dict[Slot, None] = field(default_factory=dict)  # in order
    rows: dict[Scheme, dict[str, dict[RowKey, Place]]] = field(default_factory=dict)
    patterns: dict[Scheme, dict[str, Patterns]] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)  # names
    users: dict[SecretKey, str] = field(default_factory=dict)  # versions
    ports: set[Port] = field(default_factory=set)  # bound
    streams: dict[Port, Slot] = field(default_factory=dict)
    certificates: set[str] = field(default_factory=set)  # names of files
    files: set[str] = field(default_factory=set)  # names of all others
    authorities: dict[str, str] = field(default_factory=dict)  # digests of Secrets by host
    through: dict[str, Slot] = field(default_factory=dict)  # where TLS goes unopened, by host
    replicas: set[str] = field(default_factory=set)  # addresses of others
    proxies: dict[str, str] = field(default_factory=dict)  # networks, and whether they are the balancer's
    forbidden: frozenset[str] = frozenset()  # addresses that no tenant's URL may lead to
    live: frozenset[Kind] = frozenset()  # of which slots can be added

    def add(self, slot: Slot) -> None:
        """There is a place more."""
        self.free[slot] = None

    def assign(self, slot: Slot, backend: BackendKey) -> None:
        """A place is a backend's."""
        self.owners[slot], self.places[backend] = backend, slot
        self.free.pop(slot, None)

    def release(self, slot: Slot) -> None:
        """A place is nobody's."""
        del self.places[self.owners.pop(slot)]
        self.free[slot] = None

    def put_row(self, scheme: Scheme, row: RowKey, place: Place) -> None:
        """It has this row."""
        self.rows[scheme].setdefault(host_of(row), {})[row] = place

    def drop_row(self, scheme: Scheme, row: RowKey) -> None:
        """It has this row no more."""
        rows = self.rows[scheme][host_of(row)]
        del rows[row]
        if not rows:
            del self.rows[scheme][host_of(row)]


async def observe_running(
    runtime: RuntimeClient, directory: str, tls_dir: str, *, passthrough: bool = False
) -> Running:
    """All slots, routes and certificates; VrataError if nobody answers. `passthrough`: there is a map for that."""
    slots = [Slot(line) for line in (await runtime.ask("show backend")).splitlines() if is_slot(line)]
    live = LIVE if "add backend " in await runtime.ask("help") else frozenset[Kind]()
    running = Running(free=dict.fromkeys(slots), live=live)
    for slot, backend in (await _map(runtime, map_path(directory, OWNERS))).items():
        running.assign(Slot(slot), BackendKey(backend))
    for scheme in Scheme:
        running.rows[scheme] = {}
        for row, place in (await _map(runtime, map_path(directory, routes_of(scheme)))).items():
            running.put_row(scheme, RowKey(row), Place(place))
        running.patterns[scheme] = read_patterns(await _map(runtime, map_path(directory, patterns_map(scheme))))
    frontends = (row["pxname"] for row in parse_statistics(await runtime.ask("show stat -1 1 -1")))
    running.ports = {port for port in map(Port.of_name, frontends) if port}
    for name, slot in (await _map(runtime, map_path(directory, STREAMS))).items():
        port = Port.of_name(name)
        if port:
            running.streams[port] = Slot(slot)
    users = await _map(runtime, map_path(directory, USERS))
    running.users = {SecretKey(secret): version for secret, version in users.items()}
    running.policies = set(await _map(runtime, map_path(directory, POLICIES)))
    for line in (await runtime.ask(f"show ssl crt-list {tls_dir}/{LIST}")).splitlines():
        name = line.partition(" ")[0].removeprefix(f"{tls_dir}/")
        if line.startswith("/") and name != DEFAULT:
            running.certificates.add(name)
    for kind in ("ca-file", "cert"):
        for line in (await runtime.ask(f"show ssl {kind}")).splitlines():
            name = line.partition(" ")[0].removeprefix(f"{tls_dir}/")
            running.files |= {name} if is_trust(name) else set()
    through = await _map(runtime, map_path(directory, THROUGH)) if passthrough else {}
    running.through = {host: Slot(slot) for host, slot in through.items()}
    running.authorities = dict(await _map(runtime, map_path(directory, AUTHORITIES)))
    running.proxies = dict(await _map(runtime, map_path(directory, PROXIES)))
    running.forbidden = frozenset(await _map(runtime, map_path(directory, FORBIDDEN)))
    running.replicas = set(_REMOTE.findall(await runtime.ask("show peers")))
    return running


async def observe_servers(runtime: RuntimeClient, slots: Iterable[Slot] | None = None) -> Servers:
    """Name → whether in maintenance, of these slots, or of all."""
    if slots is None:
        return _parse_servers(await runtime.ask("show servers state"))
    found: Servers = {}
    asked = [f"show servers state {slot}" for slot in slots]
    for start in range(0, len(asked), _SLOTS_A_QUESTION):
        found |= _parse_servers(await runtime.ask(";".join(asked[start : start + _SLOTS_A_QUESTION])))
    return found


async def observe_hosts(runtime: RuntimeClient) -> dict[str, dict[str, int]]:
    """Counters by host, a line each: `0x…: key=shop.example use=0 exp=86399 http_req_cnt=3 …`."""
    found = {}
    for line in (await runtime.ask(f"show table {HOSTS}")).splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "key" in words:
            found[words["key"]] = {name: int(words[name]) for name in HOST_COUNTERS}
    return found


def _parse_servers(text: str) -> Servers:
    found: Servers = {}
    for line in text.splitlines():
        row = line.split(" ", 7)
        if len(row) > 6 and is_slot(row[1]):
            found.setdefault(Slot(row[1]), {})[row[3]] = row[6] != "0"  # srv_admin_state: 0 is in service
    return found


async def _map(runtime: RuntimeClient, path: str) -> Mapping[str, str]:
    entries = {}
    for line in (await runtime.ask(f"show map {path}")).splitlines():
        row = line.split(" ", 2)  # an address, the key, the value
        if len(row) == 3 and row[0].startswith("0x"):  # else a sentence: this configuration has no such map
            entries[row[1]] = row[2]
    return entries
