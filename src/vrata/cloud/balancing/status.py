"""The state machine of Octavia's resources as one table, and both statuses computed from what hosts report (C3).

`provisioning_status` moves only along TABLE; `operating_status` follows members' health upwards through pools and
listeners. Pure: the store locks the rows, asks here, and writes what comes out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vrata.base.wire import VrrpState


class Provisioning(StrEnum):
    """Octavia's provisioning_status."""

    ACTIVE = "ACTIVE"
    ERROR = "ERROR"
    PENDING_CREATE = "PENDING_CREATE"
    PENDING_UPDATE = "PENDING_UPDATE"
    PENDING_DELETE = "PENDING_DELETE"
    DELETED = "DELETED"


class Operating(StrEnum):
    """Octavia's operating_status."""

    ONLINE = "ONLINE"
    DRAINING = "DRAINING"
    OFFLINE = "OFFLINE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    NO_MONITOR = "NO_MONITOR"


class Event(StrEnum):
    """What can happen to a load balancer."""

    CHANGE = "change"  # a user changes it or something under it
    DELETE = "delete"
    FAILOVER = "failover"
    APPLIED = "applied"  # the hosts have what is desired
    FAILED = "failed"  # a host could not apply it
    GONE = "gone"  # the hosts have removed it


P = Provisioning
TABLE: dict[tuple[Provisioning, Event], Provisioning] = {
    (P.ACTIVE, Event.CHANGE): P.PENDING_UPDATE,
    (P.ACTIVE, Event.DELETE): P.PENDING_DELETE,
    (P.ACTIVE, Event.FAILOVER): P.PENDING_UPDATE,
    (P.ACTIVE, Event.APPLIED): P.ACTIVE,
    (P.ACTIVE, Event.FAILED): P.ERROR,
    (P.ERROR, Event.DELETE): P.PENDING_DELETE,
    (P.ERROR, Event.FAILOVER): P.PENDING_UPDATE,
    (P.ERROR, Event.APPLIED): P.ACTIVE,
    (P.ERROR, Event.FAILED): P.ERROR,
    (P.PENDING_CREATE, Event.APPLIED): P.ACTIVE,
    (P.PENDING_CREATE, Event.FAILED): P.ERROR,
    (P.PENDING_UPDATE, Event.APPLIED): P.ACTIVE,
    (P.PENDING_UPDATE, Event.FAILED): P.ERROR,
    (P.PENDING_DELETE, Event.GONE): P.DELETED,
}


def after(state: str, event: Event) -> Provisioning | None:
    """The next state, None where the event is refused."""
    return TABLE.get((Provisioning(state), event))


@dataclass(frozen=True)
class Carried:
    """One instance as far as the statuses care."""

    host_alive: bool
    observed_generation: int
    state: str
    error: str | None
    leaving: bool = False


def progress(generation: int, instances: Sequence[Carried]) -> Event | None:
    """What the instances' reports amount to, None while somebody is still working on it.

    Dead hosts and a standby with an error do not hold anything up as long as one live instance has it all: a full disk of
    its host must not keep changes from the active one.
    """
    live = [one for one in instances if one.host_alive and not one.leaving]
    good = [one for one in live if one.error is None]
    if (live and not good) or any(one.state == VrrpState.MASTER for one in live if one not in good):
        return Event.FAILED
    if good and all(one.observed_generation >= generation for one in good):
        return Event.APPLIED
    return None


def is_short(instances: Iterable[Carried]) -> bool:
    """Whether a live instance cannot do its part: it serves on, with reduced redundancy."""
    return any(one.host_alive and not one.leaving and one.error is not None for one in instances)


def child_after(state: str, event: Event) -> Provisioning:
    """Where a child of a load balancer goes when the balancer gets APPLIED or FAILED.

    A child under deletion stays so until it is APPLIED: then it goes.
    """
    if state == P.PENDING_DELETE:
        return P.DELETED if event is Event.APPLIED else P.PENDING_DELETE
    if event is Event.APPLIED:
        return P.ACTIVE
    return P.ERROR if state in {P.PENDING_CREATE, P.PENDING_UPDATE} else Provisioning(state)


def member_status(*, enabled: bool, weight: int, monitored: bool, reported: str | None, before: str) -> Operating:
    """A member's operating status."""
    if not enabled:
        return Operating.OFFLINE
    if reported == Operating.ERROR:
        return Operating.ERROR
    if weight == 0 and reported is not None:
        return Operating.DRAINING
    if not monitored:
        return Operating.NO_MONITOR
    if reported is None or reported not in set(Operating):
        return Operating(before) if before != Operating.NO_MONITOR else Operating.OFFLINE
    return Operating(reported)


def pool_status(*, enabled: bool, members: Iterable[str]) -> Operating:
    """A pool's, from its members': all down is an error, some down degrades."""
    counted = [one for one in members if one != Operating.OFFLINE]
    if not enabled:
        return Operating.OFFLINE
    if counted and all(one == Operating.ERROR for one in counted):
        return Operating.ERROR
    return Operating.DEGRADED if Operating.ERROR in counted else Operating.ONLINE


def balancer_status(*, enabled: bool, reporting: bool, below: Iterable[str]) -> Operating:
    """A load balancer's or a listener's, from what hangs under it; OFFLINE as long as no instance reports."""
    if not enabled or not reporting:
        return Operating.OFFLINE
    found = set(below)
    if Operating.ERROR in found:
        return Operating.ERROR
    return Operating.DEGRADED if Operating.DEGRADED in found else Operating.ONLINE


def reporting(instances: Iterable[Carried]) -> bool:
    """Whether some live instance runs."""
    return any(one.host_alive and one.state != VrrpState.UNKNOWN for one in instances)
