"""A sandbox on a cluster that is not its own: what it leaves to that cluster's programs, and what `vrata down` leaves there.

The cluster is the one that VRATA_TEST_KUBECONFIG names, else an API server without any controller beside it.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.kubernetes import Cluster, own_cluster, wait_for
from tests.system.sandbox.test_commands import UP_S, VRATA, the_line

from vrata.sandbox.demo.manifests import echo_deployment, service

NAME = f"o{os.getpid()}"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"


@dataclass(frozen=True)
class Outside:
    """A cluster, and a place for a sandbox that uses it."""

    cluster: Cluster
    home: Path
    is_own: bool  # an API server of the test's own, without controllers

    def vrata(self, *args: str, name: str = NAME) -> subprocess.CompletedProcess[str]:
        """Run a command on the sandbox."""
        env = os.environ | {"VRATA_HOME": str(self.home)}
        return subprocess.run(
            [*VRATA, *args, "--name", name], env=env, capture_output=True, text=True, check=False, timeout=UP_S
        )

    def up(self, kubeconfig: Path | None = None, name: str = NAME) -> subprocess.CompletedProcess[str]:
        """Bring it up, as small as it can be."""
        where = ("--kubeconfig", str(kubeconfig or self.cluster.kubeconfig))
        return self.vrata("up", "--hosts", "1", "--workers", "1", *where, name=name)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in objects))

    def owned(self, kind: str, deployment: str) -> list[dict[str, Any]]:
        """ReplicaSets or pods of a Deployment."""
        return list(self.cluster.get(kind, "-l", f"app={deployment}")["items"])


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    directory, given = tmp_path_factory.mktemp("outside"), os.environ.get("VRATA_TEST_KUBECONFIG")
    with tempfile.TemporaryDirectory(prefix="vr-") as home:
        try:
            if given:
                yield Outside(Cluster(Path(given), directory / "cache"), Path(home), is_own=False)
            else:
                with own_cluster(directory) as (cluster, _):
                    yield Outside(cluster, Path(home), is_own=True)
        finally:
            subprocess.run([*VRATA, "down", "--name", NAME], env=os.environ | {"VRATA_HOME": home}, check=False)


def test_a_node_of_anothers_that_has_the_name_of_one_of_ours_is_left_alone(outside: Outside) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-0"}}
    outside.apply(node)
    try:
        said = the_line(outside.up(), 2)
        assert "--kubeconfig: 'worker-0'" in said
        assert "the cluster has other nodes of these names" in said
        assert outside.vrata("down").returncode == 0
        assert "addresses" not in outside.cluster.get("node", "worker-0").get("status", {})
    finally:
        outside.cluster.kubectl("delete", "node", "worker-0")


def test_a_deployment_has_one_replica_set_and_its_pods(outside: Outside) -> None:
    # As if it were down for a moment, with a server in a cloud that the sandbox does not know.
    foreign = {"providerID": "openstack:///0ac9dc9d-7c0a-4c5c-8d50-000000000000"}
    outside.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "elsewhere"}, "spec": foreign})
    done = outside.up()
    assert done.returncode == 0, done.stderr
    assert ("leaving workloads to the cluster's own kube-controller-manager" in done.stdout) is not outside.is_own
    web = echo_deployment("web")
    # A scheduler places these only on nodes that say what they have.
    web["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    outside.apply(web, service("web", "LoadBalancer"))
    outside.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(outside.owned("replicasets", "web")) == 1
    assert len(outside.owned("pods", "web")) == 2
    get = ("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    assert wait_for(lambda: outside.cluster.kubectl(*get), "the Service has an address")


def test_what_a_program_of_the_cluster_does_is_left_to_it_from_when_it_comes(outside: Outside) -> None:
    """A controller manager or scheduler that holds its Lease, though it may be away at the moment."""
    if not outside.is_own:
        pytest.skip("this cluster has both")
    lease: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}

    def log(program: str) -> bool:
        return f"'{program}'" in outside.vrata("logs", "workloads", "--tail", "50").stdout

    outside.apply(lease | {"metadata": {"name": "kube-scheduler", "namespace": "kube-system"}})
    wait_for(lambda: log("kube-scheduler"), "the scheduler is noticed")
    outside.apply(echo_deployment("waits", replicas=1))
    wait_for(lambda: outside.owned("pods", "waits"), "the Deployment has a pod")
    outside.apply(lease | {"metadata": {"name": "kube-controller-manager", "namespace": "kube-system"}})
    wait_for(lambda: log("kube-controller-manager"), "the controller manager is noticed")
    outside.apply(echo_deployment("left", replicas=1), service("left", "ClusterIP"))
    # The kubelet, another program of the sandbox, still does its work: it is not that everything stands still.
    manifest = {"containers": [{"name": "main", "image": "x", "command": ["true"]}], "restartPolicy": "Never"}
    bare = {"metadata": {"name": "bare"}, "spec": manifest | {"nodeName": "worker-0"}}
    outside.apply({"apiVersion": "v1", "kind": "Pod"} | bare)
    outside.cluster.kubectl("wait", "pod/bare", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert outside.owned("replicasets", "left") == []
    assert outside.cluster.get("endpointslices", "-l", "kubernetes.io/service-name=left")["items"] == []
    assert "nodeName" not in outside.owned("pods", "waits")[0]["spec"]
    outside.cluster.kubectl("delete", "lease", "-n", "kube-system", "kube-scheduler", "kube-controller-manager")
    outside.cluster.kubectl("rollout", "status", "deployment/left", "deployment/waits", "--timeout=60s")


def ingress(name: str) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    body = {"metadata": {"name": name}, "spec": {"defaultBackend": backend}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"} | body


def test_z_down_leaves_only_what_a_person_made(outside: Outside) -> None:
    cluster = outside.cluster
    held = service("held", "LoadBalancer")
    outside.apply(held)
    wait_for(lambda: FINALIZER in str(cluster.get("service", "held")["metadata"].get("finalizers")), "it is marked")
    cluster.kubectl("delete", "service", "held", "--wait=false")
    outside.apply(ingress("ours"), ingress("others"))
    # Another's network may well have the sandbox's addresses.
    for name, manager, address in (("ours", "vrata", "203.0.113.30"), ("others", "nginx", "10.10.0.7")):
        status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
        how = ("--subresource=status", "--type=merge", f"--field-manager={manager}", "-p", status)
        cluster.kubectl("patch", "ingress", name, *how)
    done = outside.vrata("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.get("ingress", "ours")["status"] == {"loadBalancer": {}}
    assert cluster.get("ingress", "others")["status"]["loadBalancer"]["ingress"] == [{"ip": "10.10.0.7"}]
    assert [one["metadata"]["name"] for one in cluster.get("nodes")["items"] if "vrata" in str(one)] == []
    assert cluster.get("node", "elsewhere")
    assert [one for one in cluster.get("pods")["items"] if one["spec"].get("nodeName")] == []
    left = cluster.get("service", "web")
    assert left["status"] == {"loadBalancer": {}}
    assert "finalizers" not in left["metadata"]
    assert not [name for name in left["metadata"].get("annotations", {}) if "openstack.org" in name or "vrata" in name]
    assert cluster.run("get", "service", "held").status
    assert cluster.get("deployment", "web")["spec"]["replicas"] == 2
    if outside.is_own:
        for kind in ("replicasets", "pods"):
            assert outside.owned(kind, "web") == []
        assert cluster.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"] == []
    cluster.kubectl("delete", "deployment/web", "service/web", "node/elsewhere", "ingress/ours", "ingress/others")


def test_z_down_says_what_it_could_not_take_away(outside: Outside, tmp_path: Path) -> None:
    """The cluster is gone, or does not answer: what is on this machine goes all the same."""
    if not outside.is_own:
        pytest.skip("the cluster is ended for this")
    (tmp_path / "k").mkdir()
    with own_cluster(tmp_path / "k") as (other, _server):
        # In flow style, as some programs write it.
        flow = tmp_path / "flow"
        flow.write_text(yaml.safe_dump(yaml.safe_load(other.kubeconfig.read_text()), default_flow_style=True))
        done = outside.up(flow, name=f"{NAME}-2")
        assert done.returncode == 0, done.stderr
    said = the_line(outside.vrata("down", name=f"{NAME}-2"))
    assert "the sandbox is gone, but what it made in the cluster is there still" in said
    assert f"kubectl delete node -l vrata.dev/sandbox={NAME}-2" in said
    assert list(outside.home.iterdir()) == []
