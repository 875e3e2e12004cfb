"""The cloud's side of `vrata.base.wire` over real HTTP, without a cloud: hands out desired sets, keeps reports."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from tests.support.fabric import Machine, listen_in

from vrata.base.wire import DesiredInstance, DesiredSet, HostReport, InstanceReport, Transition

SECRET = "hosts-share-this"


class AgentCloud:
    """What each host shall carry, and what each said last."""

    def __init__(self) -> None:
        self._sets: dict[str, DesiredSet] = {}
        self._changed = asyncio.Condition()
        self.reports: dict[str, HostReport] = {}
        self.transitions: dict[str, list[Transition]] = defaultdict(list)  # by instance, as they were told
        self.deaf = False  # a database that restarts: reports are answered with 503

    async def want(self, host: str, *instances: DesiredInstance) -> None:
        """Give a host another desired set."""
        async with self._changed:
            before = self._sets.get(host, DesiredSet(revision=0, instances=()))
            known = {*before.leaving, *(one.id for one in before.instances)}
            left = tuple(sorted(known - {one.id for one in instances}))
            self._sets[host] = DesiredSet(revision=before.revision + 1, instances=instances, leaving=left)
            self._changed.notify_all()

    def seen(self, host: str, instance_id: str) -> InstanceReport | None:
        """What a host reported last about one instance."""
        report = self.reports.get(host)
        return next((r for r in report.instances if r.id == instance_id), None) if report else None

    async def _desired(self, request: web.Request) -> web.Response:
        self._authorize(request)
        host, since = request.match_info["host"], int(request.query["since"])

        def newer() -> bool:
            return host in self._sets and self._sets[host].revision != since

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(request.query["wait_s"])):
                    await self._changed.wait_for(newer)
        if not newer():
            return web.Response(status=204)
        return web.Response(body=msgspec.json.encode(self._sets[host]), content_type="application/json")

    async def _report(self, request: web.Request) -> web.Response:
        self._authorize(request)
        if self.deaf:
            raise web.HTTPServiceUnavailable
        report = msgspec.json.decode(await request.read(), type=HostReport)
        self.reports[request.match_info["host"]] = report
        for one in report.instances:
            self.transitions[one.id] += one.transitions
        return web.Response(status=204)

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            raise web.HTTPUnauthorized

    @contextlib.asynccontextmanager
    async def serve(self, machine: Machine, address: str, port: int) -> AsyncIterator[None]:
        """Listen in the machine's namespace."""
        application = web.Application()
        application.router.add_get("/agent/v1/hosts/{host}/desired", self._desired)
        application.router.add_put("/agent/v1/hosts/{host}/report", self._report)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, listen_in(machine.netns, address, port)).start()
            yield
        finally:
            await runner.cleanup()
