"""UDP for tests: a server in a namespace that says who it is and whom it sees, and clients that ask it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

from tests.support.fabric import Machine

from vrata.net.netns import in_namespace


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class _Server(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport
        if data != b"X":  # the health monitor's
            self.transport.sendto(f"{self.name} {addr[0]}".encode(), addr)


@contextlib.asynccontextmanager
async def udp_server(machine: Machine, address: str, port: int, name: str) -> AsyncIterator[None]:
    """Answer every datagram with `name` and the address it came from."""

    def bound() -> socket.socket:
        made = socket.socket(_family(address), socket.SOCK_DGRAM)
        made.setblocking(False)  # noqa: FBT003
        made.bind((address, port))
        return made

    sock = await asyncio.to_thread(in_namespace, machine.netns, bound)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Server(name), sock=sock)
    try:
        yield
    finally:
        transport.close()


class UdpClient(contextlib.AbstractContextManager["UdpClient"]):
    """One flow: one socket, one source port."""

    def __init__(self, machine: Machine, source: str = "", family: int = socket.AF_INET) -> None:
        def made() -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if source:
                sock.bind((source, 0))
            return sock

        self._socket = in_namespace(machine.netns, made)

    async def ask(self, address: str, port: int, timeout_s: float = 0.3, words: bytes = b"?") -> str | None:
        """The answer to one datagram; None if none comes in time or the port is closed."""

        def once() -> str | None:
            self._socket.settimeout(timeout_s)
            try:
                self._socket.connect((address, port))
                self._socket.send(words)
                return self._socket.recv(2048).decode()
            except OSError:
                return None

        return await asyncio.to_thread(once)

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def ask(machine: Machine, address: str, port: int, source: str = "", timeout_s: float = 0.3) -> str | None:
    """One datagram on a flow of its own."""
    with UdpClient(machine, source, _family(address)) as client:
        return await client.ask(address, port, timeout_s)
