"""Runs the applications under uvicorn on sockets that are open already; SIGTERM and SIGINT end them cleanly.

Hosts have an event loop of their own, in a thread, if they have a listener of their own: what tenants ask for takes none
of its time but a fair share of the interpreter's.
"""

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop
from starlette.types import ASGIApp

from vrata.base.asgi import Limits, raise_descriptor_limit, serve_http
from vrata.base.manager import supervised
from vrata.base.signals import until_signalled
from vrata.base.tls import ServerTls
from vrata.cloud.service import Service

GRACE_S = 3  # how long running requests may take after SIGTERM


@dataclass(frozen=True)
class Listeners:
    """Where the service listens; without `agents`, hosts use the same sockets as tenants."""

    tenants: Sequence[socket.socket]
    agents: Sequence[socket.socket] = ()
    per_address: int = 256  # connections of tenants
    tenants_tls: ServerTls | None = None  # None: plain HTTP
    agents_tls: ServerTls | None = None


async def run(service: Service, listeners: Listeners) -> None:
    """Serve until a signal comes."""
    raise_descriptor_limit()
    limits = Limits(per_address=listeners.per_address)
    if listeners.agents:
        app, hosts = service.apart()
    else:
        app, hosts = service.together(), None
    gc.collect()
    gc.freeze()  # modules and routes stay: a collection that looks through them takes 50 ms, in the middle of an answer
    if listeners.tenants_tls:
        service.metrics.watch_end("server", listeners.tenants_tls.ends)
    ready = asyncio.Event()
    tls = listeners.tenants_tls.context if listeners.tenants_tls else None
    tenants = partial(serve_http, app, listeners.tenants, tls=tls, grace_s=GRACE_S, limits=limits, started=ready.set)
    if hosts is None:
        stop = service.agents.hub.close
        work = tenants(lifespan="on", stopping=stop)
    else:
        work = _both(tenants(lifespan="off"), _Thread(hosts, listeners, service))
    try:
        async with _watched(listeners.tenants_tls), supervised(ready):
            await until_signalled(work)
    finally:
        service.close()


@contextlib.asynccontextmanager
async def _watched(tls: ServerTls | None) -> AsyncIterator[None]:
    """New certificates are used meanwhile."""
    watching = asyncio.ensure_future(tls.watch()) if tls else None
    try:
        yield
    finally:
        if watching:
            watching.cancel()


class _Thread:
    """The hosts' application in an event loop of its own."""

    def __init__(self, app: ASGIApp, listeners: Listeners, service: Service) -> None:
        self._app, self._sockets, self._service = app, listeners.agents, service
        self._tls = listeners.agents_tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = threading.Event()

    def run(self) -> None:
        """Until `stop`, or a failure."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._ready.set()
        stop = self._service.agents.hub.close
        tls = self._tls.context if self._tls else None
        try:
            async with _watched(self._tls):
                await serve_http(self._app, self._sockets, tls=tls, lifespan="on", grace_s=GRACE_S, stopping=stop)
        except asyncio.CancelledError:
            return

    def stop(self) -> None:
        """From another thread."""
        self._ready.wait()
        assert self._loop is not None
        assert self._task is not None
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)


async def _both(serving: Coroutine[Any, Any, None], hosts: _Thread) -> None:
    """Both until cancelled; if one ends, so does the other."""
    tenants = asyncio.ensure_future(serving)
    thread = asyncio.ensure_future(asyncio.to_thread(hosts.run))
    try:
        await asyncio.wait([tenants, thread], return_when=asyncio.FIRST_COMPLETED)
    finally:
        tenants.cancel()
        if not thread.done():
            hosts.stop()
        await asyncio.wait([tenants, thread])
    for ended in (tenants, thread):
        if not ended.cancelled():
            ended.result()
