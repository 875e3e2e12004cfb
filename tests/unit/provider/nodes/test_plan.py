"""What a Node is told about its server."""

from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube.objects import Node
from vrata.provider.nodes.model import Address, NodeSettings, Server
from vrata.provider.nodes.plan import SHUTDOWN, UNINITIALIZED, addresses, plan_node, plan_power, server_of

ID = "11111111-2222-3333-4444-555555555555"
SETTINGS = NodeSettings(region="RegionOne")
SERVER = Server(
    ID,
    "worker-0",
    flavor="m1 large",
    zone="az/1",
    addresses=(Address("tenant", "10.0.0.5"), Address("tenant", "203.0.113.9", floating=True)),
)


def raw(*taints: dict[str, str], provider_id: str = "", **metadata: Any) -> dict[str, Any]:
    spec = {"taints": list(taints), "providerID": provider_id}
    status = {"addresses": [{"type": "Hostname", "address": "worker-0"}]}
    return {"metadata": {"name": "worker-0", **metadata}, "spec": spec, "status": status}


def node(*taints: dict[str, str], **more: Any) -> Node:
    return msgspec.convert(raw(*taints, **more), Node)


NEW = {"key": UNINITIALIZED, "effect": "NoSchedule", "value": "true"}
OTHER = {"key": "mine", "effect": "NoExecute", "value": "kept"}


@pytest.mark.parametrize("labels", [{}, {"mine": "kept"}])
def test_a_new_node_is_told_everything_in_one_patch_and_keeps_what_is_others(labels: dict[str, str]) -> None:
    body = raw(OTHER, NEW, labels=labels)
    plan = plan_node(msgspec.convert(body, Node), SERVER, SETTINGS)
    after = jsonpatch.apply_patch(body, plan.patch)
    assert after["spec"] == {"taints": [OTHER], "providerID": f"openstack:///{ID}"}
    assert after["metadata"]["labels"] == labels | {
        "topology.kubernetes.io/zone": "az-1",
        "failure-domain.beta.kubernetes.io/zone": "az-1",
        "topology.kubernetes.io/region": "RegionOne",
        "failure-domain.beta.kubernetes.io/region": "RegionOne",
        "node.kubernetes.io/instance-type": "m1-large",
        "beta.kubernetes.io/instance-type": "m1-large",
    }
    assert plan.addresses == (("InternalIP", "10.0.0.5"), ("ExternalIP", "203.0.113.9"), ("Hostname", "worker-0"))


def test_a_patch_fails_if_somebody_has_moved_the_taint() -> None:
    plan = plan_node(node(NEW), SERVER, SETTINGS)
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(raw(OTHER, NEW), plan.patch)


def test_a_known_node_gets_new_addresses_only() -> None:
    plan = plan_node(node(provider_id=f"openstack:///{ID}"), SERVER, SETTINGS)
    assert plan.patch == ()
    assert plan.addresses
    settled = msgspec.convert(
        raw(provider_id=f"openstack:///{ID}")
        | {"status": {"addresses": [{"type": kind, "address": one} for kind, one in plan.addresses]}},
        Node,
    )
    assert plan_node(settled, SERVER, SETTINGS).addresses is None


def test_the_region_is_in_the_provider_id_when_asked_for() -> None:
    regional = NodeSettings(region="RegionOne", regional=True)
    patch = plan_node(node(NEW), SERVER, regional).patch
    assert {"op": "add", "path": "/spec/providerID", "value": f"openstack://RegionOne/{ID}"} in patch


def test_the_server_is_found_by_id_else_by_name_and_never_guessed() -> None:
    other = Server("99999999-2222-3333-4444-555555555555", "worker-0")
    assert server_of(node(provider_id=f"openstack:///{ID}"), [other, SERVER], SETTINGS) == (SERVER, "")
    assert server_of(node(), [SERVER], SETTINGS) == (SERVER, "")
    found, why = server_of(node(), [SERVER, other], SETTINGS)
    assert found is None
    assert "2 servers are named worker-0" in why
    for foreign in ("aws:///zone/i-1", f"openstack://RegionTwo/{ID}"):
        found, why = server_of(node(provider_id=foreign), [SERVER], SETTINGS)
        assert found is None
        assert foreign in why


def test_networks_families_and_an_order_choose_among_addresses() -> None:
    server = Server(
        ID,
        "worker-0",
        access=("198.51.100.1",),
        addresses=(
            Address("b-storage", "10.9.0.5"),
            Address("a-tenant", "10.0.0.5"),
            Address("a-tenant", "fd00::5"),
            Address("public", "192.0.2.5"),
        ),
        metadata={"hostname": "given"},
    )
    plain = addresses(node(), server, NodeSettings())
    assert [one for kind, one in plain if kind == "InternalIP"] == ["10.0.0.5", "fd00::5", "10.9.0.5", "192.0.2.5"]
    assert ("ExternalIP", "198.51.100.1") in plain
    assert [one for kind, one in plain if kind == "Hostname"] == ["given", "worker-0"]
    chosen = NodeSettings(
        ipv6=False, public_networks=("public",), internal_networks=("a-tenant",), sort_order=("192.0.2.0/24",)
    )
    assert addresses(node(), server, chosen)[:3] == (
        ("InternalIP", "10.0.0.5"),
        ("ExternalIP", "192.0.2.5"),
        ("ExternalIP", "198.51.100.1"),
    )
    given_ip = node(annotations={"alpha.kubernetes.io/provided-node-ip": "10.9.0.5"})
    assert addresses(given_ip, server, NodeSettings())[0] == ("InternalIP", "10.9.0.5")


taint_lists = st.lists(st.sampled_from([SHUTDOWN, "mine", "other"]), max_size=4, unique=True)


@given(taint_lists, st.booleans())
def test_the_taint_of_a_server_that_is_off_comes_and_goes_alone(keys: list[str], off: bool) -> None:
    taints = [{"key": key, "effect": "NoSchedule", "value": "v"} for key in keys]
    body = raw(*taints)
    after = jsonpatch.apply_patch(body, plan_power(msgspec.convert(body, Node), off=off).patch)
    assert (SHUTDOWN in {one["key"] for one in after["spec"]["taints"]}) == off
    assert [one for one in after["spec"]["taints"] if one["key"] != SHUTDOWN] == [
        one for one in taints if one["key"] != SHUTDOWN
    ]
