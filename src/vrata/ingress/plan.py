"""How a running HAProxy gets from what it has to a new routing: pure.

Servers and maps change live; only the set of backends cannot on this version, and then one hitless reload carries
everything. New servers come before the maps that lead to them, old ones go after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vrata.ingress.model import Routing, Server
from vrata.ingress.render import render_maps


@dataclass(frozen=True)
class Observed:
    """What the running HAProxy has. `servers` maps (backend, server) to whether it is in maintenance."""

    backends: frozenset[str]
    servers: Mapping[tuple[str, str], bool]
    maps: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Reload:
    reason: str


@dataclass(frozen=True)
class AddServer:
    backend: str
    server: Server


@dataclass(frozen=True)
class ReviveServer:
    """A server that was on its way out and is wanted again."""

    backend: str
    server: str


@dataclass(frozen=True)
class ReplaceMap:
    name: str
    rows: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class RemoveServer:
    backend: str
    server: str


Action = Reload | AddServer | ReviveServer | ReplaceMap | RemoveServer


def plan_routing(observed: Observed | None, desired: Routing) -> list[Action]:
    """Steps to the desired routing; after any prefix every route leads to a backend that exists."""
    if observed is None:
        return [Reload("HAProxy starts")]
    missing = set(desired.backends) - observed.backends
    if missing:
        return [Reload(f"{len(missing)} new backends, which HAProxy before 3.4 cannot add live")]
    wanted = {
        (backend.name, server.name): server for backend in desired.backends.values() for server in backend.servers
    }
    adds: list[Action] = []
    for (backend, name), server in wanted.items():
        maintenance = observed.servers.get((backend, name))
        if maintenance is None:
            adds.append(AddServer(backend, server))
        elif maintenance:
            adds.append(ReviveServer(backend, name))
    maps: list[Action] = [
        ReplaceMap(name, rows) for name, rows in render_maps(desired).items() if observed.maps.get(name) != rows
    ]
    gone: list[Action] = [
        RemoveServer(backend, name) for backend, name in observed.servers if (backend, name) not in wanted
    ]
    return [*adds, *maps, *gone]
