"""The workload loops: observe from the informers, plan, apply. Ordinary API clients, for any conformant server.

A pass trusts the informers' copies only once its own earlier writes have come back through them: `Expectations` keeps
a ReplicaSet from creating a pod twice because the first one was not seen yet.

What the cluster's own controller manager or scheduler does is left to them (`detection`).
"""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any, assert_never

import structlog

from vrata.base import clock
from vrata.kube import resources
from vrata.kube.client import ApiError, Kube, Resource
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Node, ObjectMeta
from vrata.loop.queue import SETTLED, Requeue, WorkQueue, work
from vrata.sandbox.workloads import daemons, plan, slices
from vrata.sandbox.workloads.detection import Detection, Program
from vrata.sandbox.workloads.model import DaemonSet, Deployment, Pod, ReplicaSet, Service, controller_uid

MANAGER = Program.CONTROLLER_MANAGER
EXPECTATION_S = 5.0
UNPLACED_RETRY_S = 2.0

log = structlog.get_logger(__name__)


class Expectations:
    """Names of pods that were created or deleted but whose event has not arrived; forgotten after a bound."""

    def __init__(self) -> None:
        self._pending: dict[str, dict[str, float]] = {}

    def expect(self, key: str, pod: str) -> None:
        """Remember a write for this owner."""
        self._pending.setdefault(key, {})[pod] = clock.monotonic_s() + EXPECTATION_S

    def unmet(self, key: str, seen: Iterable[Pod]) -> bool:
        """Whether a created pod is still unseen, or a deleted one not yet marked."""
        active = {pod.metadata.name: pod.is_active() for pod in seen}
        pending = self._pending.get(key, {})
        now = clock.monotonic_s()
        for name, deadline in list(pending.items()):
            wants_gone = name.startswith("-")
            met = not active.get(name[1:], False) if wants_gone else name in active
            if met or deadline < now:
                del pending[name]
        return bool(pending)


