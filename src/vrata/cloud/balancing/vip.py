"""Finds or makes the VIP of a new load balancer: from a port, a subnet or a network (Octavia API, «VIP»)."""

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import choice, plan, ports, uses
from vrata.cloud.network import tables as n
from vrata.cloud.store import Row

NOOP_VIPS = ("198.18.33.33", "2001:db8:33:33:33:33:33:33")


def take_vip(call: Call, balancer_id: str, values: Row) -> Row:
    """The columns `vip_*` and `additional_vips` of a new load balancer; its port exists afterwards."""
    groups, more = _groups(call, values), _wanted(values.get("additional_vips"), values.get("vip_subnet_id"))
    if call.settings.noop:
        return _imagined(values, more) | {"vip_sg_ids": groups}
    columns = _found_or_made(call, balancer_id, values)
    if groups and not columns["vip_port_owned"]:
        raise _cannot("vip_sg_ids", "a port of your own has its own security groups; change them there")
    call.tx.update(n.ports, columns["vip_port_id"], {"security_groups": groups} if groups else {})
    placed = _place_more(call, columns, more)
    return columns | {"vip_sg_ids": groups, "additional_vips": placed}


def change(call: Call, balancer: Row, values: Row) -> Row:
    """What a PUT changes of VIPs: security groups and additional VIPs, each replaced as a whole."""
    out: Row = {}
    if "vip_sg_ids" in values:
        out["vip_sg_ids"] = _groups(call, values)
        if not call.settings.noop:
            call.tx.update(n.ports, balancer["vip_port_id"], {"security_groups": out["vip_sg_ids"]})
    if "additional_vips" in values:
        wanted = _wanted(values["additional_vips"], balancer["vip_subnet_id"])
        if call.settings.noop:
            out["additional_vips"] = _imagined({}, wanted)["additional_vips"]
        else:
            out["additional_vips"] = _replace_more(call, balancer, wanted)
    return out


def _groups(call: Call, values: Row) -> list[str]:
    groups = list(values.get("vip_sg_ids") or ())
    for group_id in groups:
        row = call.tx.get(n.security_groups, group_id)
        mine = row is not None and (row["project_id"] == call.caller.project_id or call.caller.admin)
        if not (mine or call.settings.noop):
            raise ApiError(400, f"Security Group {group_id} not found.")
    return groups


def _wanted(given: list[Row] | None, vip_subnet_id: str | None) -> list[Row]:
    """Additional VIPs as asked for: a subnet each, none twice, none the VIP's own."""
    seen = {vip_subnet_id} - {None}
    out = []
    for one in given or []:
        if not isinstance(one, dict) or not one.keys() <= {"subnet_id", "ip_address", "port_id", "network_id"}:
            raise _cannot("additional_vips", 'each one is {"subnet_id": …, "ip_address": …}')
        subnet_id, address = one.get("subnet_id"), one.get("ip_address")
        if not isinstance(subnet_id, str) or not (address is None or isinstance(address, str)):
            raise ApiError(400, "Validation failure: Additional VIPs must include a subnet_id.")
        if subnet_id in seen:
            raise ApiError(
                400, "Validation failure: Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet."
            )
        seen.add(subnet_id)
        out.append({"subnet_id": subnet_id, "ip_address": address})
    return out


def _cannot(field: str, why: str) -> ApiError:
    return ApiError(400, f"Validation failure: {field}: {why}.")


def _imagined(values: Row, more: list[Row]) -> Row:
    """VIPs without a network behind them, as Octavia's no-op driver makes them up."""
    address = values.get("vip_address") or NOOP_VIPS[0]
    return {
        "vip_port_id": values.get("vip_port_id") or ids.new_uuid(), "vip_address": address,
        "vip_subnet_id": values.get("vip_subnet_id") or ids.new_uuid(), "vip_port_owned": False,
        "vip_network_id": values.get("vip_network_id") or ids.new_uuid(),
        "additional_vips": [one | {"ip_address": one["ip_address"] or NOOP_VIPS[1]} for one in more],
    }  # fmt: skip


def _place_more(call: Call, columns: Row, more: list[Row]) -> list[Row]:
    """Addresses of the additional VIPs on the VIP's port."""
    if not more:
        return []
    for one in more:
        subnet = _visible(call, n.subnets, "Subnet", one["subnet_id"])
        if subnet["network_id"] != columns["vip_network_id"]:
            raise ApiError(400, "Validation failure: All VIP subnets must belong to the same network.")
    have = {place["subnet_id"]: place for place in ports.fixed_ips(call.tx, [columns["vip_port_id"]]).get(
        columns["vip_port_id"], [])}  # fmt: skip
    network = call.tx.get(n.networks, columns["vip_network_id"])
    assert network is not None
    for one in more:
        if one["subnet_id"] not in have:
            choice.check(call, network, one["ip_address"], field="additional_vips")
    missing = [
        {name: value for name, value in one.items() if value is not None}
        for one in more
        if one["subnet_id"] not in have
    ]
    for place in ports.add_addresses(call.tx, network, columns["vip_port_id"], missing):
        have[place["subnet_id"]] = place
    return [dict(have[one["subnet_id"]]) for one in more]


def _replace_more(call: Call, balancer: Row, wanted: list[Row]) -> list[Row]:
    kept = {one["subnet_id"]: one["ip_address"] for one in wanted}
    gone = [
        one["ip_address"]
        for one in balancer["additional_vips"] or ()
        if one["subnet_id"] not in kept or kept[one["subnet_id"]] not in {None, one["ip_address"]}
    ]
    if balancer["vip_port_owned"]:
        ports.drop_addresses(call.tx, balancer["vip_port_id"], gone)
    return _place_more(call, balancer, wanted)


def _found_or_made(call: Call, balancer_id: str, values: Row) -> Row:
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
        choice.check(call, network, values["vip_address"], field="vip_address")
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
    user = uses.use_of(call.tx, port) or (port["device_id"] and f"is attached to device {port['device_id']}")
    if user or port["device_owner"].startswith("network:"):
        raise ApiError(409, f"VIP port {port['id']} is already in use: it {user or 'belongs to the network service'}.")
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
