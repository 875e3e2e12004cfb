"""The provider's manifest: it grants what a provider at work asks of the API server, that and nothing more; its command runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.provider.conftest import node
from tests.support.cloud import Cloud
from tests.support.kubernetes import Cluster, own_cluster, wait_for
from tests.support.provider import Replica
from tests.support.rights import account, asked, unused

from vrata.cli.provider import command
from vrata.kube.manifests import manifest
from vrata.provider.nodes.plan import UNINITIALIZED

NAME, SYSTEM = "vrata-provider", "kube-system"
DEADLINE_S = 60.0
NODE = node("worker-0", "10.10.0.20")
SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: broken, annotations: {loadbalancer.openstack.org/connection-limit: many}}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all(manifest("provider", "registry.example/vrata:any")))
    assert all(found)
    return found


def told(cluster: Cluster, name: str, times: int = 1) -> bool:
    """Whether an event on the Service was told so often."""
    events = cluster.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
    return any(one["count"] >= times for one in events)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "kubernetes").mkdir()
    with own_cluster(tmp_path / "kubernetes") as (own, _server):
        yield own


@pytest.mark.filterwarnings("ignore::openstack.warnings.OpenStackDeprecationWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # openstacksdk about itself
def test_rights_are_exactly_those_that_are_used(
    cluster: Cluster, tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    """With the token of its ServiceAccount, which the API server refuses what no role grants."""
    cluster.kubectl("apply", "-f", "-", stdin=manifest("provider", "registry.example/vrata:any"))
    with account(cluster, SYSTEM, NAME, tmp_path) as (front, kubeconfig):
        _a_life(cluster, kubeconfig, tmp_path)
    assert not front.forbidden
    assert unused(documents, NAME, asked(front)) == []


def _a_life(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> None:
    behind = Cloud(tmp_path, None, "--noop")
    behind.start()
    started: list[Replica] = []

    def start() -> Replica:
        started.append(Replica(tmp_path / "provider", behind, kubeconfig, f"{SYSTEM}/{NAME}"))
        wait_for(started[-1].leads, "it leads", DEADLINE_S)
        return started[-1]

    try:
        first = start()
        cluster.kubectl("apply", "-f", "-", stdin=NODE)
        cluster.set_status(NODE)
        cluster.kubectl("apply", "-f", "-", stdin=SERVICES)
        wait_for(lambda: cluster.get("service", "web").get("status", {}).get("loadBalancer"), "an address", DEADLINE_S)
        wait_for(lambda: told(cluster, "broken"), "what is wrong is told", DEADLINE_S)
        _a_node_comes_and_goes(cluster, behind)
        first.end()
        start()  # finds the event there
        wait_for(lambda: told(cluster, "broken", times=2), "it is told again", DEADLINE_S)
        cluster.kubectl("delete", "service", "web", "--timeout=60s")
    finally:
        for replica in started:
            replica.end()
        behind.stop()


def _a_node_comes_and_goes(cluster: Cluster, behind: Cloud) -> None:
    """It is told who it is, and deleted after its server."""
    admin, demo = behind.connect("admin"), behind.connect("demo")
    try:
        flavor = admin.compute.create_flavor(name="size", vcpus=1, ram=1024, disk=1)
        more = {"project_id": demo.current_project_id, "networks": []}
        server = admin.compute.create_server(name="fresh", flavor_id=flavor.id, image_id="", **more)
        taint = {"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}
        fresh = json.loads(node("fresh", "10.10.0.99", ready=False)) | {"spec": {"taints": [taint]}}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(fresh))
        wait_for(lambda: cluster.get("node", "fresh")["spec"].get("providerID"), "it has a provider id", DEADLINE_S)
        admin.compute.delete_server(server.id)
        wait_for(lambda: cluster.run("get", "node", "fresh").status, "it is deleted", DEADLINE_S)
    finally:
        admin.close()
        demo.close()


def test_every_role_is_bound_to_the_account_that_the_pods_have(documents: list[dict[str, Any]]) -> None:
    account = {"kind": "ServiceAccount", "name": "vrata-provider", "namespace": "kube-system"}
    bound = {
        one["roleRef"]["kind"] for one in documents if one["kind"].endswith("Binding") if account in one["subjects"]
    }
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")

    assert bound == {"Role", "ClusterRole"}
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    assert deployment["spec"]["replicas"] == 2


def test_command_and_probes_fit_the_program(documents: list[dict[str, Any]]) -> None:
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    program, name, *arguments = container["command"] + container["args"]
    given = command.make_context(name, arguments).params
    (role,) = (one for one in documents if one["kind"] == "Role")
    assert given["controllers"] == "service,node,node-lifecycle"

    assert (program, name) == ("vrata", "provider")
    assert given["http_port"] == container["ports"][0]["containerPort"]
    assert given["lease"] == f"{role['metadata']['namespace']}/{role['rules'][1]['resourceNames'][0]}"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
