"""Whose PROXY headers are believed."""

from typing import Any

import msgspec
import pytest
import yaml

from vrata.ingress.plan import Desired, Observed, ReplaceProxies, plan_pass
from vrata.ingress.proxies import EVERYBODY, rows_of_sources, sources_of
from vrata.kube.manifests import manifest
from vrata.kube.objects import Service
from vrata.kube.sources import SOURCES, Sources

ADDRESS = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
SUBNET = Sources(frozenset({"10.10.0.0/24"}), frozenset({"10.10.0.20/32"}))


def front(policy: str = "Local", served: bool = True, **annotations: str) -> Service:
    words = {SOURCES if key == "sources" else "vrata.dev/target": text for key, text in annotations.items()}
    body: dict[str, Any] = {
        "metadata": {"name": "front", "namespace": "default", "annotations": words},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy},
        "status": ADDRESS if served else {},
    }
    return msgspec.convert(body, Service)


@pytest.mark.parametrize(
    ("service", "believed", "reason"),
    [
        (front(sources="10.10.0.0/24,!10.10.0.20"), SUBNET, ""),
        (front("Cluster", target="pod", sources="10.10.0.0/24,!10.10.0.20"), SUBNET, ""),
        (front(), Sources(), "ProxySourcesUnknown"),
        (front(served=False), Sources(), ""),
        (front(sources="10.10.0.0/24,x"), Sources(), "ProxySourcesInvalid"),
        (front("Cluster"), EVERYBODY, "ProxyHeadersFromEverybody"),
        (front("Cluster", sources="10.10.0.0/24"), EVERYBODY, "ProxyHeadersFromEverybody"),
        (front("Cluster", served=False), EVERYBODY, ""),
        (None, Sources(), ""),
    ],
)
def test_the_service_in_front_says_who_is_believed(service: Service | None, believed: Sources, reason: str) -> None:
    found, wrong = sources_of((), service)
    assert found == believed
    assert (wrong[0] if wrong else "") == reason
    if wrong:
        assert "--proxy-protocol-from" in wrong[1] or "10.0.0.0/24" in wrong[1], "the remedy is named"


@pytest.mark.parametrize("service", [None, front(), front("Cluster"), front(sources="10.10.0.0/24")])
def test_what_is_named_on_the_command_line_counts_alone(service: Service | None) -> None:
    assert sources_of(("192.0.2.0/24",), service) == (Sources(frozenset({"192.0.2.0/24"})), None)


def test_a_change_is_one_step_and_no_change_is_none() -> None:
    rows = rows_of_sources(SUBNET)
    observed = Observed({}, (), {}, {}, proxies={"10.10.0.0/24": "balancer"})
    assert plan_pass(observed, Desired(proxies=rows)) == [ReplaceProxies(rows)]
    assert plan_pass(Observed({}, (), {}, {}, proxies=dict(rows)), Desired(proxies=rows)) == []


def shipped() -> dict[str, dict[str, Any]]:
    text = manifest("ingress", "vrata:any")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_manifests_service_leaves_pods_the_balancers_address() -> None:
    """Else nobody could tell the balancer from a pod that goes through a node port."""
    service = msgspec.convert(shipped()["Service"], Service)
    assert sources_of((), service) == (Sources(), None)


def test_the_manifests_policy_lets_pods_reach_no_port_of_clients() -> None:
    """Every port of the container is named, and those of clients for nobody but what is outside the pods' network."""
    found = shipped()
    policy, template = found["NetworkPolicy"]["spec"], found["Deployment"]["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    ports = {one["name"] for one in template["spec"]["containers"][0]["ports"]}
    named = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert sorted(named) == sorted(ports)
    [clients] = [rule for rule in policy["ingress"] if {"port": "http"} in rule["ports"]]
    assert [set(peer) for peer in clients["from"]] == [{"ipBlock"}]
    assert clients["from"][0]["ipBlock"]["except"]
    assert [port["port"] for port in clients["ports"]] == ["http", "https"]
