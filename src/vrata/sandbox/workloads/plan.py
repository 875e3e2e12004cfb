"""What to change so that Deployments, ReplicaSets and pods become what was asked: pure, with reasons.

Follows the Deployment and ReplicaSet controllers of Kubernetes (documentation, «Deployments», «ReplicaSet»): a template
has one ReplicaSet, named by the template's hash; a rolling update never has more than replicas + maxSurge pods and never
fewer than replicas - maxUnavailable available ones.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vrata.kube.objects import Node, Taint
from vrata.sandbox.workloads.model import Deployment, IntOrPercent, Pod, ReplicaSet

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"


@dataclass(frozen=True)
class CreateReplicaSet:
    body: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class ScaleReplicaSet:
    name: str
    replicas: int
    reason: str


@dataclass(frozen=True)
class AnnotateReplicaSet:
    name: str
    annotations: dict[str, str]
    reason: str


@dataclass(frozen=True)
class DeleteReplicaSet:
    name: str
    reason: str


DeploymentAction = CreateReplicaSet | ScaleReplicaSet | AnnotateReplicaSet | DeleteReplicaSet


def template_hash(template: Mapping[str, Any]) -> str:
    """A short name for a pod template: equal templates, equal names."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2s(text.encode(), digest_size=5).hexdigest()


def resolve(value: IntOrPercent, total: int, *, round_up: bool) -> int:
    """An absolute number from an IntOrString such as 1 or "25%"."""
    if isinstance(value, int):
        return value
    exact = total * int(value.rstrip("%")) / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def limits(deployment: Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers; not both may be zero, so then one may be unavailable."""
    replicas, rolling = deployment.spec.replicas, deployment.spec.strategy.rolling_update
    if deployment.spec.strategy.type == "Recreate":
        return 0, replicas
    surge = resolve(rolling.max_surge, replicas, round_up=True)
    unavailable = resolve(rolling.max_unavailable, replicas, round_up=False)
    return surge, unavailable if surge or unavailable else 1


def plan_deployment(deployment: Deployment, owned: Sequence[ReplicaSet]) -> list[DeploymentAction]:
    """The next steps of a rollout; each leaves the Deployment within its limits."""
    name = new_name(deployment)
    new = next((entry for entry in owned if entry.metadata.name == name), None)
    old = sorted((entry for entry in owned if entry is not new), key=_revision)
    if new is None:
        return _plan_without_new(deployment, name, old)
    actions: list[DeploymentAction] = []
    newest = max((_revision(entry) for entry in old), default=0)
    if _revision(new) <= newest:
        actions.append(AnnotateReplicaSet(name, {REVISION: str(newest + 1)}, "rolled back to it"))
    if not deployment.spec.paused:
        actions += _plan_rollout(deployment, new, old)
    actions += _plan_history(deployment, old)
    return actions


def new_name(deployment: Deployment) -> str:
    """The name of the ReplicaSet that carries the current template."""
    return f"{deployment.metadata.name}-{template_hash(deployment.spec.template)}"


def _plan_without_new(deployment: Deployment, name: str, old: Sequence[ReplicaSet]) -> list[DeploymentAction]:
    if deployment.spec.paused:
        return []
    running = sum(entry.status.replicas for entry in old)
    if deployment.spec.strategy.type == "Recreate" and running:
        return _scale_to_zero(old, "Recreate: old pods end first")
    surge, _ = limits(deployment)
    wanted = sum(entry.spec.replicas for entry in old)
    replicas = max(0, min(deployment.spec.replicas, deployment.spec.replicas + surge - wanted))
    revision = max((_revision(entry) for entry in old), default=0) + 1
    return [CreateReplicaSet(replica_set_body(deployment, name, replicas, revision), "template has no ReplicaSet yet")]


def replica_set_body(deployment: Deployment, name: str, replicas: int, revision: int) -> dict[str, Any]:
    """The ReplicaSet of the Deployment's current template."""
    hash_ = template_hash(deployment.spec.template)
    template = json.loads(json.dumps(deployment.spec.template))
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels[HASH_LABEL] = hash_
    selector = deployment.spec.selector
    expressions = [
        {"key": entry.key, "operator": entry.operator, "values": list(entry.values)}
        for entry in selector.match_expressions
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.metadata.namespace,
            "labels": labels,
            "annotations": {REVISION: str(revision), DESIRED: str(deployment.spec.replicas)},
            "ownerReferences": [
                owner_reference("apps/v1", "Deployment", deployment.metadata.name, deployment.metadata.uid)
            ],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": {
                "matchLabels": {**selector.match_labels, HASH_LABEL: hash_},
                **({"matchExpressions": expressions} if expressions else {}),
            },
            "template": template,
        },
    }


