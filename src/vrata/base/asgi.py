"""Runs an ASGI application on sockets that the caller made, until the caller cancels it.

Signals stay with the command that owns the event loop; uvicorn would otherwise take them over. Every server has bounds
on what a client may hold: time to send a request's headers and body and to take the answer, bytes of headers,
connections by address and in all. They hold before any application code runs.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address
from typing import Any, Literal

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_S = 75
HANDSHAKE_S = 10.0
BACKLOG = 1024
SPARE_DESCRIPTORS = 256  # kept for the database, logs and child processes
RETRY_AFTER_S = 5
LINGERING, LINGER_S = 64, 1.0  # refused connections that wait for the request they get an answer to, and how long
UNWANTED_MAX = 4 * 1024 * 1024  # bytes of a request that are still read when its answer is out
FRAMING_SHARE = 0.5  # of a body's bytes may be added to that: chunks of 12 bytes and more have no bound
CLIENT_CERTIFICATE = "vrata.client_certificate"  # of a request's scope: DER; None or absent: the client showed none
QUEUED_MAX = 32  # requests that wait on one connection for the answer before theirs


@dataclass(frozen=True)
class Limits:
    """What one client may hold of a server."""

    header_s: float = 10.0  # from a connection's, or a further request's, first byte to the end of its headers
    body_s: float = 30.0  # from there to the end of the body
    unread_s: float = 30.0  # without the client taking anything of an answer
    header_bytes: int = 64 * 1024  # request line and headers; then chunk framing and trailers, see FRAMING_SHARE
    per_address: int | None = None  # connections of one IPv4 address, or one IPv6 /64; None: as many as `in_all`
    in_all: int = 10_000  # at most what the limit of descriptors leaves room for


class TooLong(Exception):
    """A body is longer than the limit."""

    def __init__(self, most: int) -> None:
        super().__init__(f"The request body is larger than {most} bytes.")


async def read_limited(
    request: Request, most: int, first: int | None = None, more: Callable[[], Awaitable[object]] | None = None
) -> bytes:
    """The body, counted while it arrives: TooLong as soon as it is more than `most` bytes, whatever it announced.

    `more` is awaited once when it gets longer than `first`: it may refuse. ClientDisconnect if the client goes away.
    """
    length = request.headers.get("content-length", "0")
    size, parts = 0, []
    expected = int(length) if length.isdigit() else 0
    if expected > most:
        raise TooLong(most)
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLong(most)
        if first is not None and more is not None and size > first:
            await more()
            first = None
        parts.append(part)
    return b"".join(parts)


@dataclass
class _Held:
    """Connections of one server, by address."""

    per_address: int
    in_all: int
    by_address: Counter[str] = field(default_factory=Counter)
    count: int = 0
    refused: int = 0  # that still wait for their answer

    def take(self, address: str) -> bytes | None:
        """Count a connection; else the answer that refuses it."""
        if self.by_address[address] >= self.per_address:
            return _refusal(b"429 Too Many Requests", b"too many connections from your address\n")
        if self.count >= self.in_all:
            return _refusal(b"503 Service Unavailable", b"too many connections\n")
        self.by_address[address] += 1
        self.count += 1
        return None

    def give_back(self, address: str) -> None:
        """Forget a connection."""
        self.count -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


def _refusal(status: bytes, text: bytes) -> bytes:
    return b"\r\n".join(
        (b"HTTP/1.1 " + status, b"content-type: text/plain", b"content-length: %d" % len(text),
         b"retry-after: %d" % RETRY_AFTER_S, b"connection: close", b"", text)
    )  # fmt: skip


def address_of(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 customer has."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def _bounded(limits: Limits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol within these limits."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
    in_all = max(1, min(limits.in_all, room))
    held = _Held(limits.per_address or in_all, in_all)

    class Bounded(HttpToolsProtocol):
        _address: str | None = None  # None: refused
        _refusal = b""
        _deadline: asyncio.TimerHandle | None = None
        _framing = 0.0  # bytes of this request that are no body, less what its body allows
        _in_body = False
        _unwanted: int | None = None  # bytes of this request since its answer is out
        _unread: asyncio.TimerHandle | None = None  # while there are bytes that the client does not take

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            address = address_of(self.client[0] if self.client else "")
            refusal = held.take(address)
            if refusal is None:
                self._address = address
                self._within(limits.header_s)
                return
            # An answer before the request is often lost: a few connections wait a moment for it.
            self._refusal = refusal
            held.refused += 1
            if held.refused > LINGERING:
                transport.abort()
            else:
                self._within(LINGER_S)

        def connection_lost(self, exc: Exception | None) -> None:
            self._within(None)
            if self._unread is not None:
                self._unread.cancel()
            if self._address is not None:
                held.give_back(self._address)
            else:
                held.refused -= 1
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._address is None:
                self._too_late()
                return
            self._framing += len(data)
            if self._unwanted is not None:
                self._unwanted += len(data)
            super().data_received(data)
            if self.transport.is_closing():
                return
            # Checked after parsing: what came with the last bytes of the headers may be the body.
            if self._framing > limits.header_bytes:
                text = b"the request's headers, trailers or chunk sizes are too long\n"
                self._refuse(b"431 Request Header Fields Too Large", text)
            elif (self._unwanted or 0) > UNWANTED_MAX or len(self.pipeline) > QUEUED_MAX:
                self.transport.close()  # RFC 9112, 9.3.2: clients repeat what has no answer

        def on_message_begin(self) -> None:
            if self._deadline is None:  # a further request
                self._within(limits.header_s)
            super().on_message_begin()
            tls = self.transport.get_extra_info("ssl_object")
            if tls is not None:
                self.scope[CLIENT_CERTIFICATE] = tls.getpeercert(binary_form=True)  # type: ignore[literal-required]

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self._in_body:  # trailers are not headers (RFC 9110, 6.5.1)
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._framing = 0
            self._in_body = True
            self._within(limits.body_s)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._framing = 0
            self._in_body = False
            self._unwanted = None
            self._within(None)
            super().on_message_complete()

        def on_body(self, body: bytes) -> None:
            self._framing -= len(body) * (1 + FRAMING_SHARE)
            super().on_body(body)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_reader()
            if self._in_body:  # a client that sends and then reads gets its answer, within bounds
                self._unwanted = 0
                self._within(LINGER_S)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_reader()

        def _watch_reader(self) -> None:
            """End the connection if the client takes nothing: also one that is closed already waits for that."""
            size = self.transport.get_write_buffer_size()
            if self._unread is None and size:
                self._unread = self.loop.call_later(limits.unread_s, self._look_at_reader, size)

        def _look_at_reader(self, before: int) -> None:
            self._unread = None
            if self.transport.get_write_buffer_size() >= before:
                self.transport.abort()
            else:
                self._watch_reader()

        def _within(self, seconds: float | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_late)

        def _too_late(self) -> None:
            self._within(None)
            if self.transport.is_closing():
                return
            if self._unwanted is not None:
                self.transport.close()
            elif self._address is None:
                self.transport.write(self._refusal)
                self.transport.close()
            else:
                self._refuse(b"408 Request Timeout", b"the request did not arrive in time\n")

        def _refuse(self, status: bytes, text: bytes) -> None:
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(_refusal(status, text))
            self.transport.close()
            self._watch_reader()

    return Bounded


class _Server(uvicorn.Server):
    on_started: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        create_server = loop.create_server
        # uvicorn leaves a handshake the loop's 60 s. Its connections count towards no bound before it ends.
        if self.config.is_ssl:
            loop.create_server = partial(create_server, ssl_handshake_timeout=HANDSHAKE_S)  # type: ignore[method-assign]
        try:
            await super().startup(sockets)
        finally:
            loop.create_server = create_server  # type: ignore[method-assign]
        self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def raise_descriptor_limit() -> int:
    """Take all descriptors that this process may have; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def serve_http(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    certificate: str | None = None,
    key: str | None = None,
    tls: ssl.SSLContext | None = None,
    lifespan: Literal["on", "off", "auto"] = "auto",
    grace_s: int = 2,
    stopping: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
) -> None:
    """Serve HTTP (HTTPS with a context, or a certificate and key file) until cancelled.

    Requests under way then have `grace_s`. `stopping` is called at that moment: for answers that would wait longer. `started` is
    called when the first connection can be accepted.
    """
    protocol: Any = _bounded(limits or Limits())
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ssl_context_factory=(lambda *_: tls) if tls else None,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
    )
    server = _Server(config)
    server.on_started = started
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        stopping()
        server.should_exit = True
        await serving
        raise
