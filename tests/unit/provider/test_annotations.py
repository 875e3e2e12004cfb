"""Every annotation, option and field of a Service: what it becomes in the cloud; and text that means harm becomes nothing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.provider.test_desired import NODES, make_service

from vrata.base.errors import InvalidInput
from vrata.kube.objects import EndpointSlice
from vrata.provider.annotations import INTERNAL, PREFIX, SOURCE_RANGES
from vrata.provider.bodies import balancer_body
from vrata.provider.desired import TIMEOUTS, desired, leaving, wants_balancer
from vrata.provider.floating import matching
from vrata.provider.model import BalancerClass, Desired, Pick, Settings, Subnet
from vrata.provider.plan import status_entries

A, B, C = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2, 3))
SETTINGS = Settings(
    subnet_id=A,
    floating_network_id=A,
    classes=(("gold", BalancerClass(floating_network_id=C, subnet_id=C, floating_subnet_tags="gold")),),
)


def body(annotations: dict[str, str], base: Settings = Settings(), **spec: Any) -> dict[str, Any]:  # noqa: B008
    """What the create says, with the annotations' names completed."""
    return balancer_body(wanted(annotations, base, **spec), {4: "nodes", 6: "nodes-6"})


def wanted(annotations: dict[str, str], base: Settings = Settings(), **spec: Any) -> Desired:  # noqa: B008
    full = {name if "/" in name else PREFIX + name: value for name, value in annotations.items()}
    return desired(base, make_service(full, **spec), NODES)


@pytest.mark.parametrize(
    ("annotations", "where", "value"),
    [
        ({"subnet-id": B}, ("vip_subnet_id",), B),
        ({"port-id": B}, ("vip_port_id",), B),
        ({"flavor-id": B}, ("flavor_id",), B),
        ({"availability-zone": "az-1"}, ("availability_zone",), "az-1"),
        ({"connection-limit": "7"}, ("listeners", 0, "connection_limit"), 7),
        ({"timeout-member-data": "70"}, ("listeners", 0, "timeout_member_data"), 70),
        ({"x-forwarded-for": "true"}, ("listeners", 0, "protocol"), "HTTP"),
        ({"x-forwarded-for": "true"}, ("listeners", 0, "insert_headers"), {"X-Forwarded-For": "true"}),
        ({"x-forwarded-for": "true"}, ("listeners", 0, "default_pool", "protocol"), "HTTP"),
        ({"default-tls-container-ref": "https://k/v1/containers/1"}, ("listeners", 0, "protocol"), "TERMINATED_HTTPS"),
        (
            {"default-tls-container-ref": "https://k/v1/containers/1"},
            ("listeners", 0, "default_tls_container_ref"),
            "https://k/v1/containers/1",
        ),
        ({"proxy-protocol": "true"}, ("listeners", 0, "default_pool", "protocol"), "PROXY"),
        ({"proxy-protocol": "v2"}, ("listeners", 0, "default_pool", "protocol"), "PROXYV2"),
        ({"lb-method": "SOURCE_IP"}, ("listeners", 0, "default_pool", "lb_algorithm"), "SOURCE_IP"),
        ({"member-subnet-id": B}, ("listeners", 0, "default_pool", "members", 0, "subnet_id"), B),
        ({"health-monitor-delay": "9"}, ("listeners", 0, "default_pool", "healthmonitor", "delay"), 9),
        ({"health-monitor-max-retries": "4"}, ("listeners", 0, "default_pool", "healthmonitor", "max_retries"), 4),
        (
            {SOURCE_RANGES: "192.0.2.0/24, 198.51.100.1"},
            ("listeners", 0, "allowed_cidrs"),
            ["192.0.2.0/24", "198.51.100.1/32"],
        ),
    ],
)
def test_an_annotation_stands_where_octavia_looks_for_it(
    annotations: dict[str, str], where: tuple[Any, ...], value: object
) -> None:
    found: Any = body(annotations)
    for step in where:
        found = found[step]
    assert found == value