class Workloads:
    """Deployments, ReplicaSets, DaemonSets, placement and endpoints of one cluster."""

    def __init__(self, kube: Kube, *, everything: bool = False) -> None:
        """`everything`: also what the cluster has controllers of its own for."""
        self.kube = kube
        self.events = Recorder(kube, "vrata-workloads")
        self.deployments = Informer(kube, resources.DEPLOYMENTS, Deployment)
        self.replica_sets = Informer(kube, resources.REPLICA_SETS, ReplicaSet)
        self.daemon_sets = Informer(kube, resources.DAEMON_SETS, DaemonSet)
        self.pods = Informer(kube, resources.PODS, Pod)
        self.nodes = Informer(kube, resources.NODES, Node)
        self.services = Informer(kube, resources.SERVICES, Service)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self.deployment_queue: WorkQueue[str] = WorkQueue()
        self.replica_set_queue: WorkQueue[str] = WorkQueue()
        self.daemon_set_queue: WorkQueue[str] = WorkQueue()
        self.pod_queue: WorkQueue[str] = WorkQueue()
        self.service_queue: WorkQueue[str] = WorkQueue()
        self.expectations = Expectations()
        self._detection = None if everything else Detection(kube, self._left_changed)
        self._written: dict[str, dict[str, Any]] = {}  # kind and key -> body last written
        self._informers: tuple[Informer[Any], ...] = (
            self.deployments, self.replica_sets, self.daemon_sets, self.pods, self.nodes, self.services, self.slices,
        )  # fmt: skip
        self._subscribe()

    def _subscribe(self) -> None:
        for informer in self._informers:
            informer.on_unreadable(self.events.unreadable)
        self.deployments.on_change(lambda old, new: self.deployment_queue.add(_metadata(old, new).key))
        self.replica_sets.on_change(lambda old, new: self._replica_set_changed(_metadata(old, new)))
        self.daemon_sets.on_change(lambda old, new: self.daemon_set_queue.add(_metadata(old, new).key))
        self.pods.on_change(self._pod_changed)
        self.nodes.on_change(lambda _old, _new: self._node_changed())
        self.services.on_change(lambda old, new: self.service_queue.add(_metadata(old, new).key))
        self.slices.on_change(self._slice_changed)

    def _replica_set_changed(self, metadata: ObjectMeta) -> None:
        self.replica_set_queue.add(metadata.key)
        for owner in metadata.owner_references:
            if owner.controller and owner.kind == "Deployment":
                self.deployment_queue.add(f"{metadata.namespace}/{owner.name}")

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        metadata = _metadata(old, new)
        for owner in metadata.owner_references:
            if owner.controller and owner.kind == "ReplicaSet":
                self.replica_set_queue.add(f"{metadata.namespace}/{owner.name}")
            elif owner.controller and owner.kind == "DaemonSet":
                self.daemon_set_queue.add(f"{metadata.namespace}/{owner.name}")
        if new is not None and not new.spec.node_name:
            self.pod_queue.add(metadata.key)
        for service in self.services.objects.values():
            if service.metadata.namespace == metadata.namespace and service.spec.selector:
                labels = [pod.metadata.labels for pod in (old, new) if pod]
                if any(service.spec.selector.items() <= entry.items() for entry in labels):
                    self.service_queue.add(service.metadata.key)

    def _node_changed(self) -> None:
        for pod in self.pods.objects.values():
            if not pod.spec.node_name:
                self.pod_queue.add(pod.metadata.key)
        for key in self.daemon_sets.objects:
            self.daemon_set_queue.add(key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        found = new or old
        if found and new is None:
            self._written.pop(f"slice {found.metadata.key}", None)
            self.service_queue.add(found.service_key)

    async def run(self) -> None:
        """Work until cancelled."""
        informers: list[Informer[Any]] = list(self._informers)
        informers += self._detection.informers if self._detection else ()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.synced.wait()
            if self._detection:
                await self._detection.begin()
            group.create_task(work(self.deployment_queue, self.reconcile_deployment))
            group.create_task(work(self.replica_set_queue, self.reconcile_replica_set))
            group.create_task(work(self.daemon_set_queue, self.reconcile_daemon_set))
            group.create_task(work(self.service_queue, self.reconcile_service))
            group.create_task(work(self.pod_queue, self.reconcile_placement, workers=1))

    def _leaves(self, program: Program) -> bool:
        return self._detection is not None and program in self._detection.left

    def _left_changed(self) -> None:
        """Look at everything again: a program has come, or gone for good."""
        assert self._detection
        log.info("left to the cluster's own controllers", programs=sorted(self._detection.left))
        of_informers: tuple[tuple[WorkQueue[str], Informer[Any]], ...] = (
            (self.deployment_queue, self.deployments), (self.replica_set_queue, self.replica_sets),
            (self.daemon_set_queue, self.daemon_sets),
            (self.service_queue, self.services), (self.pod_queue, self.pods),
        )  # fmt: skip
        self._written.clear()
        for queue, informer in of_informers:
            for key in informer.objects:
                queue.add(key)

    async def reconcile_deployment(self, key: str) -> Requeue:
        """One step of a rollout, and the Deployment's status."""
        deployment = self.deployments.objects.get(key)
        if self._leaves(MANAGER) or deployment is None or deployment.metadata.deletion_timestamp:
            return SETTLED
        uid = deployment.metadata.uid
        owned = [entry for entry in self.replica_sets.objects.values() if controller_uid(entry.metadata) == uid]
        for action in plan.plan_deployment(deployment, owned):
            await self._apply(deployment, action)
        status = plan.deployment_status(deployment, owned, clock.rfc3339(clock.now()))
        if status != deployment.status:
            await self._patch_status(resources.DEPLOYMENTS, deployment.metadata, status)
        revision = max((entry.metadata.annotations.get(plan.REVISION, "1") for entry in owned), key=int, default="1")
        if deployment.metadata.annotations.get(plan.REVISION) != revision:
            body = {"metadata": {"annotations": {plan.REVISION: revision}}}
            await self.kube.patch(resources.DEPLOYMENTS, deployment.metadata.name, body, deployment.metadata.namespace)
        return SETTLED

    async def _apply(self, deployment: Deployment, action: plan.DeploymentAction) -> None:
        namespace = deployment.metadata.namespace
        log.info("deployment", key=deployment.metadata.key, action=type(action).__name__, reason=action.reason)
        match action:
            case plan.CreateReplicaSet(body=body):
                await ignore(self.kube.create(resources.REPLICA_SETS, body, namespace), 409)
            case plan.ScaleReplicaSet(name=name, replicas=replicas):
                await self.kube.patch(resources.REPLICA_SETS, name, {"spec": {"replicas": replicas}}, namespace)
                about = About.of("apps/v1", "Deployment", deployment.metadata)
                self.events.normal(about, "ScalingReplicaSet", f"Scaled replica set {name} to {replicas}")
            case plan.AnnotateReplicaSet(name=name, annotations=annotations):
                body = {"metadata": {"annotations": annotations}}
                await self.kube.patch(resources.REPLICA_SETS, name, body, namespace)
            case plan.DeleteReplicaSet(name=name):
                await self.kube.delete(resources.REPLICA_SETS, name, namespace)
            case _:
                assert_never(action)

    async def reconcile_replica_set(self, key: str) -> Requeue:
        """Create or delete pods until their number is right, and write the status."""
        replica_set = self.replica_sets.objects.get(key)
        if self._leaves(MANAGER) or replica_set is None:
            return SETTLED
        uid = replica_set.metadata.uid
        pods = [pod for pod in self.pods.objects.values() if controller_uid(pod.metadata) == uid]
        if self.expectations.unmet(key, pods):
            return Requeue(after_s=EXPECTATION_S / 5)
        diff = plan.plan_replicas(replica_set, pods)
        if not replica_set.metadata.deletion_timestamp:
            for _ in range(diff.create):
                await self._create_pod(key, replica_set)
            for pod in diff.delete:
                self.expectations.expect(key, f"-{pod.metadata.name}")
                await self.kube.delete(resources.PODS, pod.metadata.name, pod.metadata.namespace)
        status = plan.replica_set_status(replica_set, pods)
        if status != {field: _status_field(replica_set, field) for field in status}:
            await self._patch_status(resources.REPLICA_SETS, replica_set.metadata, status)
        return SETTLED

    async def _create_pod(self, key: str, replica_set: ReplicaSet) -> None:
        name = f"{replica_set.metadata.name}-{secrets.token_hex(3)[:5]}"
        self.expectations.expect(key, name)
        about = About.of("apps/v1", "ReplicaSet", replica_set.metadata)
        await self._make_pod(about, plan.pod_body(replica_set, name))

    async def _make_pod(self, about: About, body: dict[str, Any]) -> None:
        metadata = body["metadata"]
        try:
            await self.kube.create(resources.PODS, body, metadata["namespace"])
        except ApiError as error:
            self.events.warning(about, "FailedCreate", f"Error creating: {error}")
            raise
        self.events.normal(about, "SuccessfulCreate", f"Created pod: {metadata['name']}")

    async def reconcile_daemon_set(self, key: str) -> Requeue:
        """One pod on each node that fits, and the status."""
        daemon_set = self.daemon_sets.objects.get(key)
        if self._leaves(MANAGER) or daemon_set is None:
            return SETTLED
        metadata, mark = daemon_set.metadata, f"DaemonSet {key}"  # a ReplicaSet may have the same name
        pods = [pod for pod in self.pods.objects.values() if controller_uid(pod.metadata) == metadata.uid]
        if self.expectations.unmet(mark, pods):
            return Requeue(after_s=EXPECTATION_S / 5)
        nodes = list(self.nodes.objects.values())
        diff = daemons.plan_daemons(daemon_set, nodes, pods)
        if not metadata.deletion_timestamp:
            for node in diff.create:
                name = f"{metadata.name}-{secrets.token_hex(3)[:5]}"
                self.expectations.expect(mark, name)
                body = daemons.daemon_pod(daemon_set, name, node)
                await self._make_pod(About.of("apps/v1", "DaemonSet", metadata), body)
            for pod in diff.delete:
                self.expectations.expect(mark, f"-{pod.metadata.name}")
                await self.kube.delete(resources.PODS, pod.metadata.name, pod.metadata.namespace)
        status = daemons.daemon_status(daemon_set, nodes, pods)
        if not status.items() <= daemon_set.status.items():
            await self._patch_status(resources.DAEMON_SETS, metadata, status)
        return SETTLED

    async def reconcile_placement(self, key: str) -> Requeue:
        """Bind a pod that has no node yet."""
        pod = self.pods.objects.get(key)
        if self._leaves(Program.SCHEDULER) or pod is None or pod.spec.node_name or pod.metadata.deletion_timestamp:
            return SETTLED
        node, reason = plan.plan_placement(pod, self.nodes.objects.values(), self.pods.objects.values())
        about = About.of("v1", "Pod", pod.metadata)
        if node is None:
            self.events.warning(about, "FailedScheduling", reason)
            return Requeue(after_s=UNPLACED_RETRY_S)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = Resource("", "v1", f"pods/{pod.metadata.name}/binding", "Binding")
        await ignore(self.kube.create(path, binding, pod.metadata.namespace), 409, 404)
        self.events.normal(about, "Scheduled", f"Successfully assigned {pod.metadata.key} to {node}")
        await self._seen_bound(key)
        return SETTLED

    async def _seen_bound(self, key: str) -> None:
        """Wait, bounded, until the copy knows the binding: the next placement counts pods per node."""
        deadline = clock.monotonic_s() + 1.0
        while clock.monotonic_s() < deadline:
            pod = self.pods.objects.get(key)
            if pod is None or pod.spec.node_name:
                return
            await asyncio.sleep(0.002)

    async def reconcile_service(self, key: str) -> Requeue:
        """Write the slices and Endpoints that differ from what was written last, remove slices that have no more place."""
        service = self.services.objects.get(key)
        if self._leaves(MANAGER) or service is None:
            return SETTLED
        if not service.spec.selector or service.spec.type == "ExternalName":
            return SETTLED
        pods = list(self.pods.objects.values())
        wanted = slices.plan_slices(service, pods)
        for name, body in wanted.items():
            await self._put(resources.ENDPOINT_SLICES, "slice", name, body)
        for entry in list(self.slices.objects.values()):
            labels = entry.metadata.labels
            ours = labels.get("endpointslice.kubernetes.io/managed-by") == slices.MANAGED_BY
            if ours and entry.service_key == key and entry.metadata.name not in wanted:
                await self.kube.delete(resources.ENDPOINT_SLICES, entry.metadata.name, entry.metadata.namespace)
                self._written.pop(f"slice {entry.metadata.key}", None)
        await self._put(resources.ENDPOINTS, "endpoints", service.metadata.name, slices.plan_endpoints(service, pods))
        return SETTLED

    async def _put(self, resource: Resource, kind: str, name: str, body: dict[str, Any]) -> None:
        namespace = body["metadata"]["namespace"]
        mark = f"{kind} {namespace}/{name}"
        if self._written.get(mark) == body:
            return
        try:
            await self.kube.patch(resource, name, body, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            await self.kube.create(resource, body, namespace)
        self._written[mark] = body

    async def _patch_status(self, resource: Resource, metadata: ObjectMeta, status: dict[str, Any]) -> None:
        body = {"status": status}
        await ignore(self.kube.patch(resource, metadata.name, body, metadata.namespace, subresource="status"), 404)


async def ignore(call: Any, *codes: int) -> None:
    """Await a call whose failure with these codes only says that somebody was faster."""
    try:
        await call
    except ApiError as error:
        if error.code not in codes:
            raise


def _metadata(old: Any, new: Any) -> ObjectMeta:
    metadata = (new or old).metadata
    assert isinstance(metadata, ObjectMeta)
    return metadata


def _status_field(replica_set: ReplicaSet, field: str) -> int:
    names = {
        "replicas": replica_set.status.replicas,
        "fullyLabeledReplicas": replica_set.status.fully_labeled_replicas,
        "readyReplicas": replica_set.status.ready_replicas,
        "availableReplicas": replica_set.status.available_replicas,
        "observedGeneration": replica_set.status.observed_generation,
    }
    return names[field]
