"""Keeps owners (load balancers, routers) and their instances in step: places, removes, raises generations.

Called inside the transaction that changes what an owner serves, so that the change, its generation and the revisions of
the hosts appear together. `plan.py` decides; this module only reads, asks and writes.
"""

import dataclasses
import time

import sqlalchemy as sa
import structlog

from vrata.base import ids
from vrata.base.wire import InstanceKind
from vrata.cloud.balancing import plan
from vrata.cloud.balancing import tables as t
from vrata.cloud.http import ApiError, now
from vrata.cloud.network import ports
from vrata.cloud.network import tables as n
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row, Tx

log = structlog.get_logger(__name__)

_USABLE = (t.hosts.c.alive, t.hosts.c.drained_at.is_(None))


def instances_of(tx: Tx, owner_id: str) -> list[Row]:
    """The owner's instances, oldest first."""
    return tx.all(
        sa.select(t.instances)
        .where(t.instances.c.owner_id == owner_id)
        .order_by(t.instances.c.created_at, t.instances.c.id)
    )


def touch_owner(tx: Tx, owner_id: str) -> None:
    """The hosts that carry the owner have something new to fetch."""
    tx.touch(tx.column(sa.select(t.instances.c.host).where(t.instances.c.owner_id == owner_id)))


def raise_generation(tx: Tx, table: sa.Table, owner_id: str) -> None:
    """What the owner serves changed."""
    tx.execute(sa.update(table).where(table.c.id == owner_id).values(generation=table.c.generation + 1))
    touch_owner(tx, owner_id)


def vip_changed(tx: Tx, port_id: str) -> bool:
    """A floating IP came to or left this port: if it is a balancer's VIP the balancer serves something else now."""
    balancer_id = tx.value(sa.select(t.load_balancers.c.id).where(t.load_balancers.c.vip_port_id == port_id))
    if balancer_id is None:
        return False
    raise_generation(tx, t.load_balancers, balancer_id)
    return True


def is_vip(tx: Tx, port_id: str) -> bool:
    """Whether the port holds a load balancer's VIP."""
    query = sa.select(t.load_balancers.c.id).where(t.load_balancers.c.vip_port_id == port_id)
    return tx.value(query) is not None


def port_in_use(tx: Tx, port: Row) -> bool:
    """Whether a load balancer or one of its instances stands on the port."""
    return is_vip(tx, port["id"]) or tx.get(t.instances, port["device_id"]) is not None


def place_balancer(tx: Tx, balancer: Row, settings: Settings) -> None:
    """Bring a load balancer nearer to the instances it should have, as far as there are hosts."""
    network = tx.get(n.networks, balancer["vip_network_id"])
    needs = frozenset({network["provider_physical_network"]} - {None}) if network else frozenset()
    wanted = plan.wanted_instances(balancer["topology"], settings.instances_per_pair)
    _carry_out(tx, InstanceKind.BALANCER, balancer, needs, settings, wanted=wanted)


def place_balancer_if_needed(tx: Tx, balancer: Row, rows: list[Row], settings: Settings) -> bool:
    """The same where something is amiss with its instances, these rows; whether it was asked at all."""
    good = set(tx.column(sa.select(t.hosts.c.name).where(*_USABLE)))
    staying = [row for row in rows if not row["leaving"]]
    wanted = plan.wanted_instances(balancer["topology"], settings.instances_per_pair)
    if len(staying) == wanted and all(row["replace_at"] is None and row["host"] in good for row in staying):
        return False
    place_balancer(tx, balancer, settings)
    return True


def replace(tx: Tx, instance_ids: list[str]) -> None:
    """Other instances shall take the place of these, one after the other (`settle` goes on from here)."""
    tx.execute(sa.update(t.instances).where(t.instances.c.id.in_(instance_ids)).values(replace_at=time.time()))


