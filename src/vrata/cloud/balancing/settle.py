"""Turns what hosts report (or no longer report) into statuses: the other half of `status.py`, in the database.

A report is several short transactions, each about a few owners, whose rows are locked before their instances'. What a
host's return or silence means for owners is no part of the transaction that writes it down: `restless` finds it in the
database, so that a killed cloud, or another replica, continues with it. Provisioning moves on at once when a report
completes it; deletion ends when no live host reports the instances any more. An owner's rows are written only where
something differs.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from vrata.base.wire import HostReport, InstanceKind, InstanceReport, VrrpState
from vrata.cloud.balancing import carry, plan, status, transitions
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.status import Event, Provisioning
from vrata.cloud.http import ApiError, now
from vrata.cloud.network import ports
from vrata.cloud.network import tables as n
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row, Tx

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class News:
    """What a report changes: owners with something to settle, and whether there is anything else to write."""

    strange: bool  # the host is new, was dead, is plugged in differently, or refuses something else
    balancers: dict[str, int]  # each with how many members and listeners the report tells of
    routers: dict[str, int]
    more: bool  # counters, transitions, instances that have left


def beat(tx: Tx, host: str, boot: str, number: int) -> bool:
    """Write down a sign of life; False if a later report of the host has been heard of already."""
    c = t.heartbeats.c
    later = sa.true() if not boot else sa.or_(c.boot != boot, c.number < number)
    alive = sa.update(t.heartbeats).where(c.host == host, later)
    values = {"beat": c.beat + 1, "at": tx.now(), "boot": boot, "number": number}
    if tx.execute(alive.values(values)):
        return True
    if tx.get(t.heartbeats, host) is not None:
        return False
    tx.insert(t.heartbeats, {"host": host, "beat": 1, "at": tx.now(), "boot": boot, "number": number})
    return True


def news(tx: Tx, host: str, report: HostReport) -> News:
    """Look, without changing anything, at what a report has to tell."""
    known = tx.get(t.hosts, host)
    seen = {one.id: one for one in report.instances}
    owners: dict[str, Counter[str]] = {kind.value: Counter() for kind in InstanceKind}
    counted = False
    for row, changes in _news(tx, host, seen):
        counted = counted or "listeners" in changes
        if changes.keys() != {"listeners"}:
            one = seen.get(row["id"])
            owners[row["kind"]][row["owner_id"]] += len(one.members) + len(one.listeners) if one else 0
    left = sa.select(t.departures.c.instance_id).where(t.departures.c.host == host)
    gone = any(instance_id not in seen for instance_id in tx.column(left))
    told = any(one.transitions for one in report.instances)
    return News(
        known is None or bool(_host_changes(known, report)),
        owners[InstanceKind.BALANCER],
        owners[InstanceKind.GATEWAY],
        counted or gone or told,
    )


def accept_owners(
    tx: Tx, host: str, report: HostReport, balancers: list[str], routers: list[str], settings: Settings
) -> None:
    """Store what the report says of these owners' instances, and move on what it completes."""
    tx.hold(t.load_balancers, balancers)
    tx.hold(n.routers, routers)
    seen, mine = {one.id: one for one in report.instances}, {*balancers, *routers}
    gone: list[Row] = []
    for row, changes in _news(tx, host, seen):
        if row["owner_id"] not in mine:
            continue
        if changes:
            tx.update(t.instances, row["id"], changes | {"updated_at": now()})
            if row["id"] in seen:
                transitions.built(tx, row, seen[row["id"]], tx.now())
            else:
                transitions.gone(tx, row, tx.now())
        else:
            gone.append(row)
    carry.remove(tx, gone, confirmed=True)
    for row in gone:  # the peers of what is gone need not reckon with it any more
        carry.raise_generation(tx, _table_of(row), row["owner_id"])
    for owner_id in balancers:
        settle(tx, owner_id, settings)
    for owner_id in routers:
        _settle_router(tx, owner_id, settings)


