"""Serving HTTP until cancelled."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from vrata.base import pki
from vrata.base.asgi import Limits, TooLong, address_of, read_limited, serve_http


async def test_cancelling_ends_long_waits_answers_what_is_under_way_and_closes_the_door() -> None:
    arrived, told = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request) -> PlainTextResponse:
        arrived.set()
        await told.wait()
        return PlainTextResponse("answered")

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    serving = asyncio.ensure_future(serve_http(Starlette(routes=[Route("/", wait)]), [listening], stopping=told.set))
    async with asyncio.timeout(90), aiohttp.ClientSession() as client:
        asked = asyncio.ensure_future(client.get(url))
        await arrived.wait()
        serving.cancel()
        assert await (await asked).text() == "answered"
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(url)


@contextlib.asynccontextmanager
async def running(app: ASGIApp, limits: Limits) -> AsyncIterator[int]:
    """A server; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.ensure_future(serve_http(app, [listening], limits=limits))
        async with asyncio.timeout(60):
            try:
                yield listening.getsockname()[1]
            finally:
                task.cancel()
                await asyncio.wait([task])


@contextlib.asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[int]:
    """A server that echoes how long a body is; its port."""

    async def echo(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(str(len(await read_limited(request, 1000))))
        except TooLong as error:
            return PlainTextResponse(str(error), 413)

    async with running(Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), limits) as port:
        yield port


@contextlib.asynccontextmanager
async def connected(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def said(reader: asyncio.StreamReader) -> bytes:
    """The status line of the next answer; empty if there is none."""
    try:
        line = await reader.readline()
        while (await reader.readline()).strip():
            pass
    except ConnectionError:
        return b""
    return line


HALVES = (
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
)


@pytest.mark.parametrize("half", HALVES)
async def test_a_request_that_does_not_go_on_is_ended(half: bytes) -> None:
    async with serving(Limits(header_s=0.1, body_s=0.1)) as port, connected(port) as (reader, writer):
        writer.write(half)
        answer = await reader.read()  # until it is closed
        assert answer.count(b"HTTP/1.1 408") == 1


async def test_a_connection_between_requests_is_kept() -> None:
    async with serving(Limits(header_s=0.05, body_s=0.05)) as port, connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert await said(reader) == b"HTTP/1.1 200 OK\r\n"
            assert await reader.readexactly(1) == b"3"
            await asyncio.sleep(0.1)  # longer than either time-out: neither runs now


@contextlib.asynccontextmanager
async def pouring(size: int, limits: Limits) -> AsyncIterator[int]:
    """A server whose answers are this long; its port."""

    async def pour(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size, "more_body": False})

    async with running(pour, limits) as port:
        yield port


