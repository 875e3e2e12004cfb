"""Addresses and ports of Services, and what Kubernetes refuses."""

import json
from typing import Any

import pytest
from tests.support.kubernetes import Cluster


def _service(name: str, **spec: Any) -> str:
    spec.setdefault("ports", [{"port": 80}])
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def _spec(cluster: Cluster, namespace: str, name: str) -> Any:
    return cluster.get("-n", namespace, "svc", name)["spec"]


def _create(cluster: Cluster, namespace: str, manifest: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=manifest)


def test_a_cluster_address_is_given_and_kept(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("a"))
    spec = _spec(cluster, namespace, "a")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"], spec["internalTrafficPolicy"]) == (
        ["IPv4"],
        "SingleStack",
        "Cluster",
    )
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    cluster.kubectl("-n", namespace, "replace", "-f", "-", stdin=_service("a", ports=[{"port": 81}]))
    assert _spec(cluster, namespace, "a")["clusterIP"] == spec["clusterIP"]
    said = cluster.refused(
        "-n", namespace, "patch", "svc", "a", "-p", '{"spec":{"clusterIP":"10.96.0.77","clusterIPs":["10.96.0.77"]}}'
    )
    assert "may not change once set" in said


def test_a_taken_node_port_is_refused(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("a", type="NodePort"))
    port = _spec(cluster, namespace, "a")["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    wanted = _service("b", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    said = cluster.refused("-n", namespace, "create", "-f", "-", stdin=wanted)
    assert f"spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated" in said
    cluster.kubectl("-n", namespace, "delete", "svc", "a")
    _create(cluster, namespace, wanted)
    assert _spec(cluster, namespace, "b")["ports"][0]["nodePort"] == port


def test_a_port_outside_the_range_is_refused(cluster: Cluster, namespace: str) -> None:
    wanted = _service("b", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
    assert "The range of valid ports is 30000-32767" in cluster.refused(
        "-n", namespace, "create", "-f", "-", stdin=wanted
    )


def test_types_change_and_give_back_what_they_held(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("a", type="LoadBalancer", externalTrafficPolicy="Local"))
    spec = _spec(cluster, namespace, "a")
    assert spec["allocateLoadBalancerNodePorts"] is True
    assert 30000 <= spec["healthCheckNodePort"] <= 32767
    cluster.kubectl("-n", namespace, "patch", "svc", "a", "-p", '{"spec":{"type":"ClusterIP"}}')
    spec = _spec(cluster, namespace, "a")
    assert "nodePort" not in spec["ports"][0]
    assert not {"healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} & set(spec)


def test_a_load_balancer_can_do_without_node_ports(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("a", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in _spec(cluster, namespace, "a")["ports"][0]


def test_headless_and_external_names(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("h", clusterIP="None", selector={"a": "b"}))
    assert _spec(cluster, namespace, "h")["clusterIPs"] == ["None"]
    _create(cluster, namespace, _service("e", type="ExternalName", externalName="a.example.com", ports=[]))
    assert "clusterIP" not in _spec(cluster, namespace, "e")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        ({"type": "Foo"}, 'spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName"'),
        ({"type": "ExternalName", "ports": []}, "spec.externalName: Required value"),
        ({"loadBalancerClass": "x"}, "may only be used when `type` is 'LoadBalancer'"),
        ({"sessionAffinity": "Cookie"}, 'spec.sessionAffinity: Unsupported value: "Cookie"'),
    ],
)
def test_bad_services_are_refused_by_field(cluster: Cluster, namespace: str, spec: dict[str, Any], said: str) -> None:
    assert said in cluster.refused("-n", namespace, "create", "-f", "-", stdin=_service("bad", **spec))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ({"selector": {"matchLabels": {"x": "y"}}}, "`selector` does not match template `labels`"),
        ({"strategy": {"type": "Foo"}}, 'spec.strategy: Unsupported value: {"Type":"Foo","RollingUpdate":null}'),
    ],
)
def test_bad_deployments_are_refused_by_field(
    cluster: Cluster, namespace: str, change: dict[str, Any], said: str
) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template} | change
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}
    answer = cluster.refused("-n", namespace, "create", "-f", "-", stdin=json.dumps(body))
    assert 'The Deployment "x" is invalid' in answer
    assert said in answer


def test_bad_ingresses_are_refused_by_field(cluster: Cluster, namespace: str) -> None:
    path = {"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {}}}}
    spec = {"rules": [{"host": "1.2.3.4", "http": {"paths": [path]}}]}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "x"}, "spec": spec}
    said = cluster.refused("-n", namespace, "create", "-f", "-", stdin=json.dumps(body))
    assert 'spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address' in said
    assert 'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path' in said
    assert "paths[0].backend: Required value: port name or number is required" in said


def test_both_families_are_given_taken_back_and_found_free_again(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _service("a", ipFamilyPolicy="PreferDualStack", ipFamilies=["IPv6"]))
    spec = _spec(cluster, namespace, "a")
    assert spec["ipFamilies"] == ["IPv6", "IPv4"]
    first, second = spec["clusterIPs"]
    assert (":" in first, "." in second, spec["clusterIP"]) == (True, True, first)
    taken = _service("b", clusterIP=second)
    assert "already allocated" in cluster.refused("-n", namespace, "create", "-f", "-", stdin=taken)
    cluster.kubectl("-n", namespace, "patch", "svc", "a", "-p", '{"spec":{"ipFamilyPolicy":"SingleStack"}}')
    spec = _spec(cluster, namespace, "a")
    assert (spec["ipFamilies"], spec["clusterIPs"]) == (["IPv6"], [first])
    _create(cluster, namespace, taken)
    cluster.kubectl("-n", namespace, "patch", "svc", "b", "-p", '{"spec":{"ipFamilyPolicy":"RequireDualStack"}}')
    assert _spec(cluster, namespace, "b")["ipFamilies"] == ["IPv4", "IPv6"]
    several = _service("c", ipFamilies=["IPv4", "IPv6"])
    said = cluster.refused("-n", namespace, "create", "-f", "-", stdin=several)
    assert "multiple IP families" in said
