"""The echo server that a pod with the image `vrata/echo` runs: answers what it was asked, as JSON.

HTTP/1.1 with keep-alive on any number of ports, TLS on others, and the PROXY protocol (versions 1 and 2, HAProxy's
proxy-protocol.txt) where asked for. Paths with a meaning: `/healthz` answers `ok`, `/bytes/N` N bytes, `/delay/MS`
after so many milliseconds, `/status/CODE` with that status; everything else is echoed.

SIGTERM closes the listening sockets a moment later, lets requests in flight finish and ends. Only asyncio and httptools are
imported, so that a pod starts quickly and stays small; it is run as `python -m vrata.sandbox.echo`.
"""

import argparse
import asyncio
import ipaddress
import json
import os
import signal
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

PROXY_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY_V1_MAX = 107  # bytes, by specification
BODY_MAX = 2**24
LINGER_S = 0.3  # after SIGTERM: until everybody has heard that this endpoint is going
FRESH_S = 1.0  # a connection's first request is waited for so long
DRAIN_S = 25.0


def canonical(name: str) -> str:
    """`x-forwarded-for` → `X-Forwarded-For`, as Go's textproto writes header names."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


class Request:
    """One request as httptools' callbacks fill it in."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, list[str]] = {}
        self.body_length = 0
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.setdefault(canonical(name.decode("latin-1")), []).append(value.decode("latin-1"))

    def on_body(self, body: bytes) -> None:
        self.body_length += len(body)

    def on_message_complete(self) -> None:
        self.complete = True


async def read_proxy_header(reader: asyncio.StreamReader) -> str | None:
    """Consume a PROXY protocol header and return the client it names, `address:port`; None for LOCAL/UNKNOWN.

    Raises ValueError if the connection does not begin with one.
    """
    start = await reader.readexactly(12)
    if start == PROXY_V2_SIGNATURE:
        version_command, family, length = struct.unpack("!BBH", await reader.readexactly(4))
        payload = await reader.readexactly(length)
        if version_command >> 4 != 2:
            raise ValueError("PROXY protocol version")
        if version_command & 0xF == 0 or family >> 4 not in (1, 2):
            return None
        size = 4 if family >> 4 == 1 else 16
        source = ipaddress.ip_address(payload[:size])
        (port,) = struct.unpack("!H", payload[2 * size : 2 * size + 2])
        return f"{source}:{port}"
    if not start.startswith(b"PROXY "):
        raise ValueError("no PROXY protocol header")
    line = start
    while not line.endswith(b"\r\n"):
        if len(line) > PROXY_V1_MAX:
            raise ValueError("PROXY protocol header too long")
        line += await reader.readexactly(1)
    words = line.decode("ascii").split()
    return f"{words[2]}:{words[4]}" if words[1] in ("TCP4", "TCP6") else None


