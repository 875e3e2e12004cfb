"""Rollouts stay within their limits at every step and end; pods find a node; endpoints tell the truth."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrata.kube.objects import Node, Taint
from vrata.sandbox.workloads import plan, slices
from vrata.sandbox.workloads.model import Deployment, Pod, ReplicaSet, Service, Toleration

STEPS_MAX = 500


def make_deployment(
    replicas: int, surge: object, unavailable: object, version: str, strategy: str = "RollingUpdate"
) -> Deployment:
    rolling = (
        {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}} if strategy == "RollingUpdate" else {}
    )
    body = {
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": strategy, **rolling},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": version}]}},
        },
    }
    return msgspec.convert(body, Deployment)


class Cluster:
    """ReplicaSets with counts of pods; each step lets one pod start, become available or end."""

    def __init__(self) -> None:
        self.wanted: dict[str, int] = {}
        self.pods: dict[str, int] = {}
        self.available: dict[str, int] = {}
        self.annotations: dict[str, dict[str, str]] = {}

    def apply(self, action: plan.DeploymentAction) -> None:
        match action:
            case plan.CreateReplicaSet(body=body):
                name = body["metadata"]["name"]
                self.wanted[name] = body["spec"]["replicas"]
                self.pods[name] = self.available[name] = 0
                self.annotations[name] = body["metadata"]["annotations"]
            case plan.ScaleReplicaSet(name=name, replicas=replicas):
                assert replicas >= 0
                self.wanted[name] = replicas
            case plan.AnnotateReplicaSet(name=name, annotations=annotations):
                self.annotations[name] = {**self.annotations[name], **annotations}
            case plan.DeleteReplicaSet(name=name):
                assert self.pods[name] == 0
                for entries in (self.wanted, self.pods, self.available, self.annotations):
                    del entries[name]

    def replica_sets(self) -> list[ReplicaSet]:
        return [
            msgspec.convert(
                {
                    "metadata": {"name": name, "namespace": "default", "annotations": self.annotations[name]},
                    "spec": {"replicas": wanted, "selector": {}},
                    "status": {"replicas": self.pods[name], "availableReplicas": self.available[name]},
                },
                ReplicaSet,
            )
            for name, wanted in self.wanted.items()
        ]

    def advance(self, choice: int) -> bool:
        """Let one pod start, end or become available, of the first ReplicaSet from `choice` on that has one to."""
        names = sorted(self.wanted)
        for name in names[choice % len(names) :] + names[: choice % len(names)]:
            if self.pods[name] < self.wanted[name]:
                self.pods[name] += 1
            elif self.pods[name] > self.wanted[name]:
                # The ReplicaSet ends pods that serve nobody first.
                self.pods[name] -= 1
                self.available[name] = min(self.available[name], self.pods[name])
            elif self.available[name] < self.pods[name]:
                self.available[name] += 1
            else:
                continue
            return True
        return False


def roll(cluster: Cluster, deployment: Deployment, choices: list[int]) -> None:
    surge, unavailable = plan.limits(deployment)
    replicas = deployment.spec.replicas
    started_available = sum(cluster.available.values())
    for step in range(STEPS_MAX):
        actions = plan.plan_deployment(deployment, cluster.replica_sets())
        for action in actions:
            cluster.apply(action)
            assert sum(cluster.wanted.values()) <= max(replicas + surge, replicas)
        moved = cluster.advance(choices[step % len(choices)])
        assert sum(cluster.available.values()) >= min(started_available, replicas - unavailable)
        if not actions and not moved:
            assert cluster.available == cluster.wanted
            assert sum(cluster.wanted.values()) == replicas
            return
    raise AssertionError("the rollout does not end")


@given(
    replicas=st.integers(1, 6),
    surge=st.integers(0, 3) | st.sampled_from(["25%", "100%"]),
    unavailable=st.integers(0, 3) | st.sampled_from(["25%", "0%"]),
    choices=st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
@settings(max_examples=60)
def test_a_rolling_update_ends_and_never_breaks_its_limits(
    replicas: int, surge: object, unavailable: object, choices: list[int]
) -> None:
    cluster = Cluster()
    roll(cluster, make_deployment(replicas, surge, unavailable, "one"), choices)
    roll(cluster, make_deployment(replicas, surge, unavailable, "two"), choices)
    roll(cluster, make_deployment(replicas, surge, unavailable, "one"), choices)
    new = plan.new_name(make_deployment(replicas, surge, unavailable, "one"))
    assert cluster.available[new] == replicas
    assert cluster.annotations[new][plan.REVISION] == "3", "rolled back: a new revision of the old template"


def test_recreate_ends_all_old_pods_first() -> None:
    cluster = Cluster()
    for action in plan.plan_deployment(make_deployment(3, 0, 0, "one", "Recreate"), []):
        cluster.apply(action)
    (old,) = cluster.wanted
    cluster.pods[old] = cluster.available[old] = 3
    second = make_deployment(3, 0, 0, "two", "Recreate")
    for action in plan.plan_deployment(second, cluster.replica_sets()):
        cluster.apply(action)
    assert cluster.wanted == {old: 0}


def make_pod(name: str, node: str = "", *, ready: bool = True, deleted: bool = False, ip: str = "10.20.0.2") -> Pod:
    body = {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "labels": {"app": "web"},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "podIP": ip,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    return msgspec.convert(body, Pod)


def make_node(name: str, *, ready: bool = True, taint: str = "") -> Node:
    body = {
        "metadata": {"name": name},
        "spec": {"podCIDR": "10.20.0.0/24", "taints": [{"key": taint, "effect": "NoSchedule"}] if taint else []},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }
    return msgspec.convert(body, Node)


def test_a_pod_goes_to_the_node_with_fewest_pods() -> None:
    nodes = [make_node("a"), make_node("b"), make_node("c", ready=False), make_node("m", taint="master")]
    node, _ = plan.plan_placement(make_pod("new"), nodes, [make_pod("x", "a")])
    assert node == "b"


def test_a_pod_that_fits_nowhere_is_told_why() -> None:
    node, reason = plan.plan_placement(make_pod("new"), [make_node("c", ready=False)], [])
    assert node is None
    assert "no node is ready" in reason


def test_surplus_pods_that_serve_least_go_first() -> None:
    replica_set = msgspec.convert({"metadata": {"name": "r"}, "spec": {"replicas": 1, "selector": {}}}, ReplicaSet)
    pods = [make_pod("ready", "a"), make_pod("unready", "a", ready=False), make_pod("unplaced", ready=False)]
    assert {pod.metadata.name for pod in plan.plan_replicas(replica_set, pods).delete} == {"unready", "unplaced"}


SERVICE = msgspec.convert(
    {
        "metadata": {"name": "web", "namespace": "default", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    },
    Service,
)


def test_slices_tell_ready_serving_and_terminating() -> None:
    pods = [make_pod("a", "n"), make_pod("b", "n", ready=False), make_pod("c", "n", deleted=True)]
    (body,) = slices.plan_slices(SERVICE, pods).values()
    conditions = {entry["targetRef"]["name"]: entry["conditions"] for entry in body["endpoints"]}
    assert conditions == {
        "a": {"ready": True, "serving": True, "terminating": False},
        "b": {"ready": False, "serving": False, "terminating": False},
        "c": {"ready": False, "serving": True, "terminating": True},
    }
    assert body["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_a_large_service_is_split_and_unchanged_slices_keep_their_names() -> None:
    pods = [make_pod(f"p{number:03}", "n", ip=f"10.20.{number // 250}.{number % 250 + 1}") for number in range(230)]
    bodies = slices.plan_slices(SERVICE, pods)
    assert [len(body["endpoints"]) for body in bodies.values()] == [100, 100, 30]
    assert list(slices.plan_slices(SERVICE, pods[:150])) == list(bodies)[:2]


def test_no_pod_still_gives_one_empty_slice() -> None:
    (body,) = slices.plan_slices(SERVICE, []).values()
    assert body["endpoints"] == []


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "role", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "role", "value": "master"}, True),
        ({"key": "role", "value": "other"}, False),
    ],
)
def test_a_toleration_opens_the_nodes_that_kubernetes_says(toleration: dict[str, str], tolerated: bool) -> None:
    taint = Taint(key="role", value="master", effect="NoSchedule")
    assert msgspec.convert(toleration, Toleration).tolerates(taint) is tolerated
