"""The informer against a real API server: nothing is missed, whatever happens to the server or the watch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, own_cluster

from vrata.kube import config, resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import Service

DEADLINE_S = 60.0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def informed(cluster: Cluster, namespace: str) -> AsyncIterator[tuple[Kube, Informer[Service], list[str]]]:
    """A running informer and what it reported, `+name`, `~name`, `-name`."""
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        informer = Informer(kube, resources.SERVICES, Service, namespace=namespace)
        seen: list[str] = []

        def note(old: Service | None, new: Service | None) -> None:
            found = new or old
            assert found
            seen.append(("+" if old is None else "-" if new is None else "~") + found.metadata.name)

        informer.on_change(note)
        running = asyncio.create_task(informer.run())
        try:
            await until(informer.synced.is_set)
            yield kube, informer, seen
        finally:
            running.cancel()


async def make(kube: Kube, name: str, namespace: str) -> None:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    await kube.create(resources.SERVICES, body, namespace)


async def test_every_change_is_reported_once(cluster: Cluster, namespace: str) -> None:
    async with informed(cluster, namespace) as (kube, informer, seen):
        await make(kube, "one", namespace)
        await until(lambda: f"{namespace}/one" in informer.objects)
        await kube.patch(resources.SERVICES, "one", {"metadata": {"labels": {"a": "b"}}}, namespace)
        await until(lambda: "~one" in seen)
        await kube.delete(resources.SERVICES, "one", namespace)
        await until(lambda: "-one" in seen)
        assert seen == ["+one", "~one", "-one"]
        assert informer.objects == {}


async def test_changes_while_the_server_was_away_are_not_lost(tmp_path: Path) -> None:
    with own_cluster(tmp_path) as (cluster, server):
        async with informed(cluster, "default") as (kube, informer, seen):
            await make(kube, "stays", "default")
            await make(kube, "goes", "default")
            await until(lambda: "+goes" in seen)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            async with Kube(config.load(cluster.kubeconfig)) as other:
                await other.delete(resources.SERVICES, "goes", "default")
            await until(lambda: "-goes" in seen)
            assert "default/stays" in informer.objects
            assert seen.count("+stays") == 1, "what did not change is not reported again"


async def test_a_version_that_is_too_old_leads_to_a_new_list_with_its_deletions(
    cluster: Cluster, namespace: str
) -> None:
    async with informed(cluster, namespace) as (kube, informer, seen):
        await make(kube, "gone", namespace)
        await until(lambda: "+gone" in seen)
        informer._version = "1"
        await kube.delete(resources.SERVICES, "gone", namespace)
        await make(kube, "new", namespace)
        await until(lambda: "+new" in seen)
        assert "-gone" in seen


async def test_all_pages_of_a_long_list_are_read(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        for number in range(12):
            await kube.create(resources.CONFIG_MAPS, {"metadata": {"name": f"c{number:02}"}}, namespace)
        found = await kube.list(resources.CONFIG_MAPS, dict, namespace)
        assert {f"c{number:02}" for number in range(12)} <= {one["metadata"]["name"] for one in found.objects}
        assert int(found.resource_version) > 0


async def test_an_error_has_code_reason_and_the_servers_words(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        with pytest.raises(ApiError, match=r"metadata\.name") as caught:
            await make(kube, "Not_A_Name", namespace)
        assert (caught.value.code, caught.value.reason, caught.value.retriable) == (422, "Invalid", False)
        assert await kube.get(resources.SERVICES, Service, "none", namespace) is None


async def test_a_repeated_event_is_counted_not_repeated(cluster: Cluster, namespace: str) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        recorder = Recorder(kube, "test")
        running = asyncio.create_task(recorder.run())
        about = About("v1", "Service", namespace, "web", "uid")
        for _ in range(3):
            recorder.warning(about, "Reason", "the same words")
        recorder.normal(about, "Other", "other words")

        async def counts() -> list[int]:
            found = await kube.list(resources.EVENTS, dict, namespace)
            return sorted(int(entry.get("count", 0)) for entry in found.objects)

        await wait_until(counts, [1, 3])
        running.cancel()


async def wait_until(read: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await read() != wanted:
            await asyncio.sleep(0.02)