def accept_rest(tx: Tx, host: str, report: HostReport) -> bool:
    """Store counters, transitions and departures. No owner is locked: False if another transaction had an instance."""
    transitions.take_in(tx, host, report)
    seen = {one.id: one for one in report.instances}
    counted = {row["id"]: changes for row, changes in _news(tx, host, seen) if changes.keys() == {"listeners"}}
    free = sa.select(t.instances.c.id).where(t.instances.c.id.in_(counted)).order_by(t.instances.c.id)
    written = tx.column(free.with_for_update(key_share=True, skip_locked=True)) if counted else []
    for instance_id in written:
        tx.update(t.instances, instance_id, counted[instance_id] | {"updated_at": now()})
    left = tx.column(sa.select(t.departures.c.instance_id).where(t.departures.c.host == host))
    tx.delete(t.departures, [instance_id for instance_id in left if instance_id not in seen])
    return len(written) == len(counted)


def _table_of(instance: Row) -> sa.Table:
    return t.load_balancers if instance["kind"] == InstanceKind.BALANCER else n.routers


def _news(tx: Tx, host: str, seen: dict[str, InstanceReport]) -> list[tuple[Row, Row]]:
    """Instances of the host that the report changes, and the columns; no columns: it left and is gone."""
    out: list[tuple[Row, Row]] = []
    for row in tx.all(sa.select(t.instances).where(t.instances.c.host == host).order_by(t.instances.c.id)):
        one = seen.get(row["id"])
        if one is not None:
            if changes := _differences(row, one):
                out.append((row, changes))
        elif row["leaving"]:
            out.append((row, {}))
        elif row["state"] != VrrpState.UNKNOWN:  # it was there and is not: it has to be built again
            out.append((row, {"state": "UNKNOWN", "observed_generation": 0}))
    return out


def _host_changes(known: Row, report: HostReport) -> Row:
    refusal = None if report.refusal is None else msgspec.to_builtins(report.refusal)
    reported: Row = {"alive": True, "physical_networks": sorted(report.physical_networks), "refusal": refusal}
    return {name: value for name, value in reported.items() if known[name] != value}


def register(tx: Tx, host: str, report: HostReport) -> None:
    """Write down a host that is new, was dead, is plugged in differently, or refuses something else."""
    known = tx.lock(t.hosts, host)
    if known is None:
        floor = tx.value(sa.select(t.databases.c.revision_floor)) or 0
        blank = {"name": host, "alive": False, "physical_networks": [], "refusal": None}
        tx.insert(t.hosts, blank | _host_changes(blank, report) | {"revision": floor + 1})
    elif changes := _host_changes(known, report):
        tx.update(t.hosts, host, changes)
        if "alive" in changes:
            log.info("host is back", host=host)
            transitions.host_back(tx, host, tx.now(), max(0.0, tx.now() - (_silent_since(tx, host) or tx.now())))
        if changes.get("refusal"):
            log.error("host refuses its desired set", host=host, reason=changes["refusal"]["reason"])
    tx.unsettle()


def _silent_since(tx: Tx, host: str) -> float | None:
    """When the host was heard last before it fell silent."""
    c = t.transitions.c
    query = sa.select(c.at, c.silent_s).where(c.host == host, c.after == transitions.SILENT).order_by(c.id.desc())
    found = tx.one(query.limit(1))
    return None if found is None else float(found["at"] - (found["silent_s"] or 0.0))


def _differences(row: Row, one: InstanceReport) -> Row:
    listeners = {listener_id: msgspec.to_builtins(stats) for listener_id, stats in one.listeners.items()}
    told: Row = {
        "observed_generation": one.observed_generation,
        "state": str(one.state),
        "error": one.error,
        "members": dict(one.members),
        "listeners": listeners,
    }
    return {name: value for name, value in told.items() if row[name] != value}


def owners_on(tx: Tx, hosts: Iterable[str]) -> list[str]:
    """The owners that these hosts carry something of."""
    return sorted(tx.column(sa.select(t.instances.c.owner_id).where(t.instances.c.host.in_(list(hosts))).distinct()))