def test_defaults_are_those_of_the_cloud() -> None:
    listener = body({})["listeners"][0]
    assert {name: listener[name] for name, _ in TIMEOUTS.values()} == dict(TIMEOUTS.values())
    assert listener["connection_limit"] == -1
    assert listener["allowed_cidrs"] == ["0.0.0.0/0"]  # as the OpenStack cloud controller writes it
    assert not {"insert_headers", "default_tls_container_ref"} & listener.keys()


def test_a_network_is_named_only_where_no_subnet_is() -> None:
    assert body({"network-id": B})["vip_network_id"] == B
    assert "vip_network_id" not in body({"network-id": B, "subnet-id": C})
    assert body({})["vip_subnet_id"] == "nodes"


def test_a_monitor_is_off_on_request_and_udp_has_its_own() -> None:
    assert "healthmonitor" not in body({"enable-health-monitor": "false"})["listeners"][0]["default_pool"]
    udp = body({}, ports=[{"port": 53, "protocol": "UDP", "nodePort": 30053}])["listeners"][0]
    assert (udp["protocol"], udp["default_pool"]["healthmonitor"]["type"]) == ("UDP", "UDP-CONNECT")


def test_proxy_forwarding_and_tls_are_for_tcp_ports_only() -> None:
    ports = [{"name": "u", "port": 53, "protocol": "UDP", "nodePort": 1}, {"name": "t", "port": 53, "nodePort": 2}]
    udp, tcp = body({"proxy-protocol": "v1"}, ports=ports)["listeners"]
    assert (udp["default_pool"]["protocol"], tcp["default_pool"]["protocol"]) == ("UDP", "PROXY")


def test_affinity_has_a_time_where_pools_take_one() -> None:
    config = {"clientIP": {"timeoutSeconds": 60}}
    spec: dict[str, Any] = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    udp = body({}, ports=[{"port": 53, "protocol": "UDP", "nodePort": 1}], **spec)["listeners"][0]["default_pool"]
    assert udp["session_persistence"] == {"type": "SOURCE_IP", "persistence_timeout": 60}
    tcp = wanted({}, **spec)
    assert tcp.listeners[0].pool.persistence_timeout_s is None
    assert [note.reason for note in tcp.notes] == ["SessionAffinityTimeoutIgnored"]


def test_ovn_balances_below_tcp_and_says_what_it_leaves_out() -> None:
    ovn = Settings(provider="ovn")
    listener = body({}, ovn)["listeners"][0]
    assert listener["default_pool"]["lb_algorithm"] == "SOURCE_IP_PORT"
    assert "timeout_client_data" not in listener
    notes = wanted({}, ovn, loadBalancerSourceRanges=["192.0.2.0/24"]).notes
    assert [note.reason for note in notes] == ["LoadBalancerSourceRangesIgnored"]


def test_a_class_stands_above_annotations_and_settings_for_external_services() -> None:
    found = wanted({"class": "gold", "floating-network-id": B, "subnet-id": B}, SETTINGS)
    assert found.pick == Pick(network_id=C, subnet_tags="gold")
    assert found.vip.subnet_id == C
    assert wanted({"class": "gold", INTERNAL: "true"}, SETTINGS).vip.subnet_id == A
    assert wanted({"floating-network-id": B}, SETTINGS).pick.network_id == B


def test_a_port_without_a_node_port_has_no_members_and_says_so() -> None:
    found = wanted({}, ports=[{"port": 80}], allocateLoadBalancerNodePorts=False)
    assert found.listeners[0].pool.members == frozenset()
    assert found.notes[0].reason == "NoNodePort"


