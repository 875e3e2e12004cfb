"""Several replicas' statuses against a real API server: the holder of the Lease writes, and another one after it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
from tests.support.kubernetes import Cluster

from vrata.ingress.statuses import StatusWriter
from vrata.kube import config
from vrata.kube.client import Kube
from vrata.kube.lease import Leadership, LeaseObject, Times
from vrata.kube.objects import Ingress, Service
from vrata.kube.resources import INGRESSES, LEASES

LEASE = "statuses"


class Replica:
    """One replica's writer; its `address` in front tells who wrote (in life all have the same)."""

    def __init__(self, kube: Kube, namespace: str, address: str, *, lease: bool = True) -> None:
        self._kube, self._namespace, self._address = kube, namespace, address
        leadership = Leadership(kube, namespace, LEASE, address, Times(3)) if lease else None
        self.writer = StatusWriter(kube, "default/front", leadership)
        self.task: asyncio.Task[None] | None = None

    async def serves(self, *names: str) -> None:
        """Tell the writer what a pass found."""
        status = {"loadBalancer": {"ingress": [{"ip": self._address}]}}
        front = msgspec.convert({"metadata": {"name": "front", "namespace": "default"}, "status": status}, Service)
        found = {name: await self._kube.get(INGRESSES, Ingress, name, self._namespace) for name in names}
        present = {f"{self._namespace}/{name}": one for name, one in found.items() if one}
        self.writer.set(frozenset(present), present, {"default/front": front})


@contextlib.asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    for replica in replicas:
        replica.task = asyncio.ensure_future(replica.writer.run())
    try:
        yield
    finally:
        for replica in replicas:
            await end(replica)


async def end(replica: Replica) -> None:
    assert replica.task
    replica.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await replica.task


async def addresses(kube: Kube, namespace: str, name: str) -> list[str]:
    found = await kube.get(INGRESSES, Ingress, name, namespace)
    assert found
    return [entry.ip for entry in found.status.load_balancer.ingress]


async def holder(kube: Kube, namespace: str) -> str:
    lease = await kube.get(LEASES, LeaseObject, LEASE, namespace)
    return (lease and lease.spec.holder_identity) or ""


async def until_written(kube: Kube, namespace: str, name: str, address: str) -> None:
    async with asyncio.timeout(90):
        while await addresses(kube, namespace, name) != [address]:
            await asyncio.sleep(0.02)


async def until_held(kube: Kube, namespace: str, wanted: Callable[[str], bool]) -> str:
    async with asyncio.timeout(90):
        while not wanted(found := await holder(kube, namespace)):
            await asyncio.sleep(0.02)
    return found


async def make(kube: Kube, namespace: str, name: str) -> None:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    body = {"metadata": {"name": name}, "spec": {"defaultBackend": backend}}
    await kube.create(INGRESSES, body, namespace)


async def test_without_a_lease_each_replica_writes(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        await make(kube, namespace, "web")
        replica = Replica(kube, namespace, "203.0.113.1", lease=False)
        async with running(replica):
            await replica.serves("web")
            await until_written(kube, namespace, "web", "203.0.113.1")
        assert not await holder(kube, namespace)


async def test_a_replica_that_serves_nothing_yet_leaves_the_lease_alone(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        await make(kube, namespace, "web")
        idle, working = Replica(kube, namespace, "203.0.113.1"), Replica(kube, namespace, "203.0.113.2")
        async with running(idle, working):
            await working.serves("web")
            await until_written(kube, namespace, "web", "203.0.113.2")
            assert await holder(kube, namespace) == "203.0.113.2"


async def test_the_holder_writes_and_at_its_end_the_next_one(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        await make(kube, namespace, "web")
        first, second = Replica(kube, namespace, "203.0.113.1"), Replica(kube, namespace, "203.0.113.2")
        async with running(first):
            await first.serves("web")
            await until_written(kube, namespace, "web", "203.0.113.1")
            async with running(second):
                await second.serves("web")
                await make(kube, namespace, "more")
                await second.serves("web", "more")  # it would write both if it did not stand by
                await first.serves("web", "more")
                await until_written(kube, namespace, "more", "203.0.113.1")
                assert await addresses(kube, namespace, "web") == ["203.0.113.1"]
                await end(first)
                await until_written(kube, namespace, "web", "203.0.113.2")
                await until_written(kube, namespace, "more", "203.0.113.2")


async def test_a_replica_that_lost_the_lease_stands_by_and_writes_again_later(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        await make(kube, namespace, "web")
        replica = Replica(kube, namespace, "203.0.113.1")
        async with running(replica):
            await replica.serves("web")
            await until_written(kube, namespace, "web", "203.0.113.1")
            taken = {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 2}}
            await kube.patch(LEASES, LEASE, taken, namespace)
            none = {"status": {"loadBalancer": {"ingress": None}}}
            await kube.patch(INGRESSES, "web", none, namespace, subresource="status")
            await until_held(kube, namespace, lambda found: found == "203.0.113.1")
            await replica.serves("web")
            await until_written(kube, namespace, "web", "203.0.113.1")
            assert replica.task
            assert not replica.task.done()
