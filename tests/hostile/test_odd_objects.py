"""One object that cannot be read stops nothing: not the other objects, not the watch, not what was read of it before.

The sandbox's API server refuses such objects, and so would any: the server here is one that lets everything in.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from tests.support.fabric import wait_until

from vrata.kube import resources
from vrata.kube.client import Kube, Resource, Unreadable
from vrata.kube.config import Credentials, KubeConfig
from vrata.kube.informer import Informer
from vrata.kube.metrics import watch_informers
from vrata.kube.objects import Service

Json = dict[str, Any]


def service(name: str, version: int, **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}, "spec": spec}


class Permissive:
    """An API server with one collection, whose objects may be anything."""

    def __init__(self, *listed: Any) -> None:
        self.listed = list(listed)
        self.events: asyncio.Queue[Json] = asyncio.Queue()
        self.lists = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.lists += 1
            body = {"metadata": {"resourceVersion": "10"}, "items": self.listed}
            return web.Response(body=msgspec.json.encode(body), content_type="application/json")
        stream = web.StreamResponse()
        await stream.prepare(request)
        while True:
            await stream.write(msgspec.json.encode(await self.events.get()) + b"\n")


@asynccontextmanager
async def informed(server: Permissive) -> AsyncIterator[tuple[Informer[Service], list[tuple[Resource, Unreadable]]]]:
    """An informer of that server, and what it reported as unreadable."""
    application = web.Application()
    application.router.add_get("/api/v1/services", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    reported: list[tuple[Resource, Unreadable]] = []
    try:
        async with Kube(KubeConfig(f"http://127.0.0.1:{port}", None, Credentials())) as kube:
            informer = Informer(kube, resources.SERVICES, Service)
            informer.on_unreadable(lambda resource, found: reported.append((resource, found)))
            running = asyncio.create_task(informer.run())
            try:
                await wait_until(informer.synced.is_set, "the list is read")
                yield informer, reported
            finally:
                running.cancel()
    finally:
        await runner.cleanup()


async def test_the_others_of_a_list_are_read() -> None:
    odd = [service("odd", 2, ports="many"), {"metadata": {"name": 7}}, "text", None]
    server = Permissive(service("before", 1), *odd, service("after", 3))
    async with informed(server) as (informer, reported):
        assert set(informer.objects) == {"default/before", "default/after"}
        assert set(informer.unreadable) == {"default/odd", ""}
        figures = CollectorRegistry()
        watch_informers(figures, lambda: [informer])
        assert figures.get_sample_value("vrata_unreadable_objects", {"resource": "services"}) == 2
        assert figures.get_sample_value("vrata_watch_failing", {"resource": "services"}) == 0
        [(resource, found)] = [one for one in reported if one[1].metadata.name]
        assert (resource, found.metadata.key) == (resources.SERVICES, "default/odd")
        assert "$.spec.ports" in found.error


async def test_a_watch_survives_it_and_keeps_what_was_read_before() -> None:
    server = Permissive(service("web", 1, type="ClusterIP"))
    async with informed(server) as (informer, reported):
        server.events.put_nowait({"type": "MODIFIED", "object": service("web", 11, type=["LoadBalancer"])})
        server.events.put_nowait({"type": "ADDED", "object": service("other", 12)})
        await wait_until(lambda: "default/other" in informer.objects, "the next object arrives")
        assert informer.objects["default/web"].spec.type == "ClusterIP"
        assert [found.metadata.resource_version for _, found in reported] == ["11"]

        server.events.put_nowait({"type": "MODIFIED", "object": service("web", 13, type="LoadBalancer")})
        await wait_until(lambda: informer.objects["default/web"].spec.type == "LoadBalancer", "it can be read again")
        assert informer.unreadable == {}
        assert server.lists == 1
        assert informer.not_ready_reason() == ""


async def test_a_deletion_of_an_unreadable_object_is_noticed() -> None:
    server = Permissive(service("web", 1))
    async with informed(server) as (informer, _):
        server.events.put_nowait({"type": "MODIFIED", "object": service("web", 11, ports=7)})
        server.events.put_nowait({"type": "DELETED", "object": service("web", 12, ports=7)})
        await wait_until(lambda: not informer.objects, "it is gone")
        assert informer.unreadable == {}
