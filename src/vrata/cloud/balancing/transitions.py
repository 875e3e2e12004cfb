"""What happened to instances and hosts: changes of VRRP state as hosts report them, and what the cloud sees itself.

The newest `KEPT` stay, for administrators to look at; metrics count each one in the process that wrote it down.
"""

from datetime import UTC

import sqlalchemy as sa

from vrata.base.wire import Cause, HostReport, InstanceReport, Transition, VrrpState
from vrata.cloud.balancing import tables as t
from vrata.cloud.store import Row, Tx

KEPT = 1000
HANDOVER = "handover"  # a good-bye that was asked for
FAILOVERS = (Cause.SILENCE.value, Cause.GOODBYE.value, HANDOVER)  # a first election is none
# Besides VRRP's states: of an instance until its host has built it, when it is built, and when it is found missing;
PLACED, BUILT, GONE = "PLACED", "BUILT", "GONE"
ALIVE, SILENT = "ALIVE", "SILENT"  # and of a host.
_LATEST = (t.transitions.c.at.desc(), t.transitions.c.id.desc())  # one that was told late comes where it belongs


def take_in(tx: Tx, host: str, report: HostReport) -> None:
    """Write down what a report tells of, once, however often it is sent."""
    for one in report.instances:
        if not one.transitions:
            continue
        row = tx.get(t.instances, one.id)
        if row is not None and row["host"] == host:
            known = set(tx.column(sa.select(t.transitions.c.at).where(t.transitions.c.instance_id == one.id)))
            _record(tx, [_told(tx, row, change) for change in one.transitions if change.at not in known])


def _told(tx: Tx, row: Row, change: Transition) -> Row:
    cause = change.cause.value if change.cause else None
    if cause == Cause.GOODBYE and _asked_to_yield(tx, row):
        cause = HANDOVER
    return _of_instance(row, change.at, change.before, change.after) | {
        "cause": cause, "lasted_s": change.lasted_s, "silent_s": change.silent_s,
    }  # fmt: skip


def _asked_to_yield(tx: Tx, row: Row) -> bool:
    c = t.instances.c
    query = sa.select(c.id).where(c.owner_id == row["owner_id"], c.id != row["id"], c.yield_at.is_not(None))
    return tx.value(query) is not None


def built(tx: Tx, row: Row, one: InstanceReport, moment: float) -> None:
    """An instance as it was may have been built by now: how long after it was placed, or found missing?"""
    if row["observed_generation"] or not one.observed_generation:
        return
    c = t.transitions.c
    missed = tx.value(sa.select(sa.func.max(c.at)).where(c.instance_id == row["id"], c.after == GONE))
    began = missed or float(row["created_at"].replace(tzinfo=UTC).timestamp())
    _record(tx, [_of_instance(row, moment, PLACED, BUILT) | {"lasted_s": round(max(0.0, moment - began), 3)}])


def gone(tx: Tx, row: Row, moment: float) -> None:
    """A host no longer reports an instance that it shall carry."""
    _record(tx, [_of_instance(row, moment, row["state"], GONE)])


def host_silent(tx: Tx, host: str, moment: float, silent_s: float) -> None:
    """A host counts as dead from now on."""
    _record(tx, [_blank(host, moment, ALIVE, SILENT) | {"silent_s": round(silent_s, 3)}])


def host_back(tx: Tx, host: str, moment: float, silent_s: float) -> None:
    """A host that was dead reports again."""
    _record(tx, [_blank(host, moment, SILENT, ALIVE) | {"silent_s": round(silent_s, 3)}])


def _of_instance(row: Row, at: float, before: str, after: str) -> Row:
    return _blank(row["host"], at, before, after) | {"owner_id": row["owner_id"], "instance_id": row["id"]}


def _blank(host: str, at: float, before: str, after: str) -> Row:
    return {
        "at": at, "owner_id": "", "instance_id": "", "host": host, "before": str(before), "after": str(after),
        "cause": None, "lasted_s": None, "silent_s": None,
    }  # fmt: skip


def _record(tx: Tx, rows: list[Row]) -> None:
    if rows:
        tx.insert(t.transitions, rows)
        tx.transitions += rows


def trim(tx: Tx) -> None:
    """Forget all but the newest; on its own, since whoever deletes the same rows waits for it."""
    last = tx.value(sa.select(sa.func.max(t.transitions.c.id))) or 0
    tx.execute(sa.delete(t.transitions).where(t.transitions.c.id <= last - KEPT))


def newest(tx: Tx, limit: int = KEPT) -> list[Row]:
    """What happened last, the latest first."""
    last = tx.value(sa.select(sa.func.max(t.transitions.c.id))) or 0
    kept = sa.select(t.transitions).where(t.transitions.c.id > last - KEPT)
    return [_view(row) for row in tx.all(kept.order_by(*_LATEST).limit(limit))]


def last_failovers(tx: Tx) -> dict[str, Row]:
    """The last failover of every owner that had one."""
    c = t.transitions.c
    took = sa.select(t.transitions).where(c.after == VrrpState.MASTER.value, c.cause.in_(FAILOVERS))
    return {row["owner_id"]: _view(row) for row in reversed(tx.all(took.order_by(*_LATEST)))}


def _view(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "id"}
