"""Where instances go: which hosts carry a pair, with which priority, and how one takes another's place. Pure.

Two instances of a pair never share a host; a host must be alive, not drained, and plugged into the networks the owner
needs; of those the least loaded is taken. With too few hosts the pair is short and is completed when a host appears.

**A dead host.** Its instances are built anew elsewhere, with two exceptions. If a live peer reports BACKUP, it hears the
other's adverts: what is dead is the way to its agent, and a third instance would only fight with it. And if more than
half of all hosts are silent, a site or a network is down and not a machine (the breaker).

**On purpose.** Instances that an administrator wants replaced, or whose host is drained, move one at a time, the standby
first; clients that it still has, from a time when it was active, are sent to the active one. That one hands over to a peer
that has everything, and goes when its connections have ended or their time is over. What a killed cloud leaves is taken up
where it was: every decision is made from what is there.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vrata.base.wire import VrrpState

# The higher one becomes active on a fresh pair. Both are high: a standby that is told of an end, or has counted three
# adverts, waits (256 - priority) / 256 of another one before it takes over (RFC 9568, Skew_Time). Three, because a
# single instance gets its successor before it goes.
PRIORITIES = (254, 250, 246)
SINGLE = "SINGLE"


@dataclass(frozen=True)
class Host:
    """A host as placement sees it; `load` counts the instances it carries."""

    name: str
    alive: bool
    physical_networks: frozenset[str]
    load: int
    drained: bool = False


@dataclass(frozen=True)
class Placed:
    """An instance that exists; a `leaving` one is being taken down and counts only as occupying its host."""

    id: str
    host: str
    priority: int
    leaving: bool = False
    state: str = VrrpState.BACKUP  # as it was reported last
    ready: bool = True  # it has everything that is desired
    asked: bool = False  # another one shall take its place
    told: bool = False  # it has been told to hand over, a moment ago
    idle: bool = True  # no connection is left on it, or the time to end them is over
    connected: bool = False  # it has connections; of a standby: those of the time when it was active
    sent_away: bool = False  # its clients have been asked to connect anew

    @property
    def active(self) -> bool:
        """Whether it holds the addresses."""
        return self.state == VrrpState.MASTER


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


@dataclass(frozen=True)
class Yield:
    """Tell this instance to hand over to its peer: the addresses, if it has them, and its clients."""

    id: str
    reason: str


@dataclass(frozen=True)
class Keep:
    """Nothing can take this instance's place: it stays."""

    id: str
    reason: str


Action = Add | Remove | Yield | Keep


def wanted_instances(topology: str, pair: int) -> int:
    """How many instances a topology has."""
    return 1 if topology == SINGLE else pair


def plan_instances(
    owner_id: str, placed: Sequence[Placed], hosts: Iterable[Host], needs: frozenset[str], *, wanted: int
) -> tuple[Action, ...]:
    """Ordered actions that bring the owner's instances nearer to `wanted` good ones, as far as the hosts allow."""
    known = {host.name: host for host in hosts}
    staying = [one for one in placed if not one.leaving]
    taken = {one.host for one in placed}
    free = sorted(
        (h for h in known.values() if _usable(h) and needs <= h.physical_networks and h.name not in taken),
        key=lambda h: (h.load, _shuffle(owner_id, h.name)),
    )
    actions: list[Action] = list(_rebuild(staying, known, len(free)))
    if not actions:
        coming = any(
            one.leaving and _usable(known[one.host]) for one in placed
        )  # a place that will be free in a moment
        actions += _move(staying, known, wanted, room=bool(free) or coming)
    gone = {action.id for action in actions if isinstance(action, Remove)}
    staying = [one for one in staying if one.id not in gone]
    lonely = wanted == 1 and any(one.active and _unwanted(one, known) for one in staying)
    for host in free[: max(0, wanted + lonely - len(staying))]:
        priority = next(p for p in PRIORITIES if p not in {one.priority for one in staying})
        staying.append(Placed("", host.name, priority))
        actions.append(Add(host.name, priority, f"{host.name} is alive and has {host.load} instances"))
    return tuple(actions)


def breaker_open(hosts: Iterable[Host]) -> bool:
    """Whether so many hosts are silent that nothing is rebuilt until some return or are forgotten."""
    alive = [host.alive for host in hosts]
    return 2 * sum(alive) < len(alive)


def _usable(host: Host) -> bool:
    return host.alive and not host.drained


def _unwanted(one: Placed, known: Mapping[str, Host]) -> bool:
    return one.asked or known[one.host].drained


def _rebuild(staying: Sequence[Placed], known: Mapping[str, Host], room: int) -> Iterable[Action]:
    dead = [one for one in staying if not known[one.host].alive]
    heard = any(one.state == VrrpState.BACKUP for one in staying if known[one.host].alive)
    lost = [one for one in dead if one.asked or not heard]
    if breaker_open(known.values()):
        return
    for one in lost[:room]:
        yield Remove(one.id, f"host {one.host} is dead and another one is free")
    for one in lost[room:]:
        if one.asked:
            yield Keep(one.id, f"host {one.host} is dead and no other one is free")


def _move(staying: Sequence[Placed], known: Mapping[str, Host], wanted: int, *, room: bool) -> Iterable[Action]:
    """At most one step, so that never more than one of a pair is away."""
    live = [one for one in staying if known[one.host].alive]
    unwanted = sorted((one for one in live if _unwanted(one, known)), key=lambda one: one.active)
    if not unwanted and len(staying) > wanted:
        yield from (Remove(one.id, "one more than wanted") for one in live if not one.active and one.idle)
    for one in unwanted:
        others = [other for other in live if other is not one]
        # In its own place, if need be: the host is good, only the instance is not wanted any more.
        somewhere = room or (one.asked and not known[one.host].drained)
        if one.active:
            peers = [other for other in others if _usable(known[other.host])]
            heirs = [other for other in peers if other.ready and other.state == VrrpState.BACKUP]
            if heirs and not one.told:
                yield Yield(one.id, f"{heirs[0].host} is ready to take over")
            elif not peers and not room and one.asked:
                if wanted == 1:
                    yield Remove(one.id, "no other host is free: it is rebuilt where it is")
                else:
                    yield Keep(one.id, "no other host is free")
            return
        if not somewhere:
            if one.asked:
                yield Keep(one.id, "no other host is free")
            continue
        if one.connected and not one.sent_away:
            yield Yield(one.id, f"the clients of the standby on {one.host} must connect to the active one")
        elif one.idle and any(other.active and other.ready for other in others):
            yield Remove(one.id, f"another one takes the place of the standby on {one.host}")
        return


def _shuffle(owner_id: str, host: str) -> bytes:
    """Breaks ties between equal hosts differently for each owner, so that active instances spread."""
    return hashlib.blake2s(f"{owner_id}/{host}".encode(), digest_size=8).digest()


def router_id(owner_id: str) -> int:
    """VRRP's virtual router id for an owner: 1 to 254, stable."""
    return int.from_bytes(hashlib.blake2s(owner_id.encode(), digest_size=4).digest(), "big") % 254 + 1
