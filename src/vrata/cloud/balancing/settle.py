"""Turns what hosts report (or no longer report) into statuses: the other half of `status.py`, in the database.

A report is one transaction. Provisioning moves on at once when a report completes it; deletion ends when no live host
reports the instances any more. An owner's rows are written only where something differs.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from vrata.base.wire import HostReport, InstanceKind, InstanceReport, VrrpState
from vrata.cloud.balancing import carry, status, transitions
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.status import Event, Provisioning
from vrata.cloud.http import now
from vrata.cloud.network import ports
from vrata.cloud.network import tables as n
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row, Tx

log = structlog.get_logger(__name__)


def accept_report(tx: Tx, host: str, report: HostReport, moment: float, settings: Settings) -> None:
    """Store a host's report and move everything on that it completes; registers a host that is new or was dead."""
    _greet(tx, host, report, moment, settings)
    transitions.take_in(tx, host, report)
    seen = {one.id: one for one in report.instances}
    owners = {row["owner_id"] for row, changes in _news(tx, host, seen) if changes.keys() != {"listeners"}}
    for owner_id in sorted(owners):  # owners before their instances: the order every writer keeps
        if tx.lock(t.load_balancers, owner_id) is None:
            tx.lock(n.routers, owner_id)
    for row, changes in _news(tx, host, seen):
        if changes:
            tx.update(t.instances, row["id"], changes | {"updated_at": now()})
            if row["id"] in seen:
                transitions.built(tx, row, seen[row["id"]], moment)
            else:
                transitions.gone(tx, row, moment)
        else:
            carry.remove(tx, row)
    for owner_id in sorted(owners):
        settle(tx, owner_id, settings)
    # Last: whoever changes an owner locks it first and its hosts afterwards, and so must a report.
    tx.update(t.hosts, host, {"last_seen": moment})


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


def _greet(tx: Tx, host: str, report: HostReport, moment: float, settings: Settings) -> None:
    """Register a host that is new, was dead or is plugged in differently: pairs that were short may be completed."""
    known = tx.get(t.hosts, host)
    networks = sorted(report.physical_networks)
    values: Row = {"alive": True, "physical_networks": networks}
    if known is None:
        tx.insert(t.hosts, {"name": host, "last_seen": moment, "revision": 1, **values})
    elif any(known[name] != value for name, value in values.items()):
        tx.update(t.hosts, host, values | {"last_seen": moment})
        if not known["alive"]:
            log.info("host is back", host=host, silent_s=round(moment - known["last_seen"], 1))
            transitions.host_back(tx, host, moment, moment - known["last_seen"])
            _lay_ghosts(tx, host)
        settle_host(tx, host, settings)
    else:
        return
    carry.place_all(tx, settings)


def _lay_ghosts(tx: Tx, host: str) -> None:
    """A host that is back removes by itself what left it: its peers need not reckon with that any more."""
    for row in tx.all(sa.select(t.instances).where(t.instances.c.host == host, t.instances.c.leaving)):
        table = t.load_balancers if row["kind"] == InstanceKind.BALANCER else n.routers
        carry.raise_generation(tx, table, row["owner_id"])


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


def settle_host(tx: Tx, host: str, settings: Settings) -> None:
    """The host died or came back: look again at everything it carries."""
    query = sa.select(t.instances.c.owner_id).where(t.instances.c.host == host).distinct()
    for owner_id in sorted(tx.column(query)):
        settle(tx, owner_id, settings)


def bury_silent(tx: Tx, moment: float, settings: Settings) -> list[str]:
    """Hosts that have not reported for too long are dead now: what they held up moves on."""
    limit = moment - settings.host_timeout_s
    query = sa.select(t.hosts.c.name, t.hosts.c.last_seen).where(t.hosts.c.alive, t.hosts.c.last_seen < limit)
    silent = {row["name"]: moment - row["last_seen"] for row in tx.all(query.order_by(t.hosts.c.name))}
    for host, silent_s in silent.items():
        tx.update(t.hosts, host, {"alive": False})
        transitions.host_silent(tx, host, moment, silent_s)
        log.warning("host is silent", host=host)
        leaving = sa.select(t.instances).where(t.instances.c.host == host, t.instances.c.leaving)
        for row in tx.all(leaving):
            if not _is_ghost(tx, row):
                carry.remove(tx, row)
                settle(tx, row["owner_id"], settings)
        settle_host(tx, host, settings)
    if silent:
        carry.place_all(tx, settings)
    return list(silent)


def _is_ghost(tx: Tx, row: Row) -> bool:
    """Whether an instance that leaves a silent host must be reckoned with: what took its place may meet it."""
    owner = tx.get(t.load_balancers, row["owner_id"]) or tx.get(n.routers, row["owner_id"])
    return owner is not None and owner.get("provisioning_status") != Provisioning.PENDING_DELETE


