"""Which endpoints answer on a node, and that changes to the ruleset are small and complete."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube.objects import EndpointSlice, Service
from vrata.net.flows import Flow, Frontends, Target, parse_flows, stale_flows
from vrata.nodeport.model import HAIRPINS, PortView, Rules
from vrata.nodeport.plan import Here, frontends_of, plan_change, view_health, view_service
from vrata.nodeport.render import render_leftovers, render_rules, render_transaction


def make_service(**spec: object) -> Service:
    ports = [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]
    body = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": ports, **spec},
    }
    return msgspec.convert(body, Service)


def make_slice(*endpoints: tuple[str, str, dict[str, bool]]) -> EndpointSlice:
    body = {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "nodeName": node, "conditions": state} for ip, node, state in endpoints],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    return msgspec.convert(body, EndpointSlice)


READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
NOT_READY = {"ready": False, "serving": False, "terminating": False}


def addresses(targets: Iterable[Target]) -> list[str]:
    return [target.address for target in targets]


def test_only_ready_endpoints_answer() -> None:
    slices = [make_slice(("10.20.0.2", "a", READY), ("10.20.0.3", "a", NOT_READY), ("10.20.0.4", "a", LEAVING))]
    (view,) = view_service(make_service(), slices, Here("a"))
    assert addresses(view.internal) == ["10.20.0.2"]


def test_terminating_endpoints_answer_when_no_other_does() -> None:
    slices = [make_slice(("10.20.0.3", "a", NOT_READY), ("10.20.0.4", "a", LEAVING))]
    (view,) = view_service(make_service(), slices, Here("a"))
    assert addresses(view.internal) == ["10.20.0.4"]


def test_local_policy_keeps_outside_traffic_on_the_node() -> None:
    slices = [make_slice(("10.20.0.2", "a", READY), ("10.20.1.2", "b", READY))]
    (view,) = view_service(make_service(externalTrafficPolicy="Local"), slices, Here("a"))
    assert addresses(view.external) == ["10.20.0.2"]
    assert addresses(view.internal) == ["10.20.0.2", "10.20.1.2"]


def test_the_health_port_counts_this_nodes_ready_pods() -> None:
    service = make_service(externalTrafficPolicy="Local", healthCheckNodePort=31000)
    slices = [make_slice(("10.20.0.2", "a", READY), ("10.20.0.3", "a", LEAVING), ("10.20.1.2", "b", READY))]
    health = view_health(service, slices, Here("a"))
    assert health
    assert (health.port, health.local_endpoints) == (31000, 1)
    assert view_health(make_service(), slices, Here("a")) is None


def test_headless_services_need_no_rules() -> None:
    assert view_service(make_service(clusterIP="None", clusterIPs=["None"]), [], Here("a")) == ()


targets = st.lists(
    st.builds(Target, address=st.sampled_from(["10.20.0.2", "10.20.0.3", "10.20.1.4"]), port=st.just(8080)),
    max_size=3,
    unique=True,
).map(tuple)
views = st.lists(
    st.builds(
        PortView,
        service=st.just("default/web"),
        name=st.sampled_from(["http", "dns", "x; flush ruleset"]),
        protocol=st.sampled_from(["tcp", "udp"]),
        cluster_ips=st.just(("10.96.0.5",)),
        port=st.sampled_from([53, 80]),
        node_port=st.sampled_from([0, 30080, 30081]),
        internal=targets,
        external=targets,
        external_local=st.booleans(),
        affinity_s=st.sampled_from([0, 60]),
        everywhere=targets,
        external_ips=st.sampled_from([(), ("198.51.100.7",)]),
        source_ranges=st.sampled_from([(), ("192.0.2.0/24",)]),
    ),
    max_size=3,
    unique_by=(lambda view: (view.protocol, view.port), lambda view: (view.protocol, view.node_port)),
).map(tuple)


@given(views, views)
def test_a_change_leads_from_any_ruleset_to_any_other(old: tuple[PortView, ...], new: tuple[PortView, ...]) -> None:
    observed, desired = render_rules(old), render_rules(new)
    change = plan_change(observed, desired)
    chains = {name: rules for name, rules in observed.chains.items() if name not in change.delete_chains}
    chains |= dict(change.fill_chains)
    elements = dict(observed.elements)
    for key, value in change.delete_elements:
        assert elements.pop(key) == value
    for key, value in change.add_elements:
        assert key not in elements or key[1] == HAIRPINS
        elements[key] = value
    assert chains.items() >= desired.chains.items()
    assert chains.keys() - desired.chains.keys() <= {*observed.shared, *desired.shared}
    there = {*observed.shared, *observed.maps, *dict(change.fill_chains), *dict(change.add_maps)}
    assert there >= {*desired.shared, *desired.maps}
    kept = {key for key in elements if key not in desired.elements}
    assert all(key[1] == HAIRPINS for key in kept), "only hairpins, right for any pod, may stay"
    assert {key: value for key, value in elements.items() if key not in kept} == desired.elements


@given(views)
def test_a_settled_ruleset_needs_no_transaction(view: tuple[PortView, ...]) -> None:
    rules = render_rules(view)
    assert plan_change(rules, rules).is_empty()


@given(views)
def test_no_text_of_a_user_enters_the_ruleset(view: tuple[PortView, ...]) -> None:
    change = plan_change(Rules(), render_rules(view))
    text = render_transaction(change) + render_leftovers(plan_change(render_rules(view), Rules()))
    assert "flush ruleset" not in text
    assert "default/web" not in text


HINTED = {"a": "zone-a", "b": "zone-b"}


@pytest.mark.parametrize(
    ("hints", "here", "answer"),
    [
        ({}, Here("a", "zone-a"), ["10.20.0.2", "10.20.1.2"]),
        ({"forZones": True}, Here("a", "zone-a"), ["10.20.0.2"]),
        ({"forZones": True}, Here("b", "zone-b"), ["10.20.1.2"]),
        ({"forZones": True}, Here("c", "zone-c"), ["10.20.0.2", "10.20.1.2"]),
        ({"forZones": True}, Here("a"), ["10.20.0.2", "10.20.1.2"]),
        ({"forZones": True, "forNodes": True}, Here("b", "zone-a"), ["10.20.1.2"]),
        ({"forZones": True, "forNodes": True}, Here("c", "zone-a"), ["10.20.0.2"]),
    ],
)
def test_hints_keep_traffic_near(hints: dict[str, bool], here: Here, answer: list[str]) -> None:
    """trafficDistribution PreferSameZone and PreferSameNode: the slices say for whom an endpoint is."""
    endpoints = []
    for ip, node in (("10.20.0.2", "a"), ("10.20.1.2", "b")):
        names = {"forZones": [{"name": HINTED[node]}], "forNodes": [{"name": node}]}
        given = {kind: names[kind] for kind in hints}
        endpoints.append(
            {"addresses": [ip], "nodeName": node, "conditions": READY, **({"hints": given} if given else {})}
        )
    body = msgspec.to_builtins(make_slice()) | {"endpoints": endpoints}
    [view] = view_service(make_service(), [msgspec.convert(body, EndpointSlice)], here)
    assert addresses(view.internal) == addresses(view.external) == answer
    local = make_service(externalTrafficPolicy="Local")
    [view] = view_service(local, [msgspec.convert(body, EndpointSlice)], here)
    assert len(view.everywhere) == 2


def test_one_endpoint_without_a_hint_takes_all_hints_away() -> None:
    hinted = {"addresses": ["10.20.0.2"], "conditions": READY, "hints": {"forZones": [{"name": "zone-a"}]}}
    plain = {"addresses": ["10.20.1.2"], "conditions": READY}
    body = msgspec.to_builtins(make_slice()) | {"endpoints": [hinted, plain]}
    [view] = view_service(make_service(), [msgspec.convert(body, EndpointSlice)], Here("a", "zone-a"))
    assert len(view.internal) == 2


def test_both_families_are_served_each_with_its_own_endpoints() -> None:
    service = make_service(clusterIPs=["10.96.0.5", "fd00:96::5"], externalIPs=["198.51.100.7", "2001:db8::7"])
    six = msgspec.to_builtins(make_slice()) | {
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00:20::2"], "conditions": READY}],
    }
    slices = [make_slice(("10.20.0.2", "a", READY)), msgspec.convert(six, EndpointSlice)]
    four, other = view_service(service, slices, Here("a"))
    assert (four.family, four.cluster_ips, four.external_ips) == ("ip", ("10.96.0.5",), ("198.51.100.7",))
    assert (other.family, other.cluster_ips, other.external_ips) == ("ip6", ("fd00:96::5",), ("2001:db8::7",))
    assert (addresses(four.internal), addresses(other.internal)) == (["10.20.0.2"], ["fd00:20::2"])


@pytest.mark.parametrize(("mode", "found"), [("VIP", ("192.0.2.7",)), ("", ("192.0.2.7",)), ("Proxy", ())])
def test_a_balancers_address_is_the_nodes_own_matter_only_as_a_vip(mode: str, found: tuple[str, ...]) -> None:
    body = msgspec.to_builtins(make_service(type="LoadBalancer"))
    ingress = [{"ip": "192.0.2.7", **({"ipMode": mode} if mode else {})}, {"hostname": "x"}]
    service = msgspec.convert(body | {"status": {"loadBalancer": {"ingress": ingress}}}, Service)
    [view] = view_service(service, [], Here("a"))
    assert view.balancer_ips == found


def test_what_another_proxy_serves_is_left_to_it() -> None:
    body = msgspec.to_builtins(make_service())
    body["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    assert view_service(msgspec.convert(body, Service), [], Here("a")) == ()
    headless = msgspec.to_builtins(make_slice(("10.20.0.2", "a", READY)))
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    [view] = view_service(make_service(), [msgspec.convert(headless, EndpointSlice)], Here("a"))
    assert view.internal == ()


ASKED, NODE_ASKED = Target("10.96.0.9", 53), Target("192.0.2.10", 30053)
POD, OTHER = Target("10.20.0.2", 53), Target("10.20.0.3", 53)


def dns(*targets: Target, alive: frozenset[Target] = frozenset()) -> PortView:
    return PortView(
        "d/dns", "dns", "udp", (ASKED.address,), 53, 30053, targets, targets, external_local=False, alive=alive
    )


@pytest.mark.parametrize("asked", [ASKED, NODE_ASKED])
@pytest.mark.parametrize(
    ("replies", "now", "gone", "stale"),
    [
        (POD, [dns(POD)], [], False),
        (POD, [dns(OTHER)], [], True),
        (POD, [dns(OTHER, alive=frozenset({POD}))], [], False),
        (POD, [dns()], [], True),
        (POD, [], [dns(POD)], True),
        (POD, [], [], False),
        (None, [dns(POD)], [], True),
        (None, [dns()], [], False),
    ],
)
def test_a_flow_stays_only_with_an_endpoint_that_lives(
    asked: Target, replies: Target | None, now: list[PortView], gone: list[PortView], *, stale: bool
) -> None:
    flow = Flow(asked, replies or asked)
    own = frozenset({NODE_ASKED.address})
    assert (flow in stale_flows([flow], frontends_of(now, gone), own)) == stale
    elsewhere = Flow(Target("203.0.113.9", asked.port), Target("203.0.113.9", asked.port))
    assert not stale_flows([elsewhere], frontends_of(now, gone), own)


def test_conntracks_output_is_read() -> None:
    line = (
        "udp      17 29 src=192.0.2.50 dst=10.96.0.9 sport=40000 dport=53 [UNREPLIED] src=10.20.0.2 dst=192.0.2.50 "
        "sport=5353 dport=40000 mark=0 use=1\n"
    )
    assert list(parse_flows(line + "nonsense\n")) == [Flow(ASKED, Target("10.20.0.2", 5353))]
    assert not Frontends()