def _carry_out(
    tx: Tx, kind: InstanceKind, owner: Row, needs: frozenset[str], settings: Settings, *, wanted: int
) -> None:
    moment, rows, hosts = time.time(), instances_of(tx, owner["id"]), placement_hosts(tx)
    placed = [_placed(row, owner["generation"], moment, settings) for row in rows]
    actions = plan.plan_instances(owner["id"], placed, hosts, needs, wanted=wanted)
    alive = {host.name for host in hosts if host.alive}
    for action in actions:
        log.info("placement", owner=owner["id"], step=type(action).__name__, **dataclasses.asdict(action))
        match action:
            case plan.Add(host, priority):
                _add(tx, kind, owner, host, priority)
            case plan.Remove(instance_id):
                leave(tx, instance_id)
                if next(row["host"] for row in rows if row["id"] == instance_id) not in alive:
                    tx.update(t.instances, instance_id, {"replace_at": None})  # nothing waits for its host's return
            case plan.Yield(instance_id):
                tx.update(t.instances, instance_id, {"yield_at": moment})
            case plan.Keep(instance_id):
                tx.update(t.instances, instance_id, {"replace_at": None, "yield_at": None})
    if actions:
        raise_generation(tx, t.load_balancers if kind is InstanceKind.BALANCER else n.routers, owner["id"])


def _placed(row: Row, generation: int, moment: float, settings: Settings) -> plan.Placed:
    began = max(row["replace_at"] or 0.0, row["yield_at"] or 0.0)
    connections = sum(one["active_connections"] for one in (row["listeners"] or {}).values())
    return plan.Placed(
        id=row["id"],
        host=row["host"],
        priority=row["priority"],
        leaving=row["leaving"],
        state=row["state"],
        ready=row["observed_generation"] >= generation and row["error"] is None,
        asked=row["replace_at"] is not None,
        told=row["yield_at"] is not None and moment - row["yield_at"] < settings.yield_timeout_s,
        idle=connections == 0 or moment - began >= settings.drain_timeout_s,
        connected=connections > 0,
        sent_away=row["yield_at"] is not None and row["yield_at"] >= (row["replace_at"] or 0.0),
    )


def placement_hosts(tx: Tx) -> list[plan.Host]:
    """Every host that ever reported, with what it carries."""
    counted = sa.select(t.instances.c.host, sa.func.count().label("load")).group_by(t.instances.c.host)
    loads = {row["host"]: row["load"] for row in tx.all(counted)}
    return [
        plan.Host(
            row["name"],
            row["alive"],
            frozenset(row["physical_networks"] or ()),
            loads.get(row["name"], 0),
            row["drained_at"] is not None,
        )
        for row in tx.all(sa.select(t.hosts).order_by(t.hosts.c.name))
    ]


def _add(tx: Tx, kind: InstanceKind, owner: Row, host: str, priority: int) -> None:
    instance: Row = {
        "id": ids.new_uuid(), "kind": kind.value, "owner_id": owner["id"], "host": host, "leaving": False,
        "priority": priority, "vrrp_address": "", "vrrp_port_id": "", "observed_generation": 0, "state": "UNKNOWN",
        "error": None, "replace_at": None, "yield_at": None, "created_at": now(), "updated_at": None,
    }  # fmt: skip
    network = tx.get(n.networks, owner["vip_network_id"]) if kind is InstanceKind.BALANCER else None
    if kind is InstanceKind.BALANCER and network is None:  # no-op: nothing is plugged in anywhere
        tx.insert(t.instances, instance | {"vrrp_port_id": ids.new_uuid()})
    elif network is not None:
        values = {
            "name": f"octavia-lb-vrrp-{instance['id']}", "device_owner": ports.BALANCER_OWNER,
            "device_id": instance["id"], "project_id": owner["project_id"],
            "allowed_address_pairs": [{"ip_address": owner["vip_address"]}],
        }  # fmt: skip
        port = ports.create(tx, network, values, [{"subnet_id": owner["vip_subnet_id"]}])
        instance |= {"vrrp_port_id": port["id"], "vrrp_address": port["fixed_ips"][0]["ip_address"]}
        tx.insert(t.instances, instance)
    else:
        tx.insert(t.instances, instance)
        sync_gateway_ports(tx, owner, instance)
    tx.touch([host])


def make_anew(tx: Tx, balancer: Row, instances: list[Row], settings: Settings) -> None:
    """Replace instances of no-op hosts: there is nothing that would have to be built first or torn down after."""
    for instance in instances:
        remove(tx, instance)
    place_balancer(tx, balancer, settings)


def leave(tx: Tx, instance_id: str) -> None:
    """Take an instance out of its host's desired set; its row and ports go when the host no longer reports it."""
    tx.update(t.instances, instance_id, {"leaving": True})
    tx.touch(tx.column(sa.select(t.instances.c.host).where(t.instances.c.id == instance_id)))


def remove(tx: Tx, instance: Row) -> None:
    """The instance is gone from its host: nothing of it stays."""
    ports.delete(tx, tx.column(sa.select(n.ports.c.id).where(n.ports.c.device_id == instance["id"])))
    tx.delete(t.instances, instance["id"])