def open_sockets(port: int) -> int:
    """Sockets of a process on this port: without what the kernel still sends for nobody."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[9] != "0" for row in rows)


HUGE = 64 * 1024 * 1024  # more than the kernel takes


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
async def test_a_client_that_never_reads_is_let_go(closing: bytes) -> None:
    async with pouring(HUGE, Limits(unread_s=0.2)) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + closing + b"\r\n")
            while open_sockets(port) < 2:  # the listening one, and that of the connection
                await asyncio.sleep(0.01)
            while open_sockets(port) > 1:
                await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_gets_its_answer() -> None:
    async with pouring(HUGE, Limits(unread_s=2.0)) as port, connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await said(reader) == b"HTTP/1.1 200 OK\r\n"
        for _ in range(16):
            await reader.readexactly(HUGE // 16)
            await asyncio.sleep(0.2)  # all of it takes longer than the time-out


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WITHOUT_END = {
    "request line": (b"GET /", b"a"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "one header": (b"GET / HTTP/1.1\r\nX: ", b"y"),
    "empty lines": (b"", b"\r\n"),
    "chunks of one byte": (CHUNKED, b"1\r\na\r\n"),
    "chunk extension": (CHUNKED + b"1;", b"a"),
    "trailers": (CHUNKED + b"0\r\n", b"a:\r\n"),
    "one trailer": (CHUNKED + b"0\r\na: ", b"b"),
    "trailers after a body": (CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n", b"a:\r\n"),
    "requests": (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a body that nobody wants": (b"PUT / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", b"a" * 1000),
}
MUCH = 64 * 1024 * 1024  # more than any bound and all buffers between


async def send_all(writer: asyncio.StreamWriter, piece: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()


@pytest.mark.parametrize("what", WITHOUT_END)
async def test_no_part_of_a_request_is_taken_without_end(what: str) -> None:
    begin, more = WITHOUT_END[what]
    piece = more * (65536 // len(more))
    async with serving(Limits(unread_s=0.5)) as port, connected(port) as (_reader, writer):
        writer.write(begin)
        with pytest.raises(ConnectionError):
            await send_all(writer, piece, MUCH // len(piece))


async def test_chunks_of_a_usual_size_have_no_bound_and_trailers_are_no_headers() -> None:
    chunk = b"10\r\n0123456789abcdef\r\n"

    async def answer(request: Request) -> PlainTextResponse:
        size = sum([len(part) async for part in request.stream()])
        return PlainTextResponse(f"{size} {request.headers.get('x-auth-token')}")

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    async with running(app, Limits()) as port, connected(port) as (reader, writer):
        writer.write(CHUNKED + chunk * 100_000 + b"0\r\nX-Auth-Token: trailer\r\n\r\n")
        assert await said(reader) == b"HTTP/1.1 200 OK\r\n"
        assert await reader.readexactly(12) == b"1600000 None"


async def test_some_requests_may_wait_on_a_connection() -> None:
    async with serving(Limits()) as port, connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 32)
        for _ in range(32):
            assert await said(reader) == b"HTTP/1.1 200 OK\r\n"
            assert await reader.readexactly(1) == b"0"


async def test_connections_of_one_address_have_a_bound_and_others_room() -> None:
    async def asked(source: str = "127.0.0.1") -> bytes:
        async with connected(port, source) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return await said(reader)

    async with serving(Limits(per_address=3)) as port:
        async with connected(port), connected(port), connected(port):
            assert await asked() == b"HTTP/1.1 429 Too Many Requests\r\n"
            assert await asked("127.0.0.2") == b"HTTP/1.1 200 OK\r\n"
        while await asked() != b"HTTP/1.1 200 OK\r\n":  # room again, as soon as the service has seen it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("host", "client"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::"), ("2001:db8::ffff:1", "2001:db8::"), ("fe80::1%eth0", "fe80::"),
     ("::ffff:10.0.0.1", "10.0.0.1"), ("", "")],
)  # fmt: skip
def test_an_ipv6_customer_is_one_client(host: str, client: str) -> None:
    assert address_of(host) == client


@contextlib.asynccontextmanager
async def serving_tls(folder: Path, limits: Limits) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A server over TLS; its port, and what a client trusts."""

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    authority = pki.new_authority("a")
    pair = pki.new_server(authority, ["localhost", "127.0.0.1"])
    (folder / "crt").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    with socket.create_server(("", 0)) as listening:
        task = asyncio.ensure_future(
            serve_http(Starlette(routes=[Route("/", hello)]), [listening], tls=context, limits=limits)
        )
        async with asyncio.timeout(60):
            try:
                yield listening.getsockname()[1], trusting
            finally:
                task.cancel()
                await asyncio.wait([task])


async def _ask_over_tls(port: int, trusting: ssl.SSLContext, source: str = "127.0.0.1") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, local_addr=(source, 0))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    said = (await reader.read()).decode()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return said


async def test_who_begins_no_handshake_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrata.base.asgi.HANDSHAKE_S", 1.0)
    async with serving_tls(tmp_path, Limits()) as (port, trusting):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        assert "hello" in await _ask_over_tls(port, trusting)
        for reader, writer in idle:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, Limits(per_address=20)) as (port, trusting):
        for _ in range(10):
            said = await asyncio.gather(*(_ask_over_tls(port, trusting) for _ in range(20)))
            assert all("200 OK" in one and one.endswith("hello") for one in said)


async def test_handshakes_that_end_halfway_leave_no_count(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, Limits(per_address=5)) as (port, trusting):
        for number in range(40):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"")[number % 3])
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await asyncio.sleep(0.2)
        said = await asyncio.gather(*(_ask_over_tls(port, trusting) for _ in range(5)))
        assert all("hello" in one for one in said)


def test_connections_over_tls_are_served_by_uvloop_too(tmp_path: Path) -> None:
    """The cloud's event loop: its transports are none of asyncio's classes."""

    async def ask() -> list[str]:
        async with serving_tls(tmp_path, Limits(per_address=20)) as (port, trusting):
            return await asyncio.gather(*(_ask_over_tls(port, trusting) for _ in range(20)))

    assert all(said.endswith("hello") for said in uvloop.run(ask()))
