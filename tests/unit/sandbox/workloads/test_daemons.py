"""A DaemonSet has one pod on each node that fits, also while its template changes; never two, and never too few."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrata.kube.objects import Node
from vrata.sandbox.workloads import daemons
from vrata.sandbox.workloads.model import DaemonSet, Pod
from vrata.sandbox.workloads.plan import resolve

STEPS_MAX = 300


def daemon_set(version: str = "1", most: object = 1, kind: str = "RollingUpdate", **spec: Any) -> DaemonSet:
    template = {"metadata": {"labels": {"app": "node"}}, "spec": {"containers": [{"name": version}], **spec}}
    strategy = {"type": kind, "rollingUpdate": {"maxUnavailable": most}}
    metadata = {"name": "node", "namespace": "default", "uid": "u"}
    found = {"selector": {"matchLabels": {"app": "node"}}, "template": template, "updateStrategy": strategy}
    return msgspec.convert({"metadata": metadata, "spec": found}, DaemonSet)


def node(name: str, *taints: tuple[str, str], labels: dict[str, str] | None = None, cidr: str = "10.0.0.0/24") -> Node:
    found = [{"key": key, "effect": effect} for key, effect in taints]
    metadata = {"name": name, "labels": labels or {}}
    return msgspec.convert({"metadata": metadata, "spec": {"podCIDR": cidr, "taints": found}}, Node)


def pod(of: DaemonSet, name: str, at: str, *, ready: bool = True, phase: str = "Running", ends: bool = False) -> Pod:
    body = daemons.daemon_pod(of, name, at)
    ended = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if ends else {}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": phase, "conditions": conditions}
    return msgspec.convert({**body, "metadata": body["metadata"] | ended, "status": status}, Pod)


@pytest.mark.parametrize(
    ("taints", "tolerations", "fits"),
    [
        ((), [], True),
        ((("node.kubernetes.io/unschedulable", "NoSchedule"),), [], True),
        ((("node.kubernetes.io/not-ready", "NoExecute"),), [], True),
        ((("own", "NoSchedule"),), [], False),
        ((("own", "PreferNoSchedule"),), [], True),
        ((("own", "NoSchedule"),), [{"operator": "Exists"}], True),
        ((("own", "NoExecute"),), [{"key": "own", "operator": "Exists", "effect": "NoSchedule"}], False),
    ],
)
def test_taints_keep_pods_away_but_for_those_of_unwell_nodes(
    taints: tuple[tuple[str, str], ...], tolerations: list[dict[str, str]], *, fits: bool
) -> None:
    assert bool(daemons.fitting(daemon_set(tolerations=tolerations), [node("a", *taints)])) is fits


def test_a_selector_and_nodes_without_pods_leave_nodes_out() -> None:
    nodes = [node("a", labels={"disk": "ssd"}), node("b"), node("c", labels={"disk": "ssd"}, cidr="")]
    assert daemons.fitting(daemon_set(nodeSelector={"disk": "ssd"}), nodes) == ["a"]
    assert daemons.fitting(daemon_set(nodeSelector={"disk": "ssd"}, hostNetwork=True), nodes) == ["a", "c"]


def test_a_node_gets_the_next_pod_when_the_one_before_is_gone() -> None:
    one = daemon_set()
    nodes = [node("a"), node("b")]
    assert daemons.plan_daemons(one, nodes, []) == daemons.DaemonDiff(("a", "b"))
    assert daemons.plan_daemons(one, nodes, [pod(one, "x", "a", ends=True)]) == daemons.DaemonDiff(("b",))


def test_pods_that_failed_or_are_too_many_or_on_another_node_go() -> None:
    one = daemon_set()
    failed, spare, stray = (
        pod(one, "failed", "a", phase="Failed"),
        pod(one, "spare", "b", ready=False),
        pod(one, "stray", "gone"),
    )
    found = daemons.plan_daemons(one, [node("a"), node("b")], [failed, pod(one, "kept", "b"), spare, stray])
    assert found.create == ()
    assert {entry.metadata.name for entry in found.delete} == {"failed", "spare", "stray"}


def test_on_delete_replaces_nothing_by_itself() -> None:
    old, new = daemon_set("1"), daemon_set("2", kind="OnDelete")
    assert daemons.plan_daemons(new, [node("a")], [pod(old, "x", "a")]) == daemons.DaemonDiff()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 5), most=st.sampled_from([0, 1, 2, "50%", "100%"]),
    choices=st.lists(st.integers(0, 9), min_size=STEPS_MAX, max_size=STEPS_MAX),
)  # fmt: skip
def test_a_rollout_ends_and_never_lacks_more_than_it_may(count: int, most: int | str, choices: list[int]) -> None:
    old, new = daemon_set("1", most), daemon_set("2", most)
    nodes = [node(f"n{n}") for n in range(count)]
    pods = [pod(old, f"old-{n}", f"n{n}") for n in range(count)]
    allowed = max(1, resolve(most, count, round_up=True))
    for step, choice in enumerate(choices):
        diff = daemons.plan_daemons(new, nodes, pods)
        gone = {entry.metadata.name for entry in diff.delete}
        pods = [entry for entry in pods if entry.metadata.name not in gone]
        pods += [pod(new, f"new-{step}-{at}", at, ready=False) for at in diff.create]
        assert len({entry.spec.node_name for entry in pods}) == len(pods)
        assert count - sum(entry.is_ready() for entry in pods) <= allowed
        waiting = [entry for entry in pods if not entry.is_ready()]
        if waiting:
            one = waiting[choice % len(waiting)]
            pods[pods.index(one)] = pod(new, one.metadata.name, one.spec.node_name)
        elif diff == daemons.DaemonDiff():
            break
    status = daemons.daemon_status(new, nodes, pods)
    assert status["updatedNumberScheduled"] == status["numberReady"] == status["desiredNumberScheduled"] == count