def moving_owners(tx: Tx) -> list[str]:
    """Owners with an instance that is being replaced or stands on a drained host: time moves them on, too."""
    drained = sa.select(t.hosts.c.name).where(t.hosts.c.drained_at.is_not(None))
    moving = (t.instances.c.replace_at.is_not(None), t.instances.c.host.in_(drained))
    return sorted(tx.column(sa.select(t.instances.c.owner_id).where(sa.or_(*moving)).distinct()))


def silent_hosts(tx: Tx, moment: float, settings: Settings) -> bool:
    """Whether `bury_silent` would have something to do."""
    query = sa.select(t.hosts.c.name).where(t.hosts.c.alive, t.hosts.c.last_seen < moment - settings.host_timeout_s)
    return tx.value(query) is not None


def settle(tx: Tx, owner_id: str, settings: Settings) -> None:
    """Move a load balancer (or a router's pair) as far as its instances' reports allow."""
    balancer = tx.lock(t.load_balancers, owner_id)
    if balancer is None:
        router = tx.get(n.routers, owner_id)
        if router is not None:
            carry.place_gateway(tx, router, settings)
        return
    rows = carry.instances_of(tx, owner_id)
    if balancer["provisioning_status"] == Provisioning.PENDING_DELETE:
        if not rows:
            erase(tx, balancer)
        return
    if carry.place_balancer_if_needed(tx, balancer, rows, settings):
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


def _advance(tx: Tx, balancer: Row, event: Event) -> None:
    state = status.after(balancer["provisioning_status"], event)
    if state is None or state == balancer["provisioning_status"]:
        return
    moved = {"provisioning_status": state, "updated_at": now()}
    tx.update(t.load_balancers, balancer["id"], moved)
    for table, owners in _tree_of(balancer["id"]):
        for old in (
            Provisioning.PENDING_CREATE,
            Provisioning.PENDING_UPDATE,
            Provisioning.ERROR,
            Provisioning.PENDING_DELETE,
        ):
            new = status.child_after(old, event)
            where = [owners, table.c.provisioning_status == old]
            if new is Provisioning.DELETED:
                tx.execute(sa.delete(table).where(*where))
            elif new != old:
                tx.execute(sa.update(table).where(*where).values(provisioning_status=new, updated_at=now()))


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
    told = _member_reports(rows, alive)
    running = status.reporting(carried)
    pools = tx.all(sa.select(t.pools).where(t.pools.c.load_balancer_id == balancer_id))
    pool_ids = [pool["id"] for pool in pools]
    monitors = tx.all(sa.select(t.health_monitors).where(t.health_monitors.c.pool_id.in_(pool_ids)))
    monitored = {row["pool_id"] for row in monitors if row["admin_state_up"]}
    by_pool: dict[str, list[str]] = defaultdict(list)
    for member in tx.all(sa.select(t.members).where(t.members.c.pool_id.in_(pool_ids))):
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
        _write(tx, t.members, member, new)
    of_pools: dict[str, str] = {}
    for pool in pools:
        new = status.pool_status(enabled=pool["admin_state_up"] and running, members=by_pool[pool["id"]])
        of_pools[pool["id"]] = new
        _write(tx, t.pools, pool, new)
    for listener in tx.all(sa.select(t.listeners).where(t.listeners.c.load_balancer_id == balancer_id)):
        below = [of_pools[listener["default_pool_id"]]] if listener["default_pool_id"] in of_pools else []
        enabled = listener["admin_state_up"] and balancer["admin_state_up"]
        _write(tx, t.listeners, listener, status.balancer_status(enabled=enabled, reporting=running, below=below))
    for monitor in monitors:
        enabled = monitor["admin_state_up"]
        _write(tx, t.health_monitors, monitor, status.balancer_status(enabled=enabled, reporting=True, below=()))
    for table, of_balancer in _tree_of(balancer_id)[:2]:  # rules and policies: in force or not
        for row in tx.all(sa.select(table).where(of_balancer)):
            new = status.balancer_status(enabled=row["admin_state_up"], reporting=True, below=())
            _write(tx, table, row, new)
    whole = status.balancer_status(enabled=balancer["admin_state_up"], reporting=running, below=of_pools.values())
    _write(tx, t.load_balancers, balancer, whole)


def _write(tx: Tx, table: sa.Table, row: Row, new: str) -> None:
    if row["operating_status"] != new:
        tx.update(table, row["id"], {"operating_status": str(new)})


def _member_reports(rows: Iterable[Row], alive: set[str]) -> dict[str, Any]:
    """Members' health as the active instance sees it, else as any live one does."""
    out: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: row["state"] == VrrpState.MASTER):
        if row["host"] in alive:
            out |= row["members"] or {}
    return out