def owner_reference(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """A controlling owner reference (metav1.OwnerReference)."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _plan_rollout(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> list[DeploymentAction]:
    desired = deployment.spec.replicas
    surge, unavailable = limits(deployment)
    old_wanted = sum(entry.spec.replicas for entry in old)
    if deployment.spec.strategy.type == "Recreate" and any(entry.status.replicas for entry in old):
        return _scale_to_zero(old, "Recreate: old pods end first")
    actions: list[DeploymentAction] = []
    up_to = min(desired, max(new.spec.replicas, desired + surge - old_wanted))
    new_wanted = up_to
    if up_to != new.spec.replicas:
        actions.append(ScaleReplicaSet(new.metadata.name, up_to, f"{desired} wanted, surge {surge}"))
    available = sum(entry.status.available_replicas for entry in [new, *old])
    new_unavailable = max(0, new_wanted - new.status.available_replicas)
    spare = old_wanted + new_wanted - (desired - unavailable) - new_unavailable
    return actions + _scale_down_old(old, spare, available - (desired - unavailable))


def _scale_down_old(old: Sequence[ReplicaSet], spare: int, spare_available: int) -> list[DeploymentAction]:
    """First pods that serve nobody, then available ones as far as enough others are available."""
    actions: list[DeploymentAction] = []
    for entry in old:
        if not entry.spec.replicas:
            continue
        idle = max(0, entry.spec.replicas - entry.status.available_replicas)
        down = min(max(0, spare), idle)
        from_available = min(max(0, spare - down), max(0, spare_available), entry.spec.replicas - down)
        total = down + from_available
        if total:
            actions.append(
                ScaleReplicaSet(entry.metadata.name, entry.spec.replicas - total, "replaced by the new template")
            )
        spare -= total
        spare_available -= from_available
    return actions


def _scale_to_zero(old: Iterable[ReplicaSet], reason: str) -> list[DeploymentAction]:
    return [ScaleReplicaSet(entry.metadata.name, 0, reason) for entry in old if entry.spec.replicas]


def _plan_history(deployment: Deployment, old: Sequence[ReplicaSet]) -> list[DeploymentAction]:
    idle = [entry for entry in old if not entry.spec.replicas and not entry.status.replicas]
    surplus = len(idle) - deployment.spec.revision_history_limit
    return [DeleteReplicaSet(entry.metadata.name, "beyond revisionHistoryLimit") for entry in idle[: max(0, surplus)]]


def _revision(replica_set: ReplicaSet) -> int:
    text = replica_set.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class ReplicaDiff:
    """How many pods a ReplicaSet lacks, or which are too many."""

    create: int
    delete: tuple[Pod, ...]


def plan_replicas(replica_set: ReplicaSet, pods: Sequence[Pod]) -> ReplicaDiff:
    """Compare active pods with the wanted number; those go first that serve least (unplaced, unready, young)."""
    active = [pod for pod in pods if pod.is_active()]
    wanted = 0 if replica_set.metadata.deletion_timestamp else replica_set.spec.replicas
    surplus = len(active) - wanted
    if surplus <= 0:
        return ReplicaDiff(-surplus, ())

    def usefulness(pod: Pod) -> tuple[bool, bool, float, str]:
        created = pod.metadata.creation_timestamp
        return (
            bool(pod.spec.node_name),
            bool(pod.is_ready()),
            -(created.timestamp() if created else 0.0),
            pod.metadata.name,
        )

    return ReplicaDiff(0, tuple(sorted(active, key=usefulness)[:surplus]))


def pod_body(replica_set: ReplicaSet, name: str) -> dict[str, Any]:
    """A pod of this ReplicaSet's template."""
    metadata = replica_set.spec.template.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": replica_set.metadata.namespace,
            "labels": metadata.get("labels", {}),
            "annotations": metadata.get("annotations", {}),
            "ownerReferences": [
                owner_reference("apps/v1", "ReplicaSet", replica_set.metadata.name, replica_set.metadata.uid)
            ],
        },
        "spec": replica_set.spec.template.get("spec", {}),
    }


