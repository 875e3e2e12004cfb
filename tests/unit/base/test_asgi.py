"""Serving HTTP until cancelled."""

import asyncio
import socket

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from vrata.base.asgi import serve_http


async def test_cancelling_ends_long_waits_answers_what_is_under_way_and_closes_the_door() -> None:
    arrived, told = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request) -> PlainTextResponse:
        arrived.set()
        await told.wait()
        return PlainTextResponse("answered")

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    serving = asyncio.ensure_future(serve_http(Starlette(routes=[Route("/", wait)]), [listening], stopping=told.set))
    async with asyncio.timeout(30), aiohttp.ClientSession() as client:
        asked = asyncio.ensure_future(client.get(url))
        await arrived.wait()
        serving.cancel()
        assert await (await asked).text() == "answered"
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(url)
