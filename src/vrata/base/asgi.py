"""Runs an ASGI application on sockets that the caller made, until the caller cancels it.

Signals stay with the command that owns the event loop; uvicorn would otherwise take them over.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

KEEP_ALIVE_S = 75
BACKLOG = 1024


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    certificate: str | None = None,
    key: str | None = None,
    lifespan: Literal["on", "off", "auto"] = "auto",
    grace_s: int = 2,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve HTTP (HTTPS with a certificate and key file) until cancelled; requests under way then have `grace_s`.

    `stopping` is called at that moment: for answers that would wait longer.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        stopping()
        server.should_exit = True
        await serving
        raise
