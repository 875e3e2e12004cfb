"""Decides how a running HAProxy gets from one configuration to another: not at all, at run time, or by a reload.

HAProxy management guide 2.6, section 9.3: servers can be added (`add server`), emptied (`set weight`) and removed
(`del server`) while it runs; proxies, binds, rules and time-outs can not. Does no I/O.
"""

from dataclasses import dataclass, replace

from vrata.haproxy.model import Backend, Config, Server


@dataclass(frozen=True)
class AddServer:
    """A server that the running process lacks."""

    backend: Backend
    server: Server


@dataclass(frozen=True)
class RemoveServer:
    """A server that the running process has and should not."""

    backend: str
    server: str


@dataclass(frozen=True)
class SetWeight:
    """Another share of the traffic; 0 drains."""

    backend: str
    server: str
    weight: int


ServerChange = AddServer | RemoveServer | SetWeight


@dataclass(frozen=True)
class Unchanged:
    """The process already runs this configuration."""


@dataclass(frozen=True)
class AtRunTime:
    """Changes that the runtime socket can make, in order."""

    changes: tuple[ServerChange, ...]
    reason: str


@dataclass(frozen=True)
class Reload:
    """A new worker takes over the listening sockets; the old one ends with its last connection."""

    reason: str


Transition = Unchanged | AtRunTime | Reload


def plan_transition(running: Config | None, desired: Config) -> Transition:
    """The cheapest safe way from `running` (None: not known) to `desired`.

    Servers are added before others are removed, so that a pool is never emptier than both its old and new self.
    """
    if running is None:
        return Reload("what runs is not known")
    if running == desired:
        return Unchanged()
    if _without_servers(running) != _without_servers(desired):
        return Reload(_what_differs(running, desired))
    added: list[ServerChange] = []
    removed: list[ServerChange] = []
    for before, after in zip(running.backends, desired.backends, strict=True):
        old, new = {s.name: s for s in before.servers}, {s.name: s for s in after.servers}
        for name, server in new.items():
            if name not in old:
                added.append(AddServer(after, server))
            elif old[name] != server:
                if replace(old[name], weight=server.weight) != server:
                    return Reload(f"address, port, check or backup of member {name} changed")
                added.append(SetWeight(after.name, name, server.weight))
        removed += [RemoveServer(after.name, name) for name in old if name not in new]
    changes = (*added, *removed)
    if not changes:
        return Reload("the order of members changed")
    return AtRunTime(changes, f"only members changed ({len(changes)})")


def _without_servers(config: Config) -> Config:
    return replace(config, backends=tuple(replace(backend, servers=()) for backend in config.backends))


def _what_differs(running: Config, desired: Config) -> str:
    if running.frontends != desired.frontends:
        return "listeners or their addresses changed"
    if len(running.backends) != len(desired.backends):
        return "pools came or went"
    if running.peers != desired.peers:
        return "the other instance changed"
    return "settings of a pool or its health monitor changed"
