"""Two `vrata provider` processes and one Lease: a dead, stopped or ended leader is followed by the other, never joined."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.provider.conftest import node
from tests.support.cloud import Cloud
from tests.support.kubernetes import Cluster, own_cluster, wait_for
from tests.support.provider import Replica

DEADLINE_S = 60.0
NODE = node("worker-0", "10.10.0.20")
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "kubernetes").mkdir()
    with own_cluster(tmp_path / "kubernetes") as (own, _server):
        own.kubectl("apply", "-f", "-", stdin=NODE)
        own.set_status(NODE)
        yield own


@pytest.fixture
def pair(tmp_path: Path, cluster: Cluster) -> Iterator[tuple[Replica, Replica]]:
    """The leader and the one that waits."""
    (tmp_path / "cloud").mkdir()
    behind = Cloud(tmp_path / "cloud", None, "--noop")
    behind.start()
    with ExitStack() as stack:
        stack.callback(behind.stop)
        both = []
        for name in "ab":
            both.append(Replica(tmp_path / name, behind, cluster.kubeconfig, "kube-system/provider"))
            stack.callback(both[-1].end)
            wait_for(both[0].leads, "the first one leads", DEADLINE_S)
        leader, waiting = both
        wait_for(lambda: waiting.ask("/readyz")[0] == 200, "the second one is ready", DEADLINE_S)
        yield leader, waiting


def serve(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("apply", "-f", "-", stdin="".join(SERVICE.replace("NAME", name) for name in names))


def served(cluster: Cluster) -> int:
    """Services with an address."""
    statuses = [one.get("status", {}) for one in cluster.get("services")["items"]]
    return sum(bool(status.get("loadBalancer", {}).get("ingress")) for status in statuses)


def test_killed_leader_is_replaced(cluster: Cluster, pair: tuple[Replica, Replica]) -> None:
    leader, waiting = pair
    serve(cluster, "one")
    wait_for(lambda: served(cluster) == 1, "the leader works", DEADLINE_S)
    assert not waiting.leads()
    assert waiting.front.seen == [], "who waits asks nothing of the cloud"

    leader.process.kill()
    serve(cluster, "two")

    wait_for(lambda: served(cluster) == 2, "the other one works", DEADLINE_S)
    assert waiting.leads()
    assert waiting.writes


def test_ended_leader_gives_the_lease_back(cluster: Cluster, pair: tuple[Replica, Replica]) -> None:
    leader, waiting = pair
    held = cluster.get("lease", "provider", "-n", "kube-system")["spec"]
    assert held["holderIdentity"]

    leader.process.send_signal(signal.SIGTERM)

    assert leader.process.wait(90) == 0, leader.log.read_text()
    assert cluster.get("lease", "provider", "-n", "kube-system")["spec"]["holderIdentity"] != held["holderIdentity"]
    wait_for(waiting.leads, "the other one leads", DEADLINE_S)
    assert waiting.ask("/healthz") == (200, "ok\n")
    wait_for(lambda: waiting.ask("/readyz")[0] == 200, "it has read the cluster", DEADLINE_S)
    wait_for(lambda: "openstack_api_requests_total{" in waiting.ask("/metrics")[1], "it asks the cloud", DEADLINE_S)


def test_leader_that_stood_still_does_not_work_beside_its_successor(
    cluster: Cluster, pair: tuple[Replica, Replica]
) -> None:
    leader, waiting = pair
    names = [f"many-{number}" for number in range(40)]
    serve(cluster, *names)
    wait_for(lambda: leader.writes > 5, "the leader is in the middle of it", DEADLINE_S)
    os.kill(leader.process.pid, signal.SIGSTOP)
    wait_for(lambda: served(cluster) == len(names), "the other one finishes", DEADLINE_S)
    before = leader.writes

    os.kill(leader.process.pid, signal.SIGCONT)

    assert leader.process.wait(90) == 1, leader.log.read_text()
    assert "the lease is lost" in leader.log.read_text()
    assert leader.writes == before
    assert waiting.leads()


def test_it_is_ready_when_it_has_compared_the_cluster_with_the_cloud(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    behind = Cloud(tmp_path / "cloud", None, "--noop")
    behind.start()
    behind.kill()
    replica = Replica(tmp_path / "early", behind, cluster.kubeconfig, "kube-system/provider")
    try:
        waits = (503, "not compared with the cloud yet\n")
        wait_for(lambda: replica.ask("/readyz") == waits, "it has read the cluster", DEADLINE_S)
        behind.start()
        wait_for(lambda: replica.ask("/readyz") == (200, "ok\n"), "the cloud is there", DEADLINE_S)
    finally:
        replica.end()
        behind.stop()