def beats(tx: Tx) -> dict[str, int]:
    """Hosts that count as alive, each with the number of its last sign of life."""
    joined = sa.select(t.hosts.c.name, t.heartbeats.c.beat).join(
        t.heartbeats, t.heartbeats.c.host == t.hosts.c.name, isouter=True
    )
    return {row["name"]: row["beat"] or 0 for row in tx.all(joined.where(t.hosts.c.alive))}


def mark_dead(tx: Tx, silent: dict[str, int]) -> list[str]:
    """These hosts, each with the last sign of life that was seen, count as dead unless there has been another one."""
    tx.hold(t.hosts, silent)
    dead = [host for host, beat_ in beats(tx).items() if silent.get(host) == beat_]
    for host in dead:
        heard = tx.get(t.heartbeats, host)
        silent_s = max(0.0, tx.now() - heard["at"]) if heard else 0.0
        tx.update(t.hosts, host, {"alive": False})
        transitions.host_silent(tx, host, tx.now(), silent_s)
        log.warning("host is silent", host=host)
    if dead:
        tx.unsettle()
    return dead


def moving_owners(tx: Tx) -> list[str]:
    """Owners with an instance that is being replaced or stands on a drained host: time moves them on, too."""
    drained = sa.select(t.hosts.c.name).where(t.hosts.c.drained_at.is_not(None))
    moving = (t.instances.c.replace_at.is_not(None), t.instances.c.host.in_(drained))
    return sorted(tx.column(sa.select(t.instances.c.owner_id).where(sa.or_(*moving)).distinct()))


def restless(tx: Tx, settings: Settings) -> list[str]:
    """Owners whose rows do not fit what hosts are alive: pairs that are short, changes and deletions that are over."""
    b, r, i, h = t.load_balancers.c, n.routers.c, t.instances.c, t.hosts.c
    carried = sa.select(sa.func.count()).select_from(t.instances.join(t.hosts, h.name == i.host)).correlate
    staying = [~i.leaving]

    def count(owner: sa.Column[Any], *where: Any) -> sa.ScalarSelect[int]:
        return carried(owner.table).where(i.owner_id == owner, *where).scalar_subquery()

    wanted = sa.case((b.topology == plan.SINGLE, 1), else_=settings.instances_per_pair)
    live = count(b.id, *staying, h.alive)
    running = count(b.id, *staying, h.alive, i.state != VrrpState.UNKNOWN.value)
    lagging = count(b.id, *staying, h.alive, i.observed_generation < b.generation, i.error.is_(None))
    deleting = b.provisioning_status == Provisioning.PENDING_DELETE
    changing = b.provisioning_status.in_([Provisioning.PENDING_CREATE, Provisioning.PENDING_UPDATE])
    offline = b.operating_status == status.Operating.OFFLINE
    balancers = sa.select(b.id).where(
        sa.or_(
            sa.and_(~deleting, count(b.id, *staying, *carry.USABLE) < wanted),
            sa.and_(deleting, count(b.id, h.alive) == 0),
            sa.and_(changing, live > 0, lagging == 0),
            sa.and_(~deleting, b.admin_state_up, offline != (running == 0)),
        )
    )
    routers = sa.select(r.id).where(
        r.external_network_id.is_not(None),
        r.admin_state_up,
        count(r.id, *staying, *carry.USABLE) < settings.instances_per_pair,
    )
    return [*sorted(tx.column(balancers)), *sorted(tx.column(routers))]


def settle_free(tx: Tx, owner_id: str, settings: Settings) -> None:
    """The same, unless another transaction has the owner: then it is being settled."""
    if tx.lock_free(t.load_balancers, owner_id) is not None:
        settle(tx, owner_id, settings)
    elif tx.lock_free(n.routers, owner_id) is not None:
        _settle_router(tx, owner_id, settings)


