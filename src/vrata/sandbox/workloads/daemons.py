"""What to change so that each node that a DaemonSet fits has one pod of it: pure.

Follows the DaemonSet controller of Kubernetes (documentation, «DaemonSet»): a node need not be ready or schedulable, its
taints count but for those that say so. A pod of an older template is replaced when at most maxUnavailable nodes are
without a ready one; a node gets the next pod when the one before it is gone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vrata.kube.objects import Node, Taint
from vrata.sandbox.workloads.model import DaemonSet, Pod, Toleration
from vrata.sandbox.workloads.plan import owner_reference, resolve, template_hash

REVISION = "controller-revision-hash"
# The controller adds these to every pod.
TOLERATED = tuple(
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
    for key, effect in (
        ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
    )
)  # fmt: skip


@dataclass(frozen=True)
class DaemonDiff:
    """Nodes that are to get a pod, and pods that are to go."""

    create: tuple[str, ...] = ()
    delete: tuple[Pod, ...] = ()


def fitting(daemon_set: DaemonSet, nodes: Iterable[Node]) -> list[str]:
    """The nodes that are to have a pod."""
    spec = daemon_set.spec.template.get("spec", {})
    selector = spec.get("nodeSelector") or {}
    tolerations = [_toleration(one) for one in (*TOLERATED, *(spec.get("tolerations") or ()))]

    def tolerated(taint: Taint) -> bool:
        return taint.effect == "PreferNoSchedule" or any(one.tolerates(taint) for one in tolerations)

    return sorted(
        node.metadata.name
        for node in nodes
        if (node.spec.pod_cidr or spec.get("hostNetwork"))
        and all(node.metadata.labels.get(key) == value for key, value in selector.items())
        and all(tolerated(taint) for taint in node.spec.taints)
    )


def _toleration(found: dict[str, Any]) -> Toleration:
    words = {word: found.get(word) or "" for word in ("key", "value", "effect")}
    return Toleration(operator=found.get("operator") or "Equal", **words)


def plan_daemons(daemon_set: DaemonSet, nodes: Iterable[Node], pods: Sequence[Pod]) -> DaemonDiff:
    """The next step."""
    wanted = [] if daemon_set.metadata.deletion_timestamp else fitting(daemon_set, nodes)
    by_node: dict[str, list[Pod]] = {}
    for pod in pods:
        by_node.setdefault(pod.spec.node_name, []).append(pod)
    delete = [pod for name, found in by_node.items() if name not in wanted for pod in found if _stays(pod)]
    kept: list[Pod] = []
    for name in wanted:
        found = sorted(filter(_stays, by_node.get(name, ())), key=lambda pod: (not pod.is_active(), not pod.is_ready()))
        kept += [pod for pod in found[:1] if pod.is_active()]
        delete += [pod for pod in found if not (pod is found[0] and pod.is_active())]
    if daemon_set.spec.update_strategy.type == "RollingUpdate":
        delete += _outdated(daemon_set, kept, len(wanted))
    return DaemonDiff(tuple(name for name in wanted if name not in by_node), tuple(delete))


def _stays(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is None


def _outdated(daemon_set: DaemonSet, kept: Sequence[Pod], wanted: int) -> list[Pod]:
    """Old pods that may go now: those that serve nobody, then as many as may be missing."""
    revision = template_hash(daemon_set.spec.template)
    old = [pod for pod in kept if pod.metadata.labels.get(REVISION) != revision]
    most = max(1, resolve(daemon_set.spec.update_strategy.rolling_update.max_unavailable, wanted, round_up=True))
    spare = most - (wanted - sum(pod.is_ready() for pod in kept))
    ready = sorted((pod for pod in old if pod.is_ready()), key=lambda pod: pod.metadata.name)
    return [pod for pod in old if not pod.is_ready()] + ready[: max(0, spare)]


def daemon_pod(daemon_set: DaemonSet, name: str, node: str) -> dict[str, Any]:
    """A pod of the DaemonSet for a node."""
    template = daemon_set.spec.template
    metadata, spec = template.get("metadata", {}), template.get("spec", {})
    owner = owner_reference("apps/v1", "DaemonSet", daemon_set.metadata.name, daemon_set.metadata.uid)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": daemon_set.metadata.namespace,
            "labels": {**metadata.get("labels", {}), REVISION: template_hash(template)},
            "annotations": metadata.get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {**spec, "nodeName": node, "tolerations": [*(spec.get("tolerations") or ()), *TOLERATED]},
    }


def daemon_status(daemon_set: DaemonSet, nodes: Iterable[Node], pods: Sequence[Pod]) -> dict[str, Any]:
    """apps/v1 DaemonSetStatus, which `kubectl rollout status` reads."""
    wanted, revision = fitting(daemon_set, nodes), template_hash(daemon_set.spec.template)
    active = [pod for pod in pods if pod.is_active()]
    placed = {pod.spec.node_name: pod for pod in active if pod.spec.node_name in wanted}
    ready = sum(pod.is_ready() for pod in placed.values())
    return {
        "currentNumberScheduled": len(placed),
        "numberMisscheduled": sum(pod.spec.node_name not in wanted for pod in active),
        "desiredNumberScheduled": len(wanted),
        "numberReady": ready,
        "observedGeneration": daemon_set.metadata.generation,
        "updatedNumberScheduled": sum(pod.metadata.labels.get(REVISION) == revision for pod in placed.values()),
        "numberAvailable": ready,
        "numberUnavailable": len(wanted) - ready,
    }
