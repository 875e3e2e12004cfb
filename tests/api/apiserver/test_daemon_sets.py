"""DaemonSets through kubectl, with the sandbox's workload controllers and nodes that the test plays."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.kubernetes import Cluster, own_cluster, wait_for

NODES = """
apiVersion: v1
kind: Node
metadata: {{name: {name}}}
spec: {{podCIDR: 10.20.{number}.0/24}}
"""
DAEMONS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: node}
spec:
  selector: {matchLabels: {app: node}}
  template:
    metadata: {labels: {app: node}}
    spec: {containers: [{name: c, image: "vrata/echo"}]}
"""
READY = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory.mktemp("daemons")) as (own, _server):
        argv = [sys.executable, "-m", "vrata", "workloads", "--kubeconfig", str(own.kubeconfig)]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        try:
            yield own
        finally:
            process.terminate()
            process.wait(60)


def play(cluster: Cluster) -> dict[str, str]:
    """What the nodes do: new pods are ready, deleted ones go. Node -> pod."""
    pods = cluster.get("pods", "-l", "app=node")["items"]
    for pod in pods:
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            cluster.run("delete", "pod", name, "--grace-period=0", "--force")
        elif pod["status"]["phase"] == "Pending":
            cluster.run("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps(READY))
    return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods}


def settled(cluster: Cluster, nodes: set[str]) -> bool:
    """Whether each of the nodes has its pod, and the status says so."""
    found, daemons = play(cluster), cluster.get("daemonset", "node")
    status = daemons["status"]
    if status.get("observedGeneration") != daemons["metadata"]["generation"]:
        return False
    counts = [status[one] for one in ("desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled")]
    return set(found) == nodes and counts == [len(nodes)] * 3


def test_each_node_has_a_pod_and_a_new_template_replaces_them(cluster: Cluster) -> None:
    for number, name in enumerate(("one", "two")):
        cluster.kubectl("apply", "-f", "-", stdin=NODES.format(name=name, number=number))
    cluster.kubectl("apply", "-f", "-", stdin=DAEMONS)
    wait_for(lambda: settled(cluster, {"one", "two"}), "each node has a pod")
    before = play(cluster)

    cluster.kubectl("apply", "-f", "-", stdin=NODES.format(name="three", number=3))
    wait_for(lambda: settled(cluster, {"one", "two", "three"}), "so has a node that comes later")
    assert before.items() <= play(cluster).items()

    cluster.kubectl("set", "image", "daemonset/node", "c=vrata/echo:2")
    wait_for(lambda: settled(cluster, {"one", "two", "three"}), "the template has reached all")
    assert not set(before.values()) & set(play(cluster).values())
    assert "successfully rolled out" in cluster.kubectl("rollout", "status", "daemonset/node", "--timeout=60s")

    cluster.kubectl("taint", "node", "three", "own=x:NoSchedule")
    wait_for(lambda: settled(cluster, {"one", "two"}), "a tainted node loses its pod")
    cluster.kubectl("delete", "daemonset", "node", "--wait=false")
    wait_for(lambda: play(cluster) == {}, "its pods go with it")
