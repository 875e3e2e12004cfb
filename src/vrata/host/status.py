"""From HAProxy's statistics and keepalived's signs to what the cloud is told. One table a question; does no I/O.

HAProxy management guide 2.6, section 9.1 (columns of `show stat`); Octavia's operating statuses.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from vrata.base.wire import DesiredInstance, ListenerStats, VrrpState
from vrata.host.render import backend_name, listener_pools

# First word of HAProxy's `status` column -> operating status of the member.
MEMBER_STATUS = {
    "UP": "ONLINE",
    "DOWN": "ERROR",
    "NOLB": "DRAINING",
    "DRAIN": "DRAINING",
    "MAINT": "OFFLINE",
    "no": "NO_MONITOR",  # "no check"
}


def member_statuses(desired: DesiredInstance, rows: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Operating status of every member. One that HAProxy does not know (no listener uses its pool) is OFFLINE."""
    seen = {(row.get("pxname", ""), row.get("svname", "")): row for row in rows}
    statuses = {}
    for pool in desired.pools:
        users = [listener.id for listener in desired.listeners if pool.id in listener_pools(listener)]
        for member in pool.members:
            found = [seen[key] for user in users if (key := (backend_name(pool.id, user), member.id)) in seen]
            if not found:
                statuses[member.id] = "OFFLINE" if pool.healthmonitor else "NO_MONITOR"
                continue
            status = MEMBER_STATUS.get(found[0].get("status", "").split(" ")[0], "ERROR")
            if status == "NO_MONITOR" and pool.healthmonitor and pool.healthmonitor.type == "PING":
                # HAProxy does not count an agent as a check.
                status = "ONLINE"
            statuses[member.id] = "DRAINING" if status == "ONLINE" and member.weight == 0 else status
    return statuses


def listener_stats(
    desired: DesiredInstance, rows: Iterable[Mapping[str, str]], older: Iterable[Mapping[str, str]] = ()
) -> dict[str, ListenerStats]:
    """Counters of every listener that HAProxy knows; connections that `older` workers still have are counted, too."""
    left: Counter[str] = Counter()
    for past in older:
        if past.get("svname") == "FRONTEND":
            left[past["pxname"]] += int(past.get("scur") or 0)
    frontends = {row["pxname"]: row for row in rows if row.get("svname") == "FRONTEND"}
    return {
        listener.id: ListenerStats(
            active_connections=int(row.get("scur") or 0) + left[listener.id],
            bytes_in=int(row.get("bin") or 0),
            bytes_out=int(row.get("bout") or 0),
            request_errors=int(row.get("ereq") or 0),
            total_connections=int(row.get("stot") or 0),
        )
        for listener in desired.listeners
        if (row := frontends.get(listener.id))
    }


# From one VRRP state to the next, and why: what the agent logs, and what docs/failover.md draws.
_S = VrrpState
TRANSITIONS: dict[tuple[VrrpState, VrrpState], str] = {
    (_S.UNKNOWN, _S.BACKUP): "keepalived starts",
    (_S.UNKNOWN, _S.FAULT): "HAProxy does not serve",
    (_S.BACKUP, _S.MASTER): "three adverts missed, or the peer says good-bye",
    (_S.MASTER, _S.BACKUP): "a higher priority is heard",
    (_S.MASTER, _S.FAULT): "HAProxy ends or hangs, the link is down, or it hands over",
    (_S.BACKUP, _S.FAULT): "HAProxy ends or hangs, or the link is down",
    (_S.FAULT, _S.BACKUP): "HAProxy serves again, or it has handed over",
    (_S.MASTER, _S.UNKNOWN): "keepalived ends or hangs: the agent takes the addresses off",
    (_S.BACKUP, _S.UNKNOWN): "keepalived ends or hangs",
    (_S.FAULT, _S.UNKNOWN): "keepalived ends or hangs",
}


def reason_of(before: VrrpState, after: VrrpState) -> str:
    """Why an instance may have gone from one state to the other."""
    return TRANSITIONS.get((before, after), "not foreseen")


def adopted_state(*, keepalived_runs: bool, holds_virtual: bool, marked_unfit: bool) -> VrrpState:
    """The VRRP state of an instance whose notifications nobody heard, judged by what it holds."""
    if not keepalived_runs:
        return VrrpState.UNKNOWN
    if holds_virtual:
        return VrrpState.MASTER
    return VrrpState.FAULT if marked_unfit else VrrpState.BACKUP
