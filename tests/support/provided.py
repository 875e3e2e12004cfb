"""A cloud provider at work in the test's own event loop, between a Kubernetes API server and a cloud.

The cloud is `vrata cloud` with hosts that only say so, or the one of clouds.yaml that VRATA_TEST_CLOUD names.
"""

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.cloud import Cloud as CloudProcess
from tests.support.cloud import FakeHost
from tests.support.kubernetes import Cluster

from vrata.base.clock import monotonic_s
from vrata.kube import config, resources
from vrata.kube.client import Kube
from vrata.provider.call import BALANCING, LBAAS, NETWORK
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.controller import Provider
from vrata.provider.model import Settings
from vrata.sandbox import tenant

Json = dict[str, Any]
DEADLINE_S = 120.0
NODES = {"worker-0": "10.10.0.20", "worker-1": "10.10.0.21"}
SUBNET_6 = "fd00:10::/64"


# A variable of the task: the provider's own calls go on being counted while the test asks something.
_AS_PROVIDER = ContextVar("_AS_PROVIDER", default=True)


@contextlib.contextmanager
def _as_somebody_else() -> Iterator[None]:
    token = _AS_PROVIDER.set(False)
    try:
        yield
    finally:
        _AS_PROVIDER.reset(token)


@dataclass
class Fault:
    """Spoils one of the next writes: after so many of them, before the cloud sees it or after it was done."""

    after: int
    status: int = 503
    done: bool = False
    kill: Callable[[], object] | None = None


class WatchedCloud(Cloud):
    """Remembers every call, and spoils some."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[tuple[str, str, str]] = []
        self.faults: list[Fault] = []

    async def request(
        self, method: str, service: str, path: str, *, params: dict[str, str] | None = None, body: Json | None = None
    ) -> Json:
        if not _AS_PROVIDER.get():
            return await super().request(method, service, path, params=params, body=body)
        self.calls.append((method, service, path))
        fault = self._fault() if method != "GET" else None
        if fault and not fault.done:
            self._strike(fault)
        answer = await super().request(method, service, path, params=params, body=body)
        if fault:
            self._strike(fault)
        return answer

    def _fault(self) -> Fault | None:
        if not self.faults:
            return None
        self.faults[0].after -= 1
        return self.faults.pop(0) if self.faults[0].after < 0 else None

    @staticmethod
    def _strike(fault: Fault) -> None:
        if fault.kill:
            fault.kill()
            raise asyncio.CancelledError
        raise CloudError(fault.status, "Load Balancer is immutable" if fault.status == 409 else "spoiled by a test")

    def writes(self) -> Counter[str]:
        """Changes so far, by service."""
        return Counter(service for method, service, _ in self.calls if method != "GET")

    def reads(self) -> int:
        """Questions so far."""
        return sum(method == "GET" for method, _, _ in self.calls)


@dataclass
class Ground:
    """A namespace of the cluster, a project of the cloud, and a provider between them."""

    cluster: Cluster
    kube: Kube
    cloud: WatchedCloud
    namespace: str
    settings: Settings
    options: dict[str, Any] = field(default_factory=dict)
    provider: Provider | None = None
    task: asyncio.Task[None] | None = None

    async def start(self, **changes: Any) -> None:
        """(Re)start the provider, with some settings changed."""
        self.settings = replace(self.settings, **changes)
        self.provider = Provider(self.kube, self.cloud, self.settings, **self.options)
        self.task = asyncio.create_task(self.provider.run())
        provider = self.provider
        await self.until(lambda: all(one.synced.is_set() for one in (provider.services, provider.nodes)), "it is ready")

    async def stop(self) -> None:
        """Kill it: nothing is tidied up."""
        if self.task:
            self.task.cancel()
            await asyncio.wait({self.task})
            self.task = None

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """kubectl in this test's namespace, beside the loop."""
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *arguments, stdin=stdin)

    async def set_status(self, manifests: str) -> None:
        """As the cluster's, beside the loop."""
        await asyncio.to_thread(self.cluster.set_status, manifests)

    async def apply(self, name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """A Service of type LoadBalancer."""
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations or {}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
        }
        await self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    async def service(self, name: str) -> Json:
        """A Service as it is now. Read without kubectl, which costs 0.2 s of processor time: tests ask again and again."""
        found = await self.kube.get(resources.SERVICES, dict, name, self.namespace)
        assert found is not None, f"there is no Service {name}"
        return found

    async def addresses(self, name: str) -> list[str]:
        """What its status shows."""
        entries = (await self.service(name)).get("status", {}).get("loadBalancer", {}).get("ingress", [])
        return [entry.get("ip") or entry["hostname"] for entry in entries]

    async def served(self, *names: str) -> None:
        """Wait until the Services have addresses and nothing is left to do."""
        deadline = monotonic_s() + DEADLINE_S
        for name in names:
            while not await self.addresses(name):
                if self.task and self.task.done():
                    self.task.result()  # it says what ended the provider
                assert monotonic_s() < deadline, f"{name} has no address: {await self.events(name)}"
                await asyncio.sleep(0.05)
        await self.rest()

    async def rest(self) -> None:
        """Wait until the provider has nothing to do and waits for nothing."""
        provider = self.provider
        assert provider
        calm = 0
        deadline = monotonic_s() + DEADLINE_S
        while calm < 5:
            busy = len(provider.queue) or provider.pending.waits()
            calm = 0 if busy else calm + 1
            assert monotonic_s() < deadline, "the provider does not come to rest"
            await asyncio.sleep(0.05)

    async def events(self, name: str) -> list[tuple[str, str]]:
        """Reasons and messages of the events about a Service."""
        found = (await self.kube.list(resources.EVENTS, dict, self.namespace)).objects
        return [(one["reason"], one["message"]) for one in found if one["involvedObject"]["name"] == name]

    async def told(self, name: str, *words: str) -> str:
        """Wait for an event with all of these words; its message."""
        deadline = monotonic_s() + DEADLINE_S
        while True:
            events = await self.events(name)
            for reason, message in events:
                if all(word in f"{reason} {message}" for word in words):
                    return message
            assert monotonic_s() < deadline, f"no event with {words}: {events}"
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something."""
        deadline = monotonic_s() + DEADLINE_S
        while not condition():
            assert monotonic_s() < deadline, f"not within {DEADLINE_S} s: {what}"
            if self.task and self.task.done():
                self.task.result()
            await asyncio.sleep(0.02)

    def name(self, service: str) -> str:
        """Of its load balancer."""
        return f"kube_service_{self.settings.cluster}_{self.namespace}_{service}"

    async def balancer(self, service: str) -> Json:
        """Its load balancer in the cloud."""
        [found] = await self.balancers(service)
        return found

    async def balancers(self, service: str) -> list[Json]:
        """All of its name."""
        return await self.read("loadbalancers", name=self.name(service))

    async def read(self, kind: str, **filters: str) -> list[Json]:
        """A list of the balancing API that does not count as the provider's."""
        return await self.seen(BALANCING, f"{LBAAS}/{kind}", kind.rpartition("/")[2], **filters)

    async def floating(self) -> list[Json]:
        """Floating IPs that this cluster made."""
        rows = await self.seen(NETWORK, "/v2.0/floatingips", "floatingips")
        return [one for one in rows if (one["description"] or "").endswith(f" from cluster {self.settings.cluster}")]

    async def seen(self, service: str, path: str, key: str, **filters: str) -> list[Json]:
        """A list that does not count as the provider's."""
        with _as_somebody_else():
            return await self.cloud.find(service, path, key, **filters)

    async def by_hand(self, method: str, service: str, path: str, body: Json | None = None, **params: str) -> Json:
        """A change that somebody makes in the cloud; waits while it is busy."""
        deadline = monotonic_s() + DEADLINE_S
        while True:
            try:
                with _as_somebody_else():
                    return await self.cloud.request(method, service, path, params=params, body=body)
            except CloudError as error:
                if error.status != 409 or monotonic_s() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def gone(self, service: str) -> None:
        """Wait until nothing of a Service is left in the cloud."""
        deadline = monotonic_s() + DEADLINE_S
        mark = f"service {self.namespace}/{service} from"
        while await self.balancers(service) or any(mark in one["description"] for one in await self.floating()):
            assert monotonic_s() < deadline, f"{service} left something behind"
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def backing(directory: Path) -> Iterator[tuple[str, Path | None]]:
    """A cloud with networks and node ports; its name in clouds.yaml, and where that is."""
    given = os.environ.get("VRATA_TEST_CLOUD")
    if given:
        yield given, None
        return
    process = CloudProcess(directory)
    process.start()
    hosts = [FakeHost(process, name) for name in ("host-a", "host-b")]
    try:
        for host in hosts:
            host.start()
        asyncio.run(networks(process.config))
        yield "vrata", process.config
    finally:
        for host in hosts:
            host.stop()
        process.stop()


