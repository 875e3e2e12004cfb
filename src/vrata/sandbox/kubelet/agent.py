"""The kubelet's loop: the node object, the pods that are bound to this node, and their status.

It compares the pods the API server wants here with what is recorded and runs; pods that were deleted while it was
away are removed, running ones are adopted. It needs no other part of the sandbox.
"""

import asyncio
import ipaddress
import os
import socket
from typing import Any

import aiohttp
import msgspec
import structlog

from vrata.base import clock
from vrata.base.asgi import serve_http
from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.loop.queue import SETTLED, Requeue, WorkQueue, work
from vrata.sandbox.containers.containers import Containers
from vrata.sandbox.containers.images import Images
from vrata.sandbox.containers.runtime import Runtime
from vrata.sandbox.containers.volumes import Sources
from vrata.sandbox.kubelet import pod as pods
from vrata.sandbox.kubelet.model import Pod, RunningPod, pod_status
from vrata.sandbox.kubelet.pod import PodRunner
from vrata.sandbox.kubelet.server import create_app
from vrata.sandbox.kubelet.settings import Settings
from vrata.sandbox.model import NODE_LABEL

HEARTBEAT_S = 10.0
REMOVAL_GRACE_DEFAULT_S = 30

log = structlog.get_logger(__name__)


class Kubelet:
    """Reconciles one pod at a time by its key; runners live from start to removal."""

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self.settings = settings
        self.kube = kube
        images, runtime = settings.images or settings.state_dir / "images", settings.state_dir / "runc"
        sources = Sources(kube, settings.kubeconfig)
        self.containers = Containers(settings.sandbox, Images(images), Runtime(runtime), sources)
        self.events = Recorder(kube, "kubelet")
        self.runners: dict[str, PodRunner] = {}  # by pod uid
        self.queue: WorkQueue[str] = WorkQueue()
        self.pods = Informer(kube, resources.PODS, Pod, field_selector=f"spec.nodeName={settings.node}")
        self.pods.on_change(lambda old, new: self.queue.add((new or old).metadata.key))  # type: ignore[union-attr]
        self._sent: dict[str, dict[str, Any]] = {}  # uid -> status last accepted by the API server
        self._recorded = self._read_records()

    def _read_records(self) -> dict[str, RunningPod]:
        found = {}
        for file in (self.settings.state_dir / "pods").glob("*/state.json"):
            record = msgspec.json.decode(file.read_bytes(), type=RunningPod)
            found[record.uid] = record
        return found

    async def run(self) -> None:
        """Serve until cancelled; running pods are left running."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heartbeat())
                group.create_task(self._serve_logs())
                group.create_task(self.events.run())
                group.create_task(self.pods.run())
                await self.pods.synced.wait()
                await self._remove_strays()
                group.create_task(work(self.queue, self.reconcile, workers=16, pass_timeout_s=3600))
        finally:
            for runner in self.runners.values():
                await runner.abandon()

    async def _remove_strays(self) -> None:
        """Pods that were deleted while nobody looked: their record is here, the object is not."""
        known = (self.pods.objects, self.pods.unreadable)
        wanted = {found.metadata.uid for pods_of in known for found in pods_of.values()}
        for uid in [uid for uid in self._recorded if uid not in wanted]:
            await pods.remove(self.settings, self._recorded.pop(uid))

    async def reconcile(self, key: str) -> Requeue:
        """Bring one pod to what its object says: running, reported, or gone."""
        pod = self.pods.objects.get(key)
        for uid, runner in list(self.runners.items()):
            if runner.running.key == key and (pod is None or pod.metadata.uid != uid):
                await self._end(runner, grace_s=0)
        if pod is None:
            return SETTLED
        runner = self.runners.get(pod.metadata.uid) or await self._begin(pod)
        if pod.metadata.deletion_timestamp:
            grace_s = pod.metadata.deletion_grace_period_seconds
            await self._end(runner, REMOVAL_GRACE_DEFAULT_S if grace_s is None else grace_s)
            await self._delete_object(pod)
            return SETTLED
        await self._report(runner)
        return SETTLED

    async def _begin(self, pod: Pod) -> PodRunner:
        uid = pod.metadata.uid
        running = self._recorded.get(uid)
        if running is None:
            address = self.settings.address if pod.spec.host_network else self._free_address()
            running = pods.new_running(self.settings, pod, address)
        self._recorded[uid] = running
        about = About.of("v1", "Pod", pod.metadata)

        def say(type_: str, reason: str, message: str) -> None:
            (self.events.warning if type_ == "Warning" else self.events.normal)(about, reason, message)

        runner = PodRunner(
            self.settings,
            self.containers,
            pod,
            running,
            changed=lambda: self.queue.add(pod.metadata.key),
            say=say,
        )
        self.runners[uid] = runner
        if not pod.metadata.deletion_timestamp:
            await runner.start()
        return runner

    async def _end(self, runner: PodRunner, grace_s: float) -> None:
        await runner.stop(grace_s)
        self.runners.pop(runner.running.uid, None)
        self._recorded.pop(runner.running.uid, None)
        self._sent.pop(runner.running.uid, None)
        self.containers.sources.forget(runner.running.uid)

    def _free_address(self) -> str:
        taken = {record.address for record in self._recorded.values()}
        hosts = ipaddress.ip_network(self.settings.pod_cidr).hosts()
        next(hosts)  # the node's own, the pods' gateway
        return next(str(address) for address in hosts if str(address) not in taken)

    async def _report(self, runner: PodRunner) -> None:
        status = pod_status(runner.pod, runner.running, self.settings.address, clock.rfc3339(clock.now()))
        sent = self._sent.get(runner.running.uid)
        if sent is not None:
            keep_transition_times(sent, status)
        if sent == status:
            return
        metadata = runner.pod.metadata
        body = {"metadata": {"uid": metadata.uid}, "status": status}
        try:
            await self.kube.patch(resources.PODS, metadata.name, body, metadata.namespace, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return  # replaced meanwhile: the informer brings the news
        self._sent[runner.running.uid] = status

    async def _delete_object(self, pod: Pod) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}}
        try:
            await self.kube.delete(resources.PODS, pod.metadata.name, pod.metadata.namespace, options=options)
        except ApiError as error:
            if error.code != 409:
                raise

    async def _heartbeat(self) -> None:
        while True:
            try:
                await self._register()
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("node status not written", error=str(error) or type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(HEARTBEAT_S)

    async def _register(self) -> None:
        """Create the Node if it is missing and write its status."""
        settings, now = self.settings, clock.rfc3339(clock.now())
        spec: dict[str, Any] = {}
        if settings.pod_cidr:
            spec |= {"podCIDR": settings.pod_cidr, "podCIDRs": [settings.pod_cidr]}
        if settings.provider_id:
            spec["providerID"] = settings.provider_id
        if settings.taints:
            split = [taint.rpartition(":") for taint in settings.taints]
            spec["taints"] = [{"key": key, "effect": effect} for key, _, effect in split]
        labels = {
            "kubernetes.io/hostname": settings.node,
            "kubernetes.io/os": "linux",
            NODE_LABEL: settings.sandbox,
        }
        if settings.taints:
            labels["node-role.kubernetes.io/control-plane"] = ""
        capacity = node_capacity()
        status = {
            "addresses": [
                {"type": "InternalIP", "address": settings.address},
                {"type": "Hostname", "address": settings.node},
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.port}},
            "nodeInfo": {
                "kubeletVersion": "v1.37.0+vrata",
                "operatingSystem": "linux",
                "osImage": "Linux network namespace",
                "containerRuntimeVersion": "process://1",
                "architecture": "amd64",
                "kernelVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
                "kubeProxyVersion": "",
            },
        }
        try:
            await self.kube.patch(resources.NODES, settings.node, {"status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": settings.node, "labels": labels},
                "spec": spec,
            }
            await self.kube.create(resources.NODES, body)
            await self.kube.patch(resources.NODES, settings.node, {"status": status}, subresource="status")

    async def _serve_logs(self) -> None:
        listening = socket.create_server((self.settings.address, self.settings.port), backlog=64)
        await serve_http(create_app(self.runners), [listening])


def node_capacity() -> dict[str, str]:
    """What the node has: the machine's own processors and memory, which its nodes share (core/v1 NodeStatus)."""
    memory_kib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory_kib}Ki", "pods": "110"}


def keep_transition_times(old: dict[str, Any], new: dict[str, Any]) -> None:
    """A condition whose status did not change keeps the time of its last transition."""
    before = {condition["type"]: condition for condition in old["conditions"]}
    for condition in new["conditions"]:
        known = before.get(condition["type"])
        if known and known["status"] == condition["status"]:
            condition["lastTransitionTime"] = known["lastTransitionTime"]
