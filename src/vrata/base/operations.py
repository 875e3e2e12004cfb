"""What every controller tells those who run it, over HTTP: /healthz, /readyz and /metrics."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def operations(
    part: str,
    registry: CollectorRegistry,
    missing: Callable[[], str],
    refresh: Callable[[], Awaitable[None]] | None = None,
) -> Starlette:
    """The application; `missing` says what it takes to be ready, empty if nothing. `refresh` is called before figures are told.

    /healthz answers as long as the event loop turns: what it can not heal itself ends the process. The registry gets
    `vrata_ready` with the name of the part.
    """
    ready = Gauge("vrata_ready", "1 while /readyz answers with 200.", ["part"], registry=registry)
    ready.labels(part).set_function(lambda: float(not missing()))

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        lacks = missing()
        return PlainTextResponse(f"{lacks or 'ok'}\n", status_code=503 if lacks else 200)

    async def metrics(_request: Request) -> Response:
        if refresh:
            await refresh()
        text = await asyncio.to_thread(generate_latest, registry)  # of many figures it takes long
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