# Gateways -------------------------------------------------------------------------------------------------------------


def interfaces(tx: Tx, router_id: str) -> list[Row]:
    """The router's interface ports on IPv4 subnets, oldest first, each with `subnet`, `network` and `ip_address`."""
    rows = tx.all(
        sa.select(n.ports.c.id, n.ports.c.network_id, n.addresses.c.subnet_id, n.addresses.c.ip_address)
        .join(n.addresses, n.addresses.c.port_id == n.ports.c.id)
        .where(n.ports.c.device_id == router_id, n.ports.c.device_owner == ports.ROUTER_INTERFACE)
        .order_by(n.ports.c.created_at, n.ports.c.id)
    )
    out = []
    for row in rows:
        subnet, network = tx.get(n.subnets, row["subnet_id"]), tx.get(n.networks, row["network_id"])
        assert subnet is not None
        assert network is not None
        if subnet["ip_version"] == 4:
            out.append({**row, "subnet": subnet, "network": network})
    return out


def router_changed(tx: Tx, router_id: str, settings: Settings) -> None:
    """A router got or lost its gateway, an interface or a floating IP: its pair follows."""
    router = tx.lock(n.routers, router_id)
    if router is None:
        return
    raise_generation(tx, n.routers, router_id)
    place_gateway(tx, router, settings)


def place_gateway(tx: Tx, router: Row, settings: Settings) -> None:
    """Give a router with a way out its pair; take the pair from one without."""
    inside = interfaces(tx, router["id"])
    carried = instances_of(tx, router["id"])
    if router["external_network_id"] is None or not inside or not router["admin_state_up"]:
        for instance in carried:
            if not instance["leaving"]:
                leave(tx, instance["id"])
        return
    outside = tx.get(n.networks, router["external_network_id"])
    networks = [outside, *(one["network"] for one in inside)]
    needs = frozenset(net["provider_physical_network"] for net in networks if net) - {None}
    for instance in carried:
        if not instance["leaving"]:
            sync_gateway_ports(tx, router, instance)
    _carry_out(tx, InstanceKind.GATEWAY, router, needs, settings, wanted=settings.instances_per_pair)


def sync_gateway_ports(tx: Tx, router: Row, instance: Row) -> None:
    """One own address per router interface for each instance; the first one carries VRRP."""
    have = {row["network_id"]: row for row in tx.all(sa.select(n.ports).where(n.ports.c.device_id == instance["id"]))}
    wanted = interfaces(tx, router["id"])
    for one in wanted:
        if one["network_id"] not in have:
            values = {
                "name": f"gateway-{instance['id']}", "device_owner": ports.ROUTER_INSTANCE,
                "device_id": instance["id"], "project_id": router["project_id"],
            }  # fmt: skip
            have[one["network_id"]] = ports.create(tx, one["network"], values, [{"subnet_id": one["subnet_id"]}])
    kept = {one["network_id"] for one in wanted}
    ports.delete(tx, [row["id"] for network_id, row in have.items() if network_id not in kept])
    if wanted:
        first = have[wanted[0]["network_id"]]
        address = ports.fixed_ips(tx, [first["id"]])[first["id"]][0]["ip_address"]
        values = {"vrrp_port_id": first["id"], "vrrp_address": address}
        if any(instance[name] != value for name, value in values.items()):
            tx.update(t.instances, instance["id"], values)


def place_all(tx: Tx, settings: Settings) -> list[str]:
    """A host came (back) or left: see to every pair that is not whole; the owners that stayed short are returned."""
    short: list[str] = []
    kinds = ((t.load_balancers, place_balancer), (n.routers, place_gateway))
    for table, place in kinds:
        counted = (
            sa.select(sa.func.count())
            .join(t.hosts, t.hosts.c.name == t.instances.c.host)
            .where(t.instances.c.owner_id == table.c.id, ~t.instances.c.leaving, *_USABLE)
            .scalar_subquery()
        )
        query = sa.select(table).where(counted < settings.instances_per_pair).order_by(table.c.created_at)
        if table is t.load_balancers:
            query = query.where(table.c.provisioning_status != "PENDING_DELETE")
        for owner in tx.all(query):
            try:
                with tx.connection.begin_nested():
                    place(tx, owner, settings)
            except ApiError:  # no address left on its subnet: the others must not wait for it
                short.append(owner["id"])
    return short