def replica_set_status(replica_set: ReplicaSet, pods: Sequence[Pod]) -> dict[str, Any]:
    """apps/v1 ReplicaSetStatus; a pod is available once it is ready (minReadySeconds is not waited for)."""
    active = [pod for pod in pods if pod.is_active()]
    ready = sum(pod.is_ready() for pod in active)
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": replica_set.metadata.generation,
    }


def deployment_status(deployment: Deployment, owned: Sequence[ReplicaSet], now: str) -> dict[str, Any]:
    """apps/v1 DeploymentStatus with the conditions that `kubectl rollout status` reads."""
    new = next((entry for entry in owned if entry.metadata.name == new_name(deployment)), None)
    replicas = sum(entry.status.replicas for entry in owned)
    available = sum(entry.status.available_replicas for entry in owned)
    updated = new.status.replicas if new else 0
    desired = deployment.spec.replicas
    _, unavailable = limits(deployment)
    complete = updated == desired == available == replicas
    enough = available >= desired - unavailable

    def condition(type_: str, reason: str, message: str, *, true: bool) -> dict[str, Any]:
        status = "True" if true else "False"
        known: dict[str, Any] = next(
            (entry for entry in deployment.status.get("conditions", []) if entry["type"] == type_), {}
        )
        same = known.get("status") == status
        return {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": known.get("lastTransitionTime", now) if same else now,
            "lastUpdateTime": known.get("lastUpdateTime", now) if same and known.get("reason") == reason else now,
        }

    name = new.metadata.name if new else new_name(deployment)
    return {
        "observedGeneration": deployment.metadata.generation,
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": sum(entry.status.ready_replicas for entry in owned),
        "availableReplicas": available,
        "unavailableReplicas": max(0, max(desired, replicas) - available),
        "conditions": [
            condition(
                "Available",
                "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
                "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
                true=enough,
            ),
            condition(
                "Progressing",
                "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
                f'ReplicaSet "{name}" has successfully progressed.'
                if complete
                else f'ReplicaSet "{name}" is progressing.',
                true=True,
            ),
        ],
    }


def plan_placement(pod: Pod, nodes: Iterable[Node], pods: Iterable[Pod]) -> tuple[str | None, str]:
    """The node for a pod and the reason; None if no node can take it. Fewest siblings first, then fewest pods."""

    def is_tolerated(taint: Taint) -> bool:
        return taint.effect == "PreferNoSchedule" or any(one.tolerates(taint) for one in pod.spec.tolerations)

    fit = [
        node.metadata.name
        for node in nodes
        if node.is_ready()
        and node.spec.pod_cidr
        and not node.spec.unschedulable
        and all(is_tolerated(taint) for taint in node.spec.taints)
        and all(node.metadata.labels.get(key) == value for key, value in pod.spec.node_selector.items())
    ]
    if not fit:
        return None, "no node is ready, schedulable, tolerated and matches the nodeSelector"
    owners = {owner.uid for owner in pod.metadata.owner_references}
    active = [other for other in pods if other.spec.node_name and other.is_active()]
    siblings = Counter(
        other.spec.node_name for other in active if owners & {owner.uid for owner in other.metadata.owner_references}
    )
    total = Counter(other.spec.node_name for other in active)
    return min(fit, key=lambda name: (siblings[name], total[name], name)), "fewest pods of its kind"
