"""Runs the application under uvicorn on sockets that are open already; SIGTERM and SIGINT end it cleanly."""

import asyncio
import gc
import signal
import socket

import uvicorn

from vrata.cloud.service import application
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store

GRACE_S = 3  # how long running requests may take after SIGTERM


async def run(store: Store, settings: Settings, sockets: list[socket.socket]) -> None:
    """Serve until a signal comes."""
    app = application(store, settings)
    config = uvicorn.Config(
        app, http="httptools", lifespan="on", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=75,
    )  # fmt: skip
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True
        app.state.hub.close()

    gc.collect()
    gc.freeze()  # modules and routes stay: a collection that looks through them takes 50 ms, in the middle of an answer
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Not `serve()`: it would put its own handlers over ours and raise the signal again at the end.
    await server._serve(sockets)