class Echo:
    """Serves connections; knows which are in the middle of a request."""

    def __init__(self, *, proxy_protocol: bool) -> None:
        self.proxy_protocol = proxy_protocol
        self.draining = False
        self.connections: dict[asyncio.StreamWriter, str] = {}  # writer -> fresh, busy with a request, or idle

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the peer is done, asks for a close, or this server ends."""
        self.connections[writer] = "fresh"
        peer = writer.get_extra_info("peername")
        client = f"{peer[0]}:{peer[1]}"
        try:
            if self.proxy_protocol:
                client = await read_proxy_header(reader) or client
            while await self._answer_one(reader, writer, client) and not self.draining:
                pass
        except (ConnectionError, asyncio.IncompleteReadError, httptools.HttpParserError, ValueError):
            pass
        finally:
            del self.connections[writer]
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str) -> bool:
        request = Request()
        parser = httptools.HttpRequestParser(request)
        while not request.complete:
            data = await reader.read(65536)
            if not data:
                return False
            self.connections[writer] = "busy"
            parser.feed_data(data)
            if request.body_length > BODY_MAX:
                return False
        status, content_type, body = await respond(request, parser, client)
        options = ",".join(request.headers.get("Connection", [])).lower().replace(" ", "").split(",")
        keep = parser.should_keep_alive() and "close" not in options and not self.draining
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if parser.get_method() == b"HEAD" else body))
        await writer.drain()
        self.connections[writer] = "idle"
        return keep

    async def drain(self) -> None:
        """Close idle connections now and wait, bounded, for the others."""
        self.draining = True
        self._close("idle")
        now = asyncio.get_running_loop().time
        began = now()
        while self.connections and now() < began + DRAIN_S:
            if now() > began + FRESH_S:
                self._close("fresh")
            await asyncio.sleep(0.01)

    def _close(self, state: str) -> None:
        for writer, current in list(self.connections.items()):
            if current == state:
                writer.close()


async def respond(request: Request, parser: httptools.HttpRequestParser, client: str) -> tuple[str, str, bytes]:
    """Status line, content type and body for a request."""
    path = request.url.decode("latin-1")
    verb, _, argument = path.partition("?")[0][1:].partition("/")
    if path == "/healthz":
        return "200 OK", "text/plain", b"ok\n"
    if argument.isdigit():
        number = int(argument)
        if verb == "bytes" and number <= 2**30:
            return "200 OK", "application/octet-stream", b"x" * number
        if verb == "status" and 200 <= number <= 599:
            return f"{number} Status", "text/plain", b""
        if verb == "delay":
            await asyncio.sleep(min(number, 60_000) / 1000)
    answer = {
        "path": path,
        "host": request.headers.get("Host", [""])[0],
        "method": parser.get_method().decode(),
        "proto": f"HTTP/{parser.get_http_version()}",
        "headers": request.headers,
        "namespace": os.environ.get("NAMESPACE", ""),
        "service": os.environ.get("SERVICE_NAME", ""),
        "pod": os.environ.get("POD_NAME", ""),
        "node": os.environ.get("NODE_NAME", ""),
        "client": client,
    }
    return "200 OK", "application/json", json.dumps(answer).encode() + b"\n"


def udp_protocol() -> asyncio.DatagramProtocol:
    """Answers every datagram with the pod's name and the datagram."""

    class UdpEcho(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(os.environ.get("POD_NAME", "").encode() + b" " + data, addr)

    return UdpEcho()


async def run(ports: list[int], tls_ports: list[int], udp_ports: list[int], *, proxy_protocol: bool) -> None:
    """Serve on all addresses until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    echo = Echo(proxy_protocol=proxy_protocol)
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = echo.serve
    servers = [await asyncio.start_server(handler, "0.0.0.0", port, backlog=1024) for port in ports]
    if tls_ports:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(os.environ["TLS_CERT_FILE"], os.environ["TLS_KEY_FILE"])
        servers += [await asyncio.start_server(handler, "0.0.0.0", port, ssl=tls) for port in tls_ports]
    for port in udp_ports:
        await loop.create_datagram_endpoint(udp_protocol, local_addr=("0.0.0.0", port))
    print(f"echo: serving {ports + tls_ports + udp_ports}", file=sys.stderr, flush=True)  # noqa: T201 - the pod's log
    await stop.wait()
    await asyncio.sleep(LINGER_S)
    for server in servers:
        server.close()
    await echo.drain()


def main() -> None:
    """Entry point of `python -m vrata.sandbox.echo`."""
    parser = argparse.ArgumentParser(description="HTTP echo server of the sandbox's pods.")
    parser.add_argument("--port", type=int, action="append", default=[], help="plain HTTP port (repeatable)")
    parser.add_argument(
        "--tls-port", type=int, action="append", default=[], help="HTTPS port; TLS_CERT_FILE, _KEY_FILE"
    )
    parser.add_argument("--udp-port", type=int, action="append", default=[], help="UDP port (repeatable)")
    parser.add_argument("--proxy-protocol", action="store_true", help="expect a PROXY header on every TCP connection")
    options = parser.parse_args()
    ports = options.port or ([] if options.tls_port or options.udp_port else [8080])
    asyncio.run(run(ports, options.tls_port, options.udp_port, proxy_protocol=options.proxy_protocol))


if __name__ == "__main__":
    main()
