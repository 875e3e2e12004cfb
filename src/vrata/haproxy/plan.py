"""Decides how a running HAProxy gets from one configuration to another: not at all, at run time, or by a reload.

HAProxy management guide 2.6, section 9.3: servers can be added (`add server`), emptied (`set weight`) and removed
(`del server`) while it runs, and certificates replaced under their names (`set ssl cert`); proxies, binds, rules and
time-outs can not. Does no I/O.
"""

from dataclasses import dataclass, replace

from vrata.haproxy.model import Backend, Config, FileKind, Server, TlsFile


@dataclass(frozen=True)
class AddServer:
    """A server that the running process lacks."""

    backend: Backend
    server: Server
    tls_dir: str


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


@dataclass(frozen=True)
class SetAddress:
    """The same server somewhere else."""

    backend: str
    server: str
    address: str
    port: int


@dataclass(frozen=True)
class ReplaceFile:
    """Another content of a certificate, an authority or a revocation list that is in use."""

    path: str
    file: TlsFile


Change = AddServer | RemoveServer | SetWeight | SetAddress | ReplaceFile

# What one command may carry to HAProxy 2.6 (`vrata.haproxy.runtime`).
MOST_BYTES = 14_000


@dataclass(frozen=True)
class Unchanged:
    """The process already runs this configuration."""


@dataclass(frozen=True)
class AtRunTime:
    """Changes that the runtime socket can make, in order."""

    changes: tuple[Change, ...]
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
    if _frame(running) != _frame(desired):
        return Reload(_what_differs(running, desired))
    replaced = _replaced_files(running, desired)
    if isinstance(replaced, Reload):
        return replaced
    changed: list[Change] = []
    removed: list[Change] = []
    for before, after in zip(running.backends, desired.backends, strict=True):
        old, new = {s.name: s for s in before.servers}, {s.name: s for s in after.servers}
        for name, server in new.items():
            if name not in old:
                changed.append(AddServer(after, server, desired.tls_dir))
            elif old[name] != server:
                moves = _moves(after, old[name], server)
                if not moves:
                    return Reload(f"check or backup of member {name} changed")
                changed += moves
        removed += [RemoveServer(after.name, name) for name in old if name not in new]
    changes = (*replaced, *changed, *removed)
    if not changes:
        return Reload("the order of members changed")
    members, files = len(changed) + len(removed), len(replaced)
    return AtRunTime(changes, f"only members ({members}) and certificates ({files}) changed")


def _moves(backend: Backend, old: Server, new: Server) -> list[Change]:
    """Another address, port or weight; nothing if more than these differs."""
    if replace(old, address=new.address, port=new.port, weight=new.weight) != new:
        return []
    changes: list[Change] = []
    if (old.address, old.port) != (new.address, new.port):
        changes.append(SetAddress(backend.name, new.name, new.address, new.port))
    if old.weight != new.weight:
        changes.append(SetWeight(backend.name, new.name, new.weight))
    return changes


def _replaced_files(running: Config, desired: Config) -> list[Change] | Reload:
    changes: list[Change] = []
    for before, after in zip(running.files, desired.files, strict=True):
        if before == after:
            continue
        if after.kind is FileKind.LIST:
            return Reload(f"{after.label}: certificates came or went")
        if len(after.content) > MOST_BYTES:
            return Reload(f"{after.label} is too big for the runtime socket")
        changes.append(ReplaceFile(f"{desired.tls_dir}/{after.name}", after))
    return changes


def _frame(config: Config) -> Config:
    """All that only a reload can change."""
    backends = tuple(replace(backend, servers=()) for backend in config.backends)
    return replace(config, backends=backends, files=tuple(replace(file, content="") for file in config.files))


def _what_differs(running: Config, desired: Config) -> str:
    if running.frontends != desired.frontends:
        return "listeners or their addresses changed"
    if len(running.backends) != len(desired.backends):
        return "pools came or went"
    if (running.threads, running.max_connections) != (desired.threads, desired.max_connections):
        return "threads or the connection ceiling changed"
    if running.peers != desired.peers:
        return "the other instance changed"
    return "settings of a pool or its health monitor changed"
