"""The Ingress controller's loop: everything that changed is compiled, planned against the running HAProxy, applied.

HAProxy runs beside this process, not under it: killed and restarted, the controller adopts what serves. Asked to end, it
lets HAProxy finish what is under way.
"""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import assert_never

import structlog

from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.haproxy.process import HaproxyProcess
from vrata.ingress.apply import StatusWriter
from vrata.ingress.compile import World, compile_routing
from vrata.ingress.model import Routing, Settings
from vrata.ingress.observe import observe
from vrata.ingress.plan import Action, AddServer, Observed, Reload, RemoveServer, ReplaceMap, ReviveServer, plan_routing
from vrata.ingress.render import map_path, render_config, render_map_file, render_maps, server_address
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service
from vrata.loop.queue import backoff_s
from vrata.net import daemon

COALESCE_S = 0.003
LINGER_RETRY_S = 1.0
RETRY_MAX_S = 10.0

log = structlog.get_logger(__name__)


class Controller:
    """Serves all Ingresses of this controller's classes with one HAProxy."""

    def __init__(self, kube: Kube, settings: Settings, directory: Path, publish_service: str) -> None:
        self.settings = settings
        self.directory = directory
        self.haproxy = HaproxyProcess(directory)
        self.events = Recorder(kube, "vrata-ingress")
        self.ingresses = Informer(kube, resources.INGRESSES, Ingress)
        self.classes = Informer(kube, resources.INGRESS_CLASSES, IngressClass)
        self.services = Informer(kube, resources.SERVICES, Service)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self.status = StatusWriter(kube, publish_service)
        self.reloads = 0
        self._due = asyncio.Event()
        self._by_service: dict[str, dict[str, EndpointSlice]] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._watch: daemon.ExitWatch | None = None
        for informer in (self.ingresses, self.classes, self.services):
            informer.on_change(lambda _old, _new: self._due.set())
        self.slices.on_change(self._slice_changed)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for entry in (old, new):
            if entry:
                owned = self._by_service.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
        self._due.set()

    async def run(self) -> None:
        """Work until cancelled, then let HAProxy finish its requests."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.events.run())
                for informer in (self.ingresses, self.classes, self.services, self.slices):
                    group.create_task(informer.run())
                for informer in (self.ingresses, self.classes, self.services, self.slices):
                    await informer.synced.wait()
                group.create_task(self.status.run())
                await self._passes()
        finally:
            await self._drain()

    async def _passes(self) -> None:
        failures = 0
        self._due.set()
        while True:
            await self._due.wait()
            await asyncio.sleep(COALESCE_S)
            self._due.clear()
            try:
                lingering = await self._pass()
                failures = 0
            except VrataError as error:
                failures += 1
                log.warning("pass failed", error=str(error))
                self._again_in(backoff_s(failures, RETRY_MAX_S))
                continue
            if lingering:
                self._again_in(LINGER_RETRY_S)

    def _again_in(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._due.set)

    async def _pass(self) -> bool:
        """Observe, plan, apply; True if a server that must go still has connections."""
        world = World(
            self.ingresses.objects,
            self.classes.objects,
            self.services.objects,
            {key: tuple(owned.values()) for key, owned in self._by_service.items()},
        )
        routing = compile_routing(world)
        self._tell(routing)
        observed = await self._observe()
        lingering = False
        for action in plan_routing(observed, routing):
            lingering |= not await self._apply(action, routing)
        self.status.set(routing.ours, self.ingresses.objects, self.services.objects)
        return lingering

    async def _observe(self) -> Observed | None:
        running = self.haproxy.running()
        if running is None:
            return None
        if self._watch is None or self._watch.daemon != running:
            self._watch = self.haproxy.watch(running, self._due.set)
        return await observe(self.haproxy.runtime, str(self.directory))

    async def _apply(self, action: Action, routing: Routing) -> bool:
        """Do one step; False if it could not be finished yet."""
        runtime = self.haproxy.runtime
        match action:
            case Reload(reason=reason):
                await self._reload(routing, reason)
            case AddServer(backend=backend, server=server):
                await runtime.add_server(backend, server.name, server_address(server), ())
            case ReviveServer(backend=backend, server=name):
                await runtime.set_server_state(backend, name, "ready")
            case ReplaceMap(name=name, rows=rows):
                write_atomic(self.directory / f"{name}.map", render_map_file(rows))
                await runtime.replace_map(map_path(str(self.directory), name), rows.items())
            case RemoveServer(backend=backend, server=name):
                return await runtime.remove_server(backend, name)
            case _:
                assert_never(action)
        return True

    async def _reload(self, routing: Routing, reason: str) -> None:
        text = render_config(self.settings, routing, str(self.directory))
        for name, rows in render_maps(routing).items():
            write_atomic(self.directory / f"{name}.map", render_map_file(rows))
        await self.haproxy.check(text)
        self.haproxy.write_config(text)
        self.reloads += 1
        log.info("haproxy reload", reason=reason, backends=len(routing.backends))
        if self.haproxy.running():
            await self.haproxy.reload()
        else:
            self._watch = self.haproxy.watch(await self.haproxy.start(), self._due.set)

    def _tell(self, routing: Routing) -> None:
        """Say once what is wrong with an Ingress; again if it was right meanwhile."""
        current = {(problem.ingress, problem.reason, problem.message) for problem in routing.problems}
        for key, reason, message in sorted(current - self._told):
            ingress = self.ingresses.objects.get(key)
            if ingress:
                about = About.of("networking.k8s.io/v1", "Ingress", ingress.metadata)
                self.events.warning(about, reason, message)
        self._told = current

    async def _drain(self) -> None:
        """SIGUSR1: HAProxy stops listening and ends after its last request (management guide, section 4)."""
        running = self.haproxy.running()
        if self._watch:
            self._watch.close()
        if running:
            await daemon.stop(running, signal.SIGUSR1, self.settings.drain_s)
        shutil.rmtree(self.directory, ignore_errors=True)
