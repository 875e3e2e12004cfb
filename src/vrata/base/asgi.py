"""Runs an ASGI application on sockets that the caller made, until the caller cancels it.

Signals stay with the command that owns the event loop; uvicorn would otherwise take them over.
"""

import contextlib
import socket
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp

SHUTDOWN_GRACE_S = 2


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def serve_http(
    app: ASGIApp, sockets: Sequence[socket.socket], *, certificate: str | None = None, key: str | None = None
) -> None:
    """Serve HTTP (HTTPS with a certificate and key file) with uvloop's parser settings; returns when cancelled."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http="httptools",
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        timeout_keep_alive=75,
        backlog=1024,
    )
    await _Server(config).serve(sockets=list(sockets))
