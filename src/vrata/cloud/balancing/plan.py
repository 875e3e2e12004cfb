"""Where instances go: which hosts carry a pair, and with which priority. Pure; the laws are in its tests.

Two instances of a pair never share a host; a host must be alive and plugged into the networks the owner needs; of those
the least loaded is taken. With too few hosts the pair is short and is completed when a host appears. An instance that
stands on a live host is never moved; one on a dead host is moved only when asked to (failover).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The higher one becomes active on a fresh pair. Both are high: a standby that is told of an end, or has counted three
# adverts, waits (256 - priority) / 256 of another one before it takes over (RFC 9568, Skew_Time).
PRIORITIES = (254, 250)
SINGLE = "SINGLE"


@dataclass(frozen=True)
class Host:
    """A host as placement sees it; `load` counts the instances it carries."""

    name: str
    alive: bool
    physical_networks: frozenset[str]
    load: int


@dataclass(frozen=True)
class Placed:
    """An instance that exists; a `leaving` one is being taken down and counts only as occupying its host."""

    id: str
    host: str
    priority: int
    leaving: bool = False


@dataclass(frozen=True)
class Add:
    """Put a new instance on this host."""

    host: str
    priority: int
    reason: str


@dataclass(frozen=True)
class Remove:
    """Take this instance away."""

    id: str
    reason: str


def wanted_instances(topology: str, pair: int) -> int:
    """How many instances a topology has."""
    return 1 if topology == SINGLE else pair


def plan_instances(
    owner_id: str,
    placed: Sequence[Placed],
    hosts: Iterable[Host],
    needs: frozenset[str],
    *,
    wanted: int,
    replace_dead: bool = False,
) -> tuple[Add | Remove, ...]:
    """Ordered actions that bring the owner's instances to `wanted`, as far as the hosts allow."""
    known = {host.name: host for host in hosts}
    staying = [one for one in placed if not one.leaving]
    taken = {one.host for one in placed}
    free = sorted(
        (h for h in known.values() if h.alive and needs <= h.physical_networks and h.name not in taken),
        key=lambda h: (h.load, _shuffle(owner_id, h.name)),
    )
    actions: list[Add | Remove] = []
    if replace_dead:
        dead = [one for one in staying if not known[one.host].alive]
        for one in dead[: len(free)]:
            actions.append(Remove(one.id, f"host {one.host} is dead and another one is free"))
            staying.remove(one)
    for host in free[: max(0, wanted - len(staying))]:
        priority = next(p for p in PRIORITIES if p not in {one.priority for one in staying})
        staying.append(Placed("", host.name, priority))
        actions.append(Add(host.name, priority, f"{host.name} is alive and carries {host.load} instances"))
    return tuple(actions)


def _shuffle(owner_id: str, host: str) -> bytes:
    """Breaks ties between equal hosts differently for each owner, so that active instances spread."""
    return hashlib.blake2s(f"{owner_id}/{host}".encode(), digest_size=8).digest()


def router_id(owner_id: str) -> int:
    """VRRP's virtual router id for an owner: 1 to 254, stable."""
    return int.from_bytes(hashlib.blake2s(owner_id.encode(), digest_size=4).digest(), "big") % 254 + 1
