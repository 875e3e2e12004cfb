"""What the workload controllers read. Pod templates stay as they came (plain dicts): they are written back whole."""

from typing import Any, TypeAlias

import msgspec

from vrata.kube.objects import Condition, Labels, ObjectMeta, Projection, Taint

IntOrPercent: TypeAlias = int | str


class LabelRequirement(Projection, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Projection, frozen=True):
    match_labels: Labels = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Kubernetes' label selector semantics; an empty selector matches everything."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _holds(requirement, labels) for requirement in self.match_expressions
        )


def _holds(requirement: LabelRequirement, labels: Labels) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case _:
            return value is None


class RollingUpdate(Projection, frozen=True):
    max_surge: IntOrPercent = "25%"
    max_unavailable: IntOrPercent = "25%"


class Strategy(Projection, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class DeploymentSpec(Projection, frozen=True):
    selector: LabelSelector
    template: dict[str, Any]
    replicas: int = 1
    strategy: Strategy = Strategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False


class Deployment(Projection, frozen=True):
    metadata: ObjectMeta
    spec: DeploymentSpec
    status: dict[str, Any] = {}


class ReplicaSetSpec(Projection, frozen=True):
    selector: LabelSelector
    template: dict[str, Any] = {}
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicaSetStatus(Projection, frozen=True):
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    fully_labeled_replicas: int = 0
    observed_generation: int = 0


class ReplicaSet(Projection, frozen=True):
    metadata: ObjectMeta
    spec: ReplicaSetSpec
    status: ReplicaSetStatus = ReplicaSetStatus()


class DaemonRollingUpdate(Projection, frozen=True):
    max_unavailable: IntOrPercent = 1


class DaemonStrategy(Projection, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: DaemonRollingUpdate = DaemonRollingUpdate()


class DaemonSetSpec(Projection, frozen=True):
    selector: LabelSelector
    template: dict[str, Any]
    update_strategy: DaemonStrategy = DaemonStrategy()


class DaemonSet(Projection, frozen=True):
    metadata: ObjectMeta
    spec: DaemonSetSpec
    status: dict[str, Any] = {}


class ContainerPort(Projection, frozen=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(Projection, frozen=True):
    name: str
    ports: tuple[ContainerPort, ...] = ()


class Toleration(Projection, frozen=True):
    """An empty key with `Exists` tolerates every taint; an empty effect every effect (core/v1 Toleration)."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether a pod with this toleration may go to a node with the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


class PodSpec(Projection, frozen=True):
    node_name: str = ""
    node_selector: Labels = {}
    containers: tuple[Container, ...] = ()
    scheduler_name: str = ""
    tolerations: tuple[Toleration, ...] = ()


class PodStatus(Projection, frozen=True):
    phase: str = "Pending"
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[Condition, ...] = ()


class Pod(Projection, frozen=True):
    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def is_ready(self) -> bool:
        """Whether the Ready condition is True."""
        return any(entry.type == "Ready" and entry.status == "True" for entry in self.status.conditions)

    def is_active(self) -> bool:
        """Whether it counts as a replica: neither finished nor on its way out."""
        return self.metadata.deletion_timestamp is None and self.status.phase not in ("Succeeded", "Failed")


def controller_uid(metadata: ObjectMeta) -> str:
    """The uid of the controlling owner, empty if there is none."""
    return next((owner.uid for owner in metadata.owner_references if owner.controller), "")


class ServiceSpec(Projection, frozen=True):
    selector: Labels = {}
    ports: tuple["ServicePort", ...] = ()
    type: str = "ClusterIP"
    publish_not_ready_addresses: bool = False


class ServicePort(Projection, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    app_protocol: str | None = None


class Service(Projection, frozen=True):
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
