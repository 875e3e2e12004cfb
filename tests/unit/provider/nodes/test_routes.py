"""Routes to the pods of nodes: what comes, what goes, what is others'."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube.objects import Node
from vrata.provider.nodes.routes import Route, plan_pairs, plan_routes, wanted_routes

CLUSTERS = ("10.244.0.0/16", "fd00:244::/32")


def node(name: str, *addresses: str, cidrs: tuple[str, ...] = ()) -> Node:
    status = {"addresses": [{"type": "InternalIP", "address": one} for one in addresses]}
    spec = {"podCIDR": cidrs[0] if cidrs else "", "podCIDRs": list(cidrs)}
    return msgspec.convert({"metadata": {"name": name}, "spec": spec, "status": status}, Node)


def rows(*routes: Route) -> list[dict[str, str]]:
    return [{"destination": one.destination, "nexthop": one.nexthop} for one in routes]


def test_each_family_goes_by_the_nodes_address_of_that_family() -> None:
    both = node("a", "10.0.0.5", "fd00::5", cidrs=("10.244.1.0/24", "fd00:244:1::/64"))
    four = node("b", "10.0.0.6", cidrs=("10.244.2.0/24", "fd00:244:2::/64"))
    assert wanted_routes([both, four, node("c", "10.0.0.7")]) == {
        Route("10.244.1.0/24", "10.0.0.5"),
        Route("fd00:244:1::/64", "fd00::5"),
        Route("10.244.2.0/24", "10.0.0.6"),
    }


def test_what_is_new_comes_before_what_is_old_goes_and_others_stay() -> None:
    moved, foreign = Route("10.244.1.0/24", "10.0.0.9"), Route("192.168.0.0/24", "10.0.0.1")
    wanted = frozenset({Route("10.244.1.0/24", "10.0.0.5")})
    add, remove = plan_routes("r", rows(moved, foreign), wanted, CLUSTERS)
    assert add.path == "/v2.0/routers/r/add_extraroutes"
    assert add.body == {"router": {"routes": rows(*wanted)}}
    assert remove.path == "/v2.0/routers/r/remove_extraroutes"
    assert remove.body == {"router": {"routes": rows(moved)}}


routes = st.builds(
    Route,
    st.sampled_from(["10.244.1.0/24", "10.244.2.0/24", "fd00:244:1::/64", "192.168.0.0/24", "0.0.0.0/0"]),
    st.sampled_from(["10.0.0.5", "10.0.0.6"]),
)
ours = routes.filter(lambda one: one.destination.startswith(("10.244", "fd00")))


@given(st.frozensets(routes), st.frozensets(ours))
def test_one_plan_is_enough_and_touches_nothing_else(known: frozenset[Route], wanted: frozenset[Route]) -> None:
    after = set(known)
    for call in plan_routes("r", rows(*known), wanted, CLUSTERS):
        assert call.body
        changed = {Route(one["destination"], one["nexthop"]) for one in call.body["router"]["routes"]}
        after = after | changed if call.path.endswith("add_extraroutes") else after - changed
    assert {one for one in after if one.destination.startswith(("10.244", "fd00"))} == wanted
    assert after - wanted == {one for one in known if not one.destination.startswith(("10.244", "fd00"))}


def test_a_port_carries_its_nodes_pods_and_keeps_what_others_allowed() -> None:
    def port(*pairs: str) -> dict[str, Any]:
        allowed = [{"ip_address": one, "mac_address": "fa:16:3e:00:00:01"} for one in pairs]
        return {"id": "p", "fixed_ips": [{"ip_address": "10.0.0.5"}], "allowed_address_pairs": allowed}

    wanted = frozenset({Route("10.244.1.0/24", "10.0.0.5")})
    (call,) = plan_pairs([port("10.0.0.100", "10.244.9.0/24")], wanted, CLUSTERS)
    assert call.body
    allowed = [one["ip_address"] for one in call.body["port"]["allowed_address_pairs"]]
    assert allowed == ["10.0.0.100", "10.244.1.0/24"]
    assert plan_pairs([port("10.0.0.100", "10.244.1.0/24")], wanted, CLUSTERS) == ()