async def networks(clouds: Path) -> None:
    """An external network, a tenant's one of both families behind a router, and a port for each node."""
    async with Cloud("vrata-admin", clouds) as admin, Cloud("vrata", clouds) as demo:
        external = await tenant.ensure_external(admin)
        [project] = await admin.find("identity", "/v3/projects", "projects", name="demo")
        network_id, subnet_id = await tenant.ensure_tenant_network(admin, project["id"])
        six = {
            "name": "tenant-6",
            "project_id": project["id"],
            "network_id": network_id,
            "ip_version": 6,
            "cidr": SUBNET_6,
        }
        made = await admin.request("POST", NETWORK, "/v2.0/subnets", body={"subnet": six})
        await tenant.ensure_router(demo, external, subnet_id)
        for name, address in NODES.items():
            fixed = [{"subnet_id": subnet_id, "ip_address": address}, {"subnet_id": made["subnet"]["id"]}]
            body = {"port": {"name": name, "network_id": network_id, "fixed_ips": fixed}}
            await demo.request("POST", NETWORK, "/v2.0/ports", body=body)


@contextlib.asynccontextmanager
async def ground(
    cluster: Cluster, namespace: str, cloud: tuple[str, Path | None], **options: Any
) -> AsyncIterator[Ground]:
    """A running provider; what it made is removed at the end."""
    async with Kube(config.load(cluster.kubeconfig)) as kube, WatchedCloud(*cloud) as watched:
        made = Ground(cluster, kube, watched, namespace, Settings(cluster=namespace), options)
        await made.start()
        try:
            yield made
        finally:
            watched.faults.clear()
            if made.task is None or made.task.done():
                await made.start()
            await made.kubectl("delete", "services", "--all", "--wait=false")
            for row in await made.seen(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers"):
                if row["name"].startswith(f"kube_service_{namespace}_"):
                    await made.gone(row["name"].rpartition("_")[2])
            await made.stop()