def test_pods_are_members_ready_ones_before_those_that_end() -> None:
    def entry(address: str, *, ready: bool) -> dict[str, Any]:
        return {"addresses": [address], "conditions": {"ready": ready, "serving": True, "terminating": not ready}}

    def members(*endpoints: dict[str, Any]) -> set[tuple[str, int]]:
        labels = {"kubernetes.io/service-name": "web"}
        raw = {"metadata": {"name": "s", "namespace": "default", "labels": labels}, "ports": [{"port": 8080}]}
        slices = [msgspec.convert({**raw, "endpoints": endpoints}, EndpointSlice)]
        found = desired(Settings(), make_service({"vrata.dev/target": "pod"}), NODES, slices)
        return {(one.address, one.port) for one in found.listeners[0].pool.members}

    assert members(entry("10.20.0.5", ready=True), entry("10.20.0.6", ready=False)) == {("10.20.0.5", 8080)}
    assert members(entry("10.20.0.6", ready=False)) == {("10.20.0.6", 8080)}


def test_addresses_are_shown_as_asked() -> None:
    assert status_entries(wanted({"hostname": "web.example"}), ["192.0.2.1"]) == [{"hostname": "web.example"}]
    proxy = wanted({"proxy-protocol": "v2"})
    assert status_entries(proxy, ["192.0.2.1"]) == [{"ip": "192.0.2.1", "ipMode": "Proxy"}]
    nip = wanted({"proxy-protocol": "v2"}, Settings(ingress_hostname=True))
    assert status_entries(nip, ["192.0.2.1"]) == [{"hostname": "192.0.2.1.nip.io"}]


def test_only_our_classes_are_served() -> None:
    assert wants_balancer(make_service())
    assert wants_balancer(make_service(loadBalancerClass="vrata.dev/fast"))
    assert not wants_balancer(make_service(loadBalancerClass="example.com/other"))
    assert not wants_balancer(make_service(type="ClusterIP"))


def test_what_is_wrong_with_a_service_does_not_keep_it_from_leaving() -> None:
    found = leaving(Settings(), make_service({PREFIX + "load-balancer-id": "nonsense", PREFIX + "class": "none"}))
    assert (found.balancer_id, found.listeners) == ("", ())


SUBNETS = [
    Subnet("1", "public-a", frozenset({"gold", "x"})),
    Subnet("2", "public-b", frozenset({"x"})),
    Subnet("3", "private"),
    Subnet("4", "public-six", frozenset({"gold"}), 6),
]


@pytest.mark.parametrize(
    ("pick", "ids"),
    [
        (Pick(subnet="public-*"), "12"),
        (Pick(subnet="!public-*"), "3"),
        (Pick(subnet="~^p.*b$"), "2"),
        (Pick(subnet="!~public"), "3"),
        (Pick(subnet_tags="gold"), "1"),
        (Pick(subnet_tags="gold,x"), "12"),
        (Pick(subnet_tags="gold&x"), "1"),
        (Pick(subnet_tags="!gold"), "23"),
        (Pick(subnet="public-*", subnet_tags="!gold"), "2"),
    ],
)
def test_patterns_and_tags_choose_floating_subnets(pick: Pick, ids: str) -> None:
    assert "".join(one.id for one in matching(pick, SUBNETS)) == ids


@pytest.mark.parametrize("pattern", ["nothing", "~(a+)+$", "~(.|.)*!", "~[", "~a*b*c*d*e*", "~" + "a" * 200])
def test_a_pattern_that_finds_nothing_or_may_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="floating-subnet"):
        matching(Pick(subnet=pattern), SUBNETS)


NAMES = ["class", "connection-limit", "lb-method", "proxy-protocol", "x-forwarded-for", "flavor-id", "subnet-id", "hostname",
         "default-tls-container-ref", "node-selector", "timeout-client-data", "health-monitor-delay", "load-balancer-id",
         "enable-health-monitor", "keep-floatingip", SOURCE_RANGES, INTERNAL, "vrata.dev/target"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40), max_size=4))
@settings(max_examples=200)
def test_any_text_is_understood_or_refused_by_name(annotations: dict[str, str]) -> None:
    for problem in wanted(annotations).problems:
        assert any(name in problem.field for name in annotations)
        assert problem.remedy
        assert problem.blocks
