"""The echo server as a client of HTTP/1.1 sees it."""

import asyncio

import pytest

from vrata.sandbox.echo import Echo


@pytest.mark.parametrize(
    ("version", "headers", "closes"),
    [
        ("1.1", "", False),
        ("1.1", "Connection: close\r\n", True),
        ("1.1", "connection: Close, X\r\n", True),
        ("1.0", "", True),
    ],
)
async def test_a_connection_ends_when_its_client_says_so(version: str, headers: str, *, closes: bool) -> None:
    echo = Echo(proxy_protocol=False)
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(f"GET /healthz HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode())
    answer = await reader.readuntil(b"ok\n")
    assert (b"Connection: close" in answer) == closes
    if closes:
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    while len(asyncio.all_tasks()) > 1:  # the server's side of the connection
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
