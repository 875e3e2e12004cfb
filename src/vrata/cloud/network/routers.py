"""Routers (Neutron v2.0): the way out of tenant networks; each with a gateway is carried by a pair of instances."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import carry
from vrata.cloud.fields import UUID, Field, Problem
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.network import choice, plan, ports, quotas, routes, uses
from vrata.cloud.network import tables as t
from vrata.cloud.network.networks import NETWORKS
from vrata.cloud.network.ports import invalid
from vrata.cloud.network.ports_api import PORTS
from vrata.cloud.network.resource import NAMED, Resource, authorize, base_view, find, store_update, touch
from vrata.cloud.network.subnets import SUBNETS
from vrata.cloud.store import Row

SNAT = Field("bool")


def _view(call: Call, rows: list[Row]) -> list[Row]:
    fixed = ports.fixed_ips(call.tx, [row["gateway_port_id"] for row in rows if row["gateway_port_id"]])
    out = []
    for row in rows:
        view = base_view(row)
        network_id, port_id = view.pop("external_network_id"), view.pop("gateway_port_id")
        snat = view.pop("enable_snat")
        view.pop("generation")
        view["external_gateway_info"] = network_id and {
            "network_id": network_id, "enable_snat": snat, "external_fixed_ips": fixed.get(port_id, [])
        }  # fmt: skip
        view |= {
            "routes": row["routes"] or [], "ha": True, "distributed": False, "flavor_id": None,
            "availability_zones": ["nova"], "availability_zone_hints": [],
        }  # fmt: skip
        out.append(view)
    return out


def _create(call: Call, row: Row) -> Row:
    gateway = row.pop("external_gateway_info", None)
    if row.get("routes"):
        raise ApiError(
            400, f"Invalid format for routes: {row['routes']}, the nexthop is not connected with router",
            "InvalidRoutes",
        )  # fmt: skip
    for ignored in ("ha", "distributed", "availability_zone_hints"):
        row.pop(ignored, None)
    row |= {"external_network_id": None, "gateway_port_id": None, "enable_snat": True, "generation": 1}
    call.tx.insert(t.routers, row)
    _set_gateway(call, row, gateway)
    return row


def _update(call: Call, row: Row, values: Row) -> None:
    for ignored in ("ha", "distributed", "availability_zone_hints"):
        values.pop(ignored, None)
    if "external_gateway_info" in values:
        _set_gateway(call, row, values.pop("external_gateway_info"))
    if "routes" in values:
        values["routes"] = routes.checked(call, row, values["routes"])
    store_update(call, ROUTERS, row, values)
    carry.router_changed(call.tx, row["id"], call.settings)


def _set_gateway(call: Call, row: Row, gateway: dict[str, Any] | None) -> None:
    """Set, change or clear the external gateway."""
    if gateway and not gateway.keys() <= {"network_id", "enable_snat", "external_fixed_ips", "qos_policy_id"}:
        raise invalid(f"Invalid data format for external_gateway_info: '{gateway}'")
    network_id = (gateway or {}).get("network_id")
    if network_id is not None and not (isinstance(network_id, str) and UUID.match(network_id)):
        raise invalid(
            f"Invalid input for external_gateway_info. Reason: network_id '{network_id}' is not a valid UUID."
        )
    if gateway and network_id is None and gateway.keys() - {"network_id"}:
        raise invalid("Invalid data format for external_gateway_info: network_id is missing")
    try:
        snat = SNAT.check("enable_snat", (gateway or {}).get("enable_snat"))
    except Problem as problem:
        raise invalid("Invalid input for external_gateway_info. Reason: enable_snat is not true or false.") from problem
    used = call.tx.value(sa.select(t.floating_ips.c.id).where(t.floating_ips.c.router_id == row["id"]))
    if used and row["external_network_id"] and network_id != row["external_network_id"]:
        raise ApiError(
            409, f"Gateway cannot be updated for router {row['id']}, since a gateway to external network "
            f"{row['external_network_id']} is required by one or more floating IPs.",
            "RouterExternalGatewayInUseByFloatingIp",
        )  # fmt: skip
    wanted = (gateway or {}).get("external_fixed_ips")
    check_fixed(wanted)
    if wanted and not call.caller.admin:
        raise ApiError(
            403, "(rule:create_router:external_gateway_info:external_fixed_ips) is disallowed by policy: the address "
            "of a router's gateway is chosen by an administrator, or not at all.", "PolicyNotAuthorized",
        )  # fmt: skip
    if snat is False and not call.caller.admin:  # packets would leave with whatever source a tenant's subnet has
        raise ApiError(
            403, "(rule:create_router:external_gateway_info:enable_snat) is disallowed by policy: only an administrator "
            "may set enable_snat to false; leave it out.", "PolicyNotAuthorized",
        )  # fmt: skip
    keep = row["gateway_port_id"] if network_id == row["external_network_id"] and wanted is None else None
    if row["gateway_port_id"] and keep is None:
        call.tx.update(t.routers, row["id"], {"gateway_port_id": None, "external_network_id": None})
        ports.delete(call.tx, row["gateway_port_id"])
    if network_id is None:
        return
    if keep is None:
        network = find(call, NETWORKS, network_id)
        if not network["router_external"]:
            raise ApiError(400, f"Bad router request: Network {network_id} is not an external network.", "BadRequest")
        for one in wanted or ():
            choice.check(call, network, one.get("ip_address"), field="external_fixed_ips")
        values = {"device_owner": ports.ROUTER_GATEWAY, "device_id": row["id"], "project_id": ""}
        keep = ports.create(call.tx, network, values, wanted or None)["id"]
    values = {"external_network_id": network_id, "gateway_port_id": keep}
    call.tx.update(t.routers, row["id"], values | ({} if snat is None else {"enable_snat": snat}))


def _delete(call: Call, row: Row) -> None:
    if _interface_ports(call, row["id"]):
        raise ApiError(409, f"Router {row['id']} still has ports", "RouterInUse")
    _set_gateway(call, row, None)
    # Its instances leave with it: their hosts drop what is no longer desired, the rows hold no address any more.
    carried = carry.instances_of(call.tx, row["id"])
    carry.touch_owner(call.tx, row["id"])
    carry.remove(call.tx, carried)
    call.tx.delete(t.routers, row["id"])


def _interface_ports(call: Call, router_id: str) -> list[Row]:
    return call.tx.all(
        sa.select(t.ports).where(t.ports.c.device_id == router_id, t.ports.c.device_owner == ports.ROUTER_INTERFACE)
    )


def _interface_body(call: Call) -> dict[str, str]:
    """subnet_id, port_id or both; 400 for a value that is no id."""
    body = call.body if isinstance(call.body, dict) else {}
    given = {name: body[name] for name in ("subnet_id", "port_id") if name in body}
    for name, value in given.items():
        if not isinstance(value, str) or not UUID.match(value):
            raise invalid(f"Invalid input for {name}. Reason: '{value}' is not a valid UUID.")
    return given


def _add_interface(call: Call) -> Answer:
    authorize(call, write=True)
    body = _interface_body(call)
    if ("subnet_id" in body) == ("port_id" in body):
        raise ApiError(400, "Bad router request: Either subnet_id or port_id must be specified.", "BadRequest")
    if "subnet_id" in body:  # quotas are locked before routers
        quotas.take(call, "port", find(call, ROUTERS, call.path["id"])["project_id"])
    router = find(call, ROUTERS, call.path["id"], change=True)
    touch(call, t.routers, router["id"])
    if "port_id" in body:
        port = find(call, PORTS, body["port_id"], change=True)
        if port["device_id"]:
            raise ApiError(
                409, f"Unable to complete operation on port {port['id']} for network {port['network_id']}. Port "
                f"already has an attached device {port['device_id']}.", "PortInUse",
            )  # fmt: skip
        uses.keep_device(call, port, {"device_id": router["id"]})
        port["fixed_ips"] = ports.fixed_ips(call.tx, [port["id"]]).get(port["id"], [])
        if not port["fixed_ips"]:
            raise ApiError(400, "Bad router request: Router port must have at least one fixed IP.", "BadRequest")
        for place in port["fixed_ips"]:
            subnet = call.tx.get(t.subnets, place["subnet_id"])
            assert subnet is not None
            _no_overlap(call, router, subnet)
        values = {"device_id": router["id"], "device_owner": ports.ROUTER_INTERFACE, "status": "ACTIVE"}
        touch(call, t.ports, port["id"], values)
    else:
        port = _port_for(call, router, body["subnet_id"])
    carry.router_changed(call.tx, router["id"], call.settings)
    return Answer(body=_interface(router, port))


def _port_for(call: Call, router: Row, subnet_id: str) -> Row:
    subnet = find(call, SUBNETS, subnet_id)
    if subnet["gateway_ip"] is None:
        raise ApiError(400, "Bad router request: Subnet for router interface must have a gateway IP.", "BadRequest")
    _no_overlap(call, router, subnet)
    network = call.tx.get(t.networks, subnet["network_id"])
    assert network is not None
    if not call.caller.admin and network["project_id"] != call.caller.project_id:
        # The interface takes the gateway's address: everybody on the network would send through this router.
        raise ApiError(
            400, f"Bad router request: Cannot add interface to router because subnet {subnet_id} is not owned by project "
            "making the request.", "BadRequest",
        )  # fmt: skip
    if ports.address_taken(call.tx, network["id"], subnet["gateway_ip"]):
        raise ApiError(
            409, f"Unable to complete operation for network {network['id']}. The IP address {subnet['gateway_ip']} is "
            "in use.", "IpAddressInUse",
        )  # fmt: skip
    values = {
        "device_owner": ports.ROUTER_INTERFACE, "device_id": router["id"], "project_id": router["project_id"]
    }  # fmt: skip
    return ports.create(call.tx, network, values, [{"subnet_id": subnet_id, "ip_address": subnet["gateway_ip"]}])


def _no_overlap(call: Call, router: Row, subnet: Row) -> None:
    """400 if the router has a leg in the subnet, or in one that shares addresses with it."""
    cidr = ipaddress.ip_network(subnet["cidr"])
    query = (
        sa.select(t.subnets)
        .join(t.addresses, t.addresses.c.subnet_id == t.subnets.c.id)
        .join(t.ports, t.ports.c.id == t.addresses.c.port_id)
        .where(
            t.ports.c.device_id == router["id"],
            t.ports.c.device_owner.in_([ports.ROUTER_INTERFACE, ports.ROUTER_GATEWAY]),
        )
    )
    for other in call.tx.all(query):
        theirs = ipaddress.ip_network(other["cidr"])
        if other["id"] == subnet["id"]:
            raise ApiError(
                400, f"Bad router request: Router already has a port on subnet {subnet['id']}.", "BadRequest"
            )
        if theirs.version == cidr.version and theirs.overlaps(cidr):
            raise ApiError(
                400, f"Bad router request: Cidr {cidr} of subnet {subnet['id']} overlaps with cidr {theirs} of subnet "
                f"{other['id']}.", "BadRequest",
            )  # fmt: skip


def _remove_interface(call: Call) -> Answer:
    authorize(call, write=True)
    body = _interface_body(call)
    router = find(call, ROUTERS, call.path["id"], change=True)
    for port in _interface_ports(call, router["id"]):
        port["fixed_ips"] = ports.fixed_ips(call.tx, [port["id"]]).get(port["id"], [])
        subnets = {one["subnet_id"] for one in port["fixed_ips"]}
        if port["id"] == body.get("port_id") or ("port_id" not in body and body.get("subnet_id") in subnets):
            if body.get("subnet_id", min(subnets)) not in subnets:
                raise ApiError(
                    409, f"Subnet on port {port['id']} does not match the requested subnet {body['subnet_id']}.",
                    "SubnetMismatchForPort",
                )  # fmt: skip
            routes.unused(call, router, subnets)
            _unused(call, router["id"], subnets)
            answer = _interface(router, port)
            touch(call, t.routers, router["id"])
            ports.delete(call.tx, port["id"])
            carry.router_changed(call.tx, router["id"], call.settings)
            return Answer(body=answer)
    if not ("subnet_id" in body or "port_id" in body):
        raise invalid("Either subnet_id or port_id must be specified.")
    if "port_id" in body:
        raise ApiError(
            404, f"Router {router['id']} does not have an interface with id {body['port_id']}",
            "RouterInterfaceNotFound",
        )  # fmt: skip
    raise ApiError(
        404, f"Router {router['id']} has no interface on subnet {body['subnet_id']}",
        "RouterInterfaceNotFoundForSubnet",
    )  # fmt: skip


def _unused(call: Call, router_id: str, subnets: set[str]) -> None:
    """409 while a floating IP goes through this interface."""
    used = call.tx.value(
        sa.select(t.addresses.c.subnet_id)
        .join(t.floating_ips, t.floating_ips.c.port_id == t.addresses.c.port_id)
        .where(t.floating_ips.c.router_id == router_id, t.addresses.c.subnet_id.in_(subnets))
    )
    if used:
        raise ApiError(
            409, f"Router interface for subnet {used} on router {router_id} cannot be deleted, as it is required by "
            "one or more floating IPs.", "RouterInterfaceInUseByFloatingIP",
        )  # fmt: skip


def _interface(router: Row, port: Row) -> Row:
    subnet_ids = [one["subnet_id"] for one in port["fixed_ips"]]
    return {
        "id": router["id"], "tenant_id": router["project_id"], "project_id": router["project_id"],
        "port_id": port["id"], "network_id": port["network_id"], "subnet_id": subnet_ids[0],
        "subnet_ids": subnet_ids, "tags": [],
    }  # fmt: skip


def check_fixed(wanted: Any) -> None:
    """400 unless it is a list of addresses or subnets, as `fixed_ips` of a port is."""
    for one in wanted or () if isinstance(wanted, list | None) else (wanted,):
        if not isinstance(one, dict) or not one or not one.keys() <= {"subnet_id", "ip_address"}:
            raise invalid(f"Invalid data format for fixed IP: '{one}'")
        if "ip_address" in one and plan.address(one["ip_address"]) is None:
            raise invalid(f"'{one['ip_address']}' is not a valid IP address")


def _change_routes(call: Call) -> Answer:
    """Add or remove some routes; what is there already, or not, is no error."""
    authorize(call, write=True)
    router = find(call, ROUTERS, call.path["id"], change=True)
    body = call.body.get("router") if isinstance(call.body, dict) else None
    if not isinstance(body, dict) or not isinstance(body.get("routes"), list):
        raise invalid("Invalid input for routes. Reason: a list of routes is required.")
    asked, have = routes.parsed(body["routes"]), list(router["routes"] or ())
    if call.url.endswith("/add_extraroutes"):
        after = routes.checked(call, router, have + [route for route in asked if route not in have])
    else:
        after = [route for route in have if route not in asked]
    store_update(call, ROUTERS, router, {"routes": after})
    carry.router_changed(call.tx, router["id"], call.settings)
    return Answer(body={"router": _view(call, [find(call, ROUTERS, router["id"])])[0]})


ROUTERS = Resource(
    "router", "routers", "Router", t.routers,
    {
        **NAMED,
        "admin_state_up": Field("bool", default=True),
        "external_gateway_info": Field("dict"),
        "routes": Field("list"),
        "ha": Field("bool"),
        "distributed": Field("bool"),
        "availability_zone_hints": Field("strings"),
    },
    _view, create=_create, update=_update, delete=_delete, shown=frozenset({"flavor_id", "availability_zones"}),
    hidden=frozenset({"external_network_id", "gateway_port_id", "enable_snat", "generation"}),
)  # fmt: skip

INTERFACES = [
    Endpoint("PUT", "/routers/{id}/add_router_interface", _add_interface, write=True),
    Endpoint("PUT", "/routers/{id}/remove_router_interface", _remove_interface, write=True),
    Endpoint("PUT", "/routers/{id}/add_extraroutes", _change_routes, write=True),
    Endpoint("PUT", "/routers/{id}/remove_extraroutes", _change_routes, write=True),
]
