"""A front before a cloud: ends TLS, may ask for a client's certificate, counts what passes, and spoils what it is told to.

All run in one thread with an event loop of its own, so that the code under test keeps its own to itself; that loop is
never stopped, for a TLS connection may take its time to end.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector, web
from tests.support.pki import Identity


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


@dataclass
class Spoil:
    """Answer the next `times` requests that match with `status` and headers; None: hang up, `after` the cloud did it."""

    method: str
    path: str  # a part of it
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    times: int = 1


class Front:
    """Listens on a port of the loopback from `start` to `stop`; `seen` are (method, path, query) in order.

    `trust` is for a backend of its own authority. What is watched (Kubernetes) is passed on as it comes.
    """

    def __init__(self, backend: str, tls: ssl.SSLContext | None = None, *, trust: ssl.SSLContext | None = None) -> None:
        self.backend, self.tls, self.trust = backend, tls, trust
        self.seen: list[tuple[str, str, str]] = []
        self.forbidden: list[tuple[str, str]] = []  # (method, path) of what was answered with 403
        self.spoils: list[Spoil] = []
        self.most_at_once = 0
        self.slow_s = 0.0
        self.port = 0
        self._now = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def start(self) -> "Front":
        """Listen."""
        self._do(self._open())
        return self

    def stop(self) -> None:
        """Close everything."""
        self._do(self._close())

    @staticmethod
    def _do(what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, _loop()).result(30)

    async def _open(self) -> None:
        self._http = ClientSession(connector=TCPConnector(limit=0, ssl=self.trust or True), auto_decompress=False)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "localhost", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, request.query_string))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(request)
        finally:
            self._now -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        spoil = next(self._matching(request), None)
        if spoil:
            spoil.times -= 1
            if spoil.status is not None:
                return web.Response(
                    status=spoil.status, headers=spoil.headers, text="{}", content_type="application/json"
                )
            if not spoil.after:
                return self._hang_up(request)
        await asyncio.sleep(self.slow_s)
        headers = {**request.headers, "X-Forwarded-Proto": "https" if self.tls else "http"}
        async with self._http.request(
            request.method, self.backend + request.raw_path, headers=headers, data=await request.read()
        ) as answer:
            if answer.status == 403:
                self.forbidden.append((request.method, request.path))
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if "watch" in request.query:
                stream = web.StreamResponse(status=answer.status, headers=kept)
                await stream.prepare(request)
                with contextlib.suppress(ConnectionError):  # who watches may go
                    async for chunk in answer.content.iter_any():
                        await stream.write(chunk)
                return stream
            body = await answer.read()
            if spoil:
                return self._hang_up(request)
            return web.Response(status=answer.status, headers=kept, body=body)

    def _matching(self, request: web.Request) -> Iterator[Spoil]:
        for spoil in self.spoils:
            if spoil.times and spoil.method == request.method and spoil.path in request.path:
                yield spoil

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    def counted(self, wanted: Callable[[str, str], bool]) -> int:
        """How many of the requests seen are wanted."""
        return sum(wanted(method, path) for method, path, _ in self.seen)


HOP_BY_HOP = ("content-length", "transfer-encoding", "connection", "date", "server", "content-encoding")


def server_tls(directory: Path, authority: Identity, leaf: Identity, *, ask_client: bool = False) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for `localhost`; files in `directory`, the authority's is ca.pem."""
    (directory / "ca.pem").write_text(authority.cert_pem)
    (directory / "server.pem").write_text(leaf.cert_pem + leaf.key_pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.pem"))
    tls.load_cert_chain(directory / "server.pem")
    tls.verify_mode = ssl.CERT_REQUIRED if ask_client else ssl.CERT_NONE
    return tls
