"""Which endpoints answer on a node, and that changes to the ruleset are small and complete."""

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube.objects import EndpointSlice, Service
from vrata.nodeport.model import HAIRPINS, PortView, Rules, Target
from vrata.nodeport.plan import gone_targets, plan_change, view_health, view_service, woken_ports
from vrata.nodeport.render import render_rules, render_transaction


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
    (view,) = view_service(make_service(), slices, "a")
    assert addresses(view.internal) == ["10.20.0.2"]


def test_terminating_endpoints_answer_when_no_other_does() -> None:
    slices = [make_slice(("10.20.0.3", "a", NOT_READY), ("10.20.0.4", "a", LEAVING))]
    (view,) = view_service(make_service(), slices, "a")
    assert addresses(view.internal) == ["10.20.0.4"]


def test_local_policy_keeps_outside_traffic_on_the_node() -> None:
    slices = [make_slice(("10.20.0.2", "a", READY), ("10.20.1.2", "b", READY))]
    (view,) = view_service(make_service(externalTrafficPolicy="Local"), slices, "a")
    assert addresses(view.external) == ["10.20.0.2"]
    assert addresses(view.internal) == ["10.20.0.2", "10.20.1.2"]


def test_the_health_port_counts_this_nodes_ready_pods() -> None:
    service = make_service(externalTrafficPolicy="Local", healthCheckNodePort=31000)
    slices = [make_slice(("10.20.0.2", "a", READY), ("10.20.0.3", "a", LEAVING), ("10.20.1.2", "b", READY))]
    health = view_health(service, slices, "a")
    assert health
    assert (health.port, health.local_endpoints) == (31000, 1)
    assert view_health(make_service(), slices, "a") is None


def test_headless_services_need_no_rules() -> None:
    assert view_service(make_service(clusterIP="None", clusterIPs=["None"]), [], "a") == ()


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
    ),
    max_size=3,
    unique_by=(lambda view: (view.protocol, view.port), lambda view: (view.protocol, view.node_port)),
).map(tuple)


@given(views, views)
def test_a_change_leads_from_any_ruleset_to_any_other(old: tuple[PortView, ...], new: tuple[PortView, ...]) -> None:
    observed, desired = render_rules(old), render_rules(new)
    change = plan_change(observed, desired)
    chains = {name: rules for name, rules in observed.chains.items() if name not in change.delete_chains}
    chains |= dict.fromkeys(change.add_chains, ()) | dict(change.fill_chains)
    elements = dict(observed.elements)
    for key, value in change.delete_elements:
        assert elements.pop(key) == value
    for key, value in change.add_elements:
        assert key not in elements or key[0] == HAIRPINS
        elements[key] = value
    assert chains == desired.chains
    kept = {key for key in elements if key not in desired.elements}
    assert all(key[0] == HAIRPINS for key in kept), "only hairpins, right for any pod, may stay"
    assert {key: value for key, value in elements.items() if key not in kept} == desired.elements


@given(views)
def test_a_settled_ruleset_needs_no_transaction(view: tuple[PortView, ...]) -> None:
    rules = render_rules(view)
    assert plan_change(rules, rules).is_empty()


@given(views)
def test_no_text_of_a_user_enters_the_ruleset(view: tuple[PortView, ...]) -> None:
    text = render_transaction(plan_change(Rules(), render_rules(view)))
    assert "flush ruleset" not in text
    assert "default/web" not in text


def test_udp_flows_of_gone_endpoints_are_forgotten() -> None:
    def view(*ips: str) -> PortView:
        found = tuple(Target(ip, 53) for ip in ips)
        return PortView("d/dns", "dns", "udp", ("10.96.0.9",), 53, 0, found, found, external_local=False)

    assert addresses(gone_targets([view("10.20.0.2", "10.20.0.3")], [view("10.20.0.3")])) == ["10.20.0.2"]
    assert [entry.name for entry in woken_ports([view()], [view("10.20.0.3")])] == ["dns"]
    assert woken_ports([view("10.20.0.2")], [view("10.20.0.3")]) == ()
