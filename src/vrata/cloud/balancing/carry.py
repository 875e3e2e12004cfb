"""Keeps owners (load balancers, routers) and their instances in step: places, removes, raises generations.

Called inside the transaction that changes what an owner serves, so that the change, its generation and the revisions of
the hosts appear together. `plan.py` decides; this module only reads, asks and writes.
"""

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa
import structlog

from vrata.base import ids
from vrata.base.wire import InstanceKind
from vrata.cloud.balancing import plan
from vrata.cloud.balancing import tables as t
from vrata.cloud.http import now
from vrata.cloud.network import ports
from vrata.cloud.network import tables as n
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row, Tx

log = structlog.get_logger(__name__)

USABLE = (t.hosts.c.alive, t.hosts.c.drained_at.is_(None))


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
    tx.update(table, owner_id, {"generation": table.c.generation + 1})
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


def reaches(tx: Tx, vip_port_id: str, network_id: str) -> bool:
    """Whether the hosts of a VIP can put a leg on the network: its floating IP is on the pair itself, behind no router."""
    physical = tx.value(sa.select(n.networks.c.provider_physical_network).where(n.networks.c.id == network_id))
    query = sa.select(t.instances.c.host).join(t.load_balancers, t.load_balancers.c.id == t.instances.c.owner_id)
    its = set(tx.column(query.where(t.load_balancers.c.vip_port_id == vip_port_id, ~t.instances.c.leaving)))
    hosts = placement_hosts(tx)
    own = [host for host in hosts if host.name in its] or hosts
    told = any(host.physical_networks for host in hosts)  # no-op hosts plug nothing in
    return not told or all(physical in host.physical_networks for host in own)


def place_balancer(tx: Tx, balancer: Row, settings: Settings) -> None:
    """Bring a load balancer nearer to the instances it should have, as far as there are hosts."""
    network = tx.get(n.networks, balancer["vip_network_id"])
    needs = frozenset({network["provider_physical_network"]} - {None}) if network else frozenset()
    needs |= _of_floating(tx, balancer["vip_port_id"])
    wanted = plan.wanted_instances(balancer["topology"], settings.instances_per_pair)
    _carry_out(tx, InstanceKind.BALANCER, balancer, needs, settings, wanted=wanted)


def _of_floating(tx: Tx, vip_port_id: str) -> frozenset[str]:
    """Physical networks of the VIP's floating IPs."""
    query = sa.select(n.networks.c.provider_physical_network).join(
        n.floating_ips, n.floating_ips.c.floating_network_id == n.networks.c.id
    )
    return frozenset(tx.column(query.where(n.floating_ips.c.port_id == vip_port_id))) - {None}


def is_whole(tx: Tx, balancer: Row, rows: list[Row], settings: Settings) -> bool:
    """Whether nothing is amiss with a load balancer's instances, these rows."""
    good = set(tx.column(sa.select(t.hosts.c.name).where(*USABLE)))
    staying = [row for row in rows if not row["leaving"]]
    wanted = plan.wanted_instances(balancer["topology"], settings.instances_per_pair)
    return len(staying) == wanted and all(row["replace_at"] is None and row["host"] in good for row in staying)


def replace(tx: Tx, instance_ids: list[str], settings: Settings) -> None:
    """Replaces these instances, one after the other (`settle` continues from here).

    No-op hosts build nothing: there they go at once, and others come when they are gone.
    """
    if settings.noop:
        for instance_id in instance_ids:
            leave(tx, instance_id)
        return
    tx.execute(sa.update(t.instances).where(t.instances.c.id.in_(instance_ids)).values(replace_at=tx.now()))


def _carry_out(
    tx: Tx, kind: InstanceKind, owner: Row, needs: frozenset[str], settings: Settings, *, wanted: int
) -> None:
    moment, rows, hosts = tx.now(), instances_of(tx, owner["id"]), placement_hosts(tx)
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
        told=row["yield_at"] is not None and 0 <= moment - row["yield_at"] < settings.yield_timeout_s,
        idle=connections == 0 or not 0 <= moment - began < settings.drain_timeout_s,
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


def leave(tx: Tx, instance_id: str) -> None:
    """Take an instance out of its host's desired set; its row and ports go when the host no longer reports it."""
    tx.update(t.instances, instance_id, {"leaving": True})
    tx.touch(tx.column(sa.select(t.instances.c.host).where(t.instances.c.id == instance_id)))


def remove(tx: Tx, instances: Iterable[Row], *, confirmed: bool = False) -> None:
    """Nothing of these stays here. Unless their hosts have confirmed that they are gone, these hear of it when they ask."""
    gone = list(instances)
    port_ids = [one["vrrp_port_id"] for one in gone]
    for one in gone:
        if one["kind"] == InstanceKind.GATEWAY:
            port_ids += [port["id"] for port in ports_by_network(tx, one["id"]).values()]
    tx.delete(t.instances, [one["id"] for one in gone])
    ports.delete(tx, port_ids)
    if not confirmed:
        tx.insert(t.departures, [{"instance_id": one["id"], "host": one["host"]} for one in gone])


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


def way_out(tx: Tx, router: Row) -> dict[str, str] | None:
    """The router's IPv4 address on its external network; None without a gateway, or without an address on it."""
    port_id = router["gateway_port_id"]
    if router["external_network_id"] is None or port_id is None:
        return None
    return next((one for one in ports.fixed_ips(tx, [port_id]).get(port_id, []) if ":" not in one["ip_address"]), None)


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
    if not inside or not router["admin_state_up"] or way_out(tx, router) is None:
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


def _gateway_ports(tx: Tx, instance_id: str) -> list[Row]:
    """A gateway's own ports. Tenants can write an instance's id into `device_id`, but not this owner."""
    c = n.ports.c
    query = sa.select(n.ports).where(c.device_id == instance_id, c.device_owner == ports.ROUTER_INSTANCE)
    return tx.all(query.order_by(c.id))


def ports_by_network(tx: Tx, instance_id: str) -> dict[str, Row]:
    """A gateway's own ports, one a network."""
    return {row["network_id"]: row for row in _gateway_ports(tx, instance_id)}


def sync_gateway_ports(tx: Tx, router: Row, instance: Row) -> None:
    """One own address per router interface for each instance; the first one carries VRRP."""
    have, wanted = ports_by_network(tx, instance["id"]), interfaces(tx, router["id"])
    kept = {one["network_id"] for one in wanted}
    ports.delete(tx, [row["id"] for network_id, row in have.items() if network_id not in kept])
    for one in wanted:
        if one["network_id"] not in have:
            values = {
                "name": f"gateway-{instance['id']}", "device_owner": ports.ROUTER_INSTANCE,
                "device_id": instance["id"], "project_id": router["project_id"],
            }  # fmt: skip
            have[one["network_id"]] = ports.create(tx, one["network"], values, [{"subnet_id": one["subnet_id"]}])
    if wanted:
        first = have[wanted[0]["network_id"]]
        address = ports.fixed_ips(tx, [first["id"]])[first["id"]][0]["ip_address"]
        values = {"vrrp_port_id": first["id"], "vrrp_address": address}
        if any(instance[name] != value for name, value in values.items()):
            tx.update(t.instances, instance["id"], values)
