"""The kubelet's HTTP side: container logs for `kubectl logs`, asked for by the API server.

GET /containerLogs/{namespace}/{pod}/{container}?follow=&tailLines=&previous=&limitBytes= as the kubelet serves it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from vrata.sandbox.kubelet.pod import PodRunner

FOLLOW_POLL_S = 0.1
CHUNK = 65536


def create_app(runners: Mapping[str, PodRunner]) -> Starlette:
    """The application; `runners` maps pod uids to what runs on this node."""

    async def logs(request: Request) -> Response:
        key = f"{request.path_params['namespace']}/{request.path_params['pod']}"
        name = request.path_params["container"]
        runner = next((entry for entry in runners.values() if entry.running.key == key), None)
        if runner is None or all(container.name != name for container in runner.pod.spec.containers):
            return PlainTextResponse(f"container {name!r} of pod {key!r} does not run on this node\n", 404)
        query = request.query_params
        previous = query.get("previous") == "true"
        file = runner.log_file(name, previous=previous)
        if not file.exists():
            return PlainTextResponse(
                "previous terminated container not found\n" if previous else "", 404 if previous else 200
            )
        tail = int(query["tailLines"]) if query.get("tailLines", "").isdigit() else None
        follow = query.get("follow") == "true"
        return StreamingResponse(_stream(file, tail, follow=follow, runner=runner), media_type="text/plain")

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/containerLogs/{namespace}/{pod}/{container}", logs), Route("/healthz", healthz)])


async def _stream(file: Path, tail: int | None, *, follow: bool, runner: PodRunner) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        if tail is not None:
            yield b"".join(deque(source, maxlen=tail))
        while True:
            if chunk := source.read(CHUNK):
                yield chunk
            elif not follow or not runner.directory.exists():
                return
            else:
                await asyncio.sleep(FOLLOW_POLL_S)
