"""A router's extra routes (Neutron v2.0, «Extra route extension», «Atomic»): replaced whole, or added and removed."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import plan, ports
from vrata.cloud.network import tables as t
from vrata.cloud.network.ports import invalid
from vrata.cloud.store import Row

ROUTES_MAX = 30  # Neutron's max_routes
Route = dict[str, str]


def checked(call: Call, router: Row, asked: Any) -> list[Route]:
    """The routes in their stored form; 400 unless each next hop is a neighbour of the router."""
    routes = parsed(asked)
    if len(routes) > ROUTES_MAX:
        raise ApiError(
            400, f"Unable to complete operation for {router['id']}. The number of routes exceeds the maximum "
            f"{ROUTES_MAX}.", "RoutesExhausted",
        )  # fmt: skip
    places = _places(call, router["id"])
    cidrs = [ipaddress.ip_network(cidr) for cidr, _ in places]
    own = {address for _, address in places}
    for route in routes:
        if not any(ipaddress.ip_address(route["nexthop"]) in cidr for cidr in cidrs):
            raise _wrong([route], "the nexthop is not connected with router")
        if route["nexthop"] in own:
            raise _wrong([route], "the nexthop is used by router")
    return routes


def parsed(asked: Any) -> list[Route]:
    """The routes of a body, each once, destination first."""
    routes: list[Route] = []
    for one in asked or ():
        if not isinstance(one, dict) or one.keys() != {"destination", "nexthop"}:
            raise invalid(f"Invalid input for routes. Reason: '{one}' has not destination and nexthop.")
        target, hop = plan.network(one["destination"]), plan.address(one["nexthop"])
        if target is None or hop is None or target.version != hop.version:
            raise invalid(f"Invalid input for routes. Reason: '{one}' is not a valid route.")
        route = {"destination": str(target), "nexthop": str(hop)}
        if route not in routes:
            routes.append(route)
    return routes


def _wrong(routes: list[Route], why: str) -> ApiError:
    return ApiError(400, f"Invalid format for routes: {routes}, {why}", "InvalidRoutes")


def _places(call: Call, router_id: str) -> list[tuple[str, str]]:
    """(CIDR, own address) of every subnet the router has a leg in."""
    query = (
        sa.select(t.subnets.c.cidr, t.addresses.c.ip_address)
        .join(t.addresses, t.addresses.c.subnet_id == t.subnets.c.id)
        .join(t.ports, t.ports.c.id == t.addresses.c.port_id)
        .where(
            t.ports.c.device_id == router_id,
            t.ports.c.device_owner.in_([ports.ROUTER_INTERFACE, ports.ROUTER_GATEWAY]),
        )
    )
    return [(cidr, address) for cidr, address in call.tx.connection.execute(query)]


def unused(call: Call, router: Row, subnet_ids: set[str]) -> None:
    """409 while a route's next hop is on one of these subnets."""
    for subnet in call.tx.all(sa.select(t.subnets).where(t.subnets.c.id.in_(subnet_ids))):
        cidr = ipaddress.ip_network(subnet["cidr"])
        if any(ipaddress.ip_address(route["nexthop"]) in cidr for route in router["routes"] or ()):
            raise ApiError(
                409, f"Router interface for subnet {subnet['id']} on router {router['id']} cannot be deleted, as it "
                "is required by one or more routes.", "RouterInterfaceInUseByRoute",
            )  # fmt: skip