def settle(tx: Tx, owner_id: str, settings: Settings) -> None:
    """Move a load balancer (or a router's pair) as far as its instances' reports allow."""
    balancer = tx.lock(t.load_balancers, owner_id)
    if balancer is None:
        _settle_router(tx, owner_id, settings)
        return
    rows = carry.instances_of(tx, owner_id)
    if balancer["provisioning_status"] == Provisioning.PENDING_DELETE:
        alive = set(tx.column(sa.select(t.hosts.c.name).where(t.hosts.c.alive)))
        carry.remove(tx, [row for row in rows if row["host"] not in alive])
        if not any(row["host"] in alive for row in rows):
            erase(tx, balancer)
        return
    if not carry.is_whole(tx, balancer, rows, settings):
        short = balancer
        _place(tx, owner_id, lambda: carry.place_balancer(tx, short, settings))
        balancer, rows = tx.get(t.load_balancers, owner_id), carry.instances_of(tx, owner_id)
        assert balancer is not None
    alive = set(tx.column(sa.select(t.hosts.c.name).where(t.hosts.c.alive)))
    carried = [
        status.Carried(row["host"] in alive, row["observed_generation"], row["state"], row["error"], row["leaving"])
        for row in rows
    ]
    event = status.progress(balancer["generation"], carried)
    moving = any(row["replace_at"] is not None for row in rows)
    if event is not None and not (moving and event is Event.APPLIED):
        _advance(tx, balancer, event)
    _operating(tx, owner_id, rows, carried, alive)


def _settle_router(tx: Tx, router_id: str, settings: Settings) -> None:
    router = tx.lock(n.routers, router_id)
    if router is not None:
        _place(tx, router_id, lambda: carry.place_gateway(tx, router, settings))


def _place(tx: Tx, owner_id: str, place: Callable[[], None]) -> None:
    """Without an address left on its subnet a pair keeps one instance, and everything else continues."""
    try:
        with tx.connection.begin_nested():
            place()
    except ApiError as error:
        tx.memo.clear()  # of what has been rolled back
        log.warning("pair stays short", owner=owner_id, error=error.message)


def _advance(tx: Tx, balancer: Row, event: Event) -> None:
    state = status.after(balancer["provisioning_status"], event)
    if state is None or state == balancer["provisioning_status"]:
        return
    moved = {"provisioning_status": state, "updated_at": now()}
    tx.update(t.load_balancers, balancer["id"], moved)
    for table, owners in _tree_of(balancer["id"]):
        for new, old in _child_moves(event).items():
            where = [owners, table.c.provisioning_status.in_(old)]
            if new is Provisioning.DELETED:
                tx.execute(sa.delete(table).where(*where))
            else:
                tx.execute(sa.update(table).where(*where).values(provisioning_status=new, updated_at=now()))


@functools.cache
def _child_moves(event: Event) -> dict[Provisioning, list[Provisioning]]:
    """Where children go, and from which states: a statement for each."""
    moves: dict[Provisioning, list[Provisioning]] = {}
    for old in (
        Provisioning.PENDING_CREATE,
        Provisioning.PENDING_UPDATE,
        Provisioning.ERROR,
        Provisioning.PENDING_DELETE,
    ):
        new = status.child_after(old, event)
        if new != old:
            moves.setdefault(new, []).append(old)
    return moves


def _tree_of(balancer_id: str) -> list[tuple[sa.Table, sa.ColumnElement[bool]]]:
    """Every table under a load balancer and the rows in it, leaves first."""
    pool_ids = sa.select(t.pools.c.id).where(t.pools.c.load_balancer_id == balancer_id)
    listener_ids = sa.select(t.listeners.c.id).where(t.listeners.c.load_balancer_id == balancer_id)
    policy_ids = sa.select(t.l7policies.c.id).where(t.l7policies.c.listener_id.in_(listener_ids))
    return [
        (t.l7rules, t.l7rules.c.l7policy_id.in_(policy_ids)),
        (t.l7policies, t.l7policies.c.listener_id.in_(listener_ids)),
        (t.members, t.members.c.pool_id.in_(pool_ids)),
        (t.health_monitors, t.health_monitors.c.pool_id.in_(pool_ids)),
        (t.listeners, t.listeners.c.load_balancer_id == balancer_id),
        (t.pools, t.pools.c.load_balancer_id == balancer_id),
    ]


