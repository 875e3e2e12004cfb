"""Runs the application under uvicorn on sockets that are open already; SIGTERM and SIGINT end it cleanly."""

import gc
import socket

from vrata.base.asgi import serve_http
from vrata.base.signals import until_signalled
from vrata.cloud.service import application
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store

GRACE_S = 3  # how long running requests may take after SIGTERM


async def run(store: Store, settings: Settings, sockets: list[socket.socket]) -> None:
    """Serve until a signal comes."""
    app = application(store, settings)
    gc.collect()
    gc.freeze()  # modules and routes stay: a collection that looks through them takes 50 ms, in the middle of an answer
    await until_signalled(serve_http(app, sockets, lifespan="on", grace_s=GRACE_S, stopping=app.state.hub.close))
