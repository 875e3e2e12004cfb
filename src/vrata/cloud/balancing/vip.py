"""Finds or makes the VIP of a new load balancer: from a port, a subnet or a network (Octavia API, «VIP»)."""

import sqlalchemy as sa

from vrata.cloud.balancing import carry
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import plan, ports
from vrata.cloud.network import tables as n
from vrata.cloud.store import Row


def take_vip(call: Call, balancer_id: str, values: Row) -> Row:
    """The columns `vip_*` of a new load balancer; its port exists afterwards."""
    if values.get("vip_port_id"):
        return _from_port(call, values)
    if values.get("vip_subnet_id"):
        subnet = _visible(call, n.subnets, "Subnet", values["vip_subnet_id"])
        if values.get("vip_network_id") not in {None, subnet["network_id"]}:
            raise ApiError(400, "Validation failure: Supplied VIP subnet does not belong to the supplied network.")
    elif values.get("vip_network_id"):
        subnet = _choose_subnet(call, values["vip_network_id"], values.get("vip_address"))
    else:
        raise ApiError(400, "Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
    network = call.tx.get(n.networks, subnet["network_id"])
    assert network is not None
    fixed = {"subnet_id": subnet["id"]}
    if values.get("vip_address"):
        fixed["ip_address"] = values["vip_address"]
    port = ports.create(
        call.tx, network,
        {
            "name": f"octavia-lb-{balancer_id}", "device_id": f"lb-{balancer_id}", "project_id": values["project_id"],
            "device_owner": ports.BALANCER_OWNER, "admin_state_up": False, "status": "DOWN",
        },
        [fixed],
    )  # fmt: skip
    return _columns(port["id"], port["fixed_ips"][0], network["id"], owned=True)


def _columns(port_id: str, place: dict[str, str], network_id: str, *, owned: bool) -> Row:
    return {
        "vip_port_id": port_id, "vip_address": place["ip_address"], "vip_subnet_id": place["subnet_id"],
        "vip_network_id": network_id, "vip_port_owned": owned,
    }  # fmt: skip


def _from_port(call: Call, values: Row) -> Row:
    port = call.tx.lock(n.ports, values["vip_port_id"])
    if port is None or (port["project_id"] != values["project_id"] and not call.caller.admin):
        raise ApiError(400, f"Port {values['vip_port_id']} not found.")
    if carry.is_vip(call.tx, port["id"]) or port["device_owner"].startswith("network:"):
        raise ApiError(409, f"VIP port {port['id']} is already in use by {port['device_owner'] or 'a load balancer'}.")
    places = ports.fixed_ips(call.tx, [port["id"]]).get(port["id"], [])
    for name, key in (("vip_subnet_id", "subnet_id"), ("vip_address", "ip_address")):
        if values.get(name):
            places = [place for place in places if place[key] == values[name]]
    if not places:
        raise ApiError(400, "Validation failure: VIP port's subnet could not be determined.")
    return _columns(port["id"], places[0], port["network_id"], owned=False)


def _visible(call: Call, table: sa.Table, noun: str, row_id: str) -> Row:
    """400 as Octavia answers when the user does not see what it names."""
    row = call.tx.get(table, row_id)
    if row is not None and row["project_id"] != call.caller.project_id and not call.caller.admin:
        network = row if table is n.networks else call.tx.get(n.networks, row["network_id"])
        if network is None or not (network["shared"] or network["router_external"]):
            row = None
    if row is None:
        raise ApiError(400, f"{noun} {row_id} not found.")
    return row


def _choose_subnet(call: Call, network_id: str, address: str | None) -> Row:
    """The subnet that has the asked-for address, else the first of IPv4, else the first."""
    _visible(call, n.networks, "Network", network_id)
    query = sa.select(n.subnets).where(n.subnets.c.network_id == network_id).order_by(n.subnets.c.created_at)
    subnets = call.tx.all(query)
    if not subnets:
        raise ApiError(400, "Validation failure: Supplied network does not contain a subnet.")
    if address is None:
        return min(subnets, key=lambda subnet: int(subnet["ip_version"]))
    for subnet in subnets:
        if plan.usable(address, subnet["cidr"]):
            return subnet
    raise ApiError(400, "Validation failure: Supplied VIP address is not in any subnet of the supplied network.")