def erase(tx: Tx, balancer: Row) -> None:
    """Nothing carries the load balancer any more: its rows and its own VIP port go."""
    for table, rows in _tree_of(balancer["id"]):
        tx.execute(sa.delete(table).where(rows))
    tx.delete(t.load_balancers, balancer["id"])
    if balancer["vip_port_owned"]:
        let_go = {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"}
        tx.execute(
            sa.update(n.floating_ips).where(n.floating_ips.c.port_id == balancer["vip_port_id"]).values(**let_go)
        )
        ports.delete(tx, balancer["vip_port_id"])


# Operating status -----------------------------------------------------------------------------------------------------


def _operating(tx: Tx, balancer_id: str, rows: list[Row], carried: list[status.Carried], alive: set[str]) -> None:
    """Compute the operating status of everything under a load balancer, write what differs."""
    balancer = tx.get(t.load_balancers, balancer_id)
    assert balancer is not None
    told, found = _member_reports(rows, alive), _Statuses()
    running = status.reporting(carried)
    pools = tx.all(sa.select(t.pools).where(t.pools.c.load_balancer_id == balancer_id))
    pool_ids = [pool["id"] for pool in pools]
    monitors = tx.some(sa.select(t.health_monitors), t.health_monitors.c.pool_id, pool_ids)
    monitored = {row["pool_id"] for row in monitors if row["admin_state_up"]}
    by_pool: dict[str, list[str]] = defaultdict(list)
    c = t.members.c
    seen = sa.select(c.id, c.pool_id, c.admin_state_up, c.weight, c.operating_status)
    for member in tx.some(seen, c.pool_id, pool_ids):
        new = (
            status.member_status(
                enabled=member["admin_state_up"],
                weight=member["weight"],
                monitored=member["pool_id"] in monitored,
                reported=told.get(member["id"]),
                before=member["operating_status"],
            )
            if running
            else member["operating_status"]
        )  # nobody looks: what was seen last stays
        by_pool[member["pool_id"]].append(new)
        found.put(t.members, member, new)
    of_pools: dict[str, str] = {}
    for pool in pools:
        new = status.pool_status(enabled=pool["admin_state_up"] and running, members=by_pool[pool["id"]])
        of_pools[pool["id"]] = new
        found.put(t.pools, pool, new)
    for listener in tx.all(sa.select(t.listeners).where(t.listeners.c.load_balancer_id == balancer_id)):
        below = [of_pools[listener["default_pool_id"]]] if listener["default_pool_id"] in of_pools else []
        enabled = listener["admin_state_up"] and balancer["admin_state_up"]
        found.put(t.listeners, listener, status.balancer_status(enabled=enabled, reporting=running, below=below))
    for monitor in monitors:
        enabled = monitor["admin_state_up"]
        found.put(t.health_monitors, monitor, status.balancer_status(enabled=enabled, reporting=True, below=()))
    for table, of_balancer in _tree_of(balancer_id)[:2]:  # rules and policies: in force or not
        for row in tx.all(sa.select(table).where(of_balancer)):
            new = status.balancer_status(enabled=row["admin_state_up"], reporting=True, below=())
            found.put(table, row, new)
    below = [*of_pools.values(), *([status.Operating.DEGRADED] if status.is_short(carried) else [])]
    whole = status.balancer_status(enabled=balancer["admin_state_up"], reporting=running, below=below)
    found.put(t.load_balancers, balancer, whole)
    found.write(tx)


class _Statuses:
    """Operating statuses that differ, written with one statement for each status of a table."""

    def __init__(self) -> None:
        self._changed: dict[tuple[sa.Table, str], list[str]] = defaultdict(list)

    def put(self, table: sa.Table, row: Row, new: str) -> None:
        if row["operating_status"] != new:
            self._changed[table, str(new)].append(row["id"])

    def write(self, tx: Tx) -> None:
        for (table, new), row_ids in self._changed.items():
            tx.update_all(table, row_ids, {"operating_status": new})


def _member_reports(rows: Iterable[Row], alive: set[str]) -> dict[str, Any]:
    """Members' health as the active instance sees it, else as any live one does."""
    out: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: row["state"] == VrrpState.MASTER):
        if row["host"] in alive:
            out |= row["members"] or {}
    return out
