"""The beginning of an SCTP association on raw sockets: INIT and INIT ACK (RFC 9260), for kernels without SCTP sockets."""

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import AsyncIterator

from tests.support.fabric import Machine

from vrata.net.netns import in_namespace

INIT, INIT_ACK, COOKIE = 1, 2, 7
_HEADER, _CHUNK, _BODY, _PARAMETER = (
    struct.Struct("!HHII"),
    struct.Struct("!BBH"),
    struct.Struct("!IIHHI"),
    struct.Struct("!HH"),
)
_POLYNOMIAL = 0x82F63B78  # of CRC32c, reflected


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def encode(source: int, destination: int, tag: int, kind: int, cookie: bytes = b"") -> bytes:
    """A packet with one INIT or INIT ACK, which asks for a tag of its own."""
    parameters = _PARAMETER.pack(COOKIE, _PARAMETER.size + len(cookie)) + cookie if cookie else b""
    body = _BODY.pack(secrets.randbits(32) | 1, 65536, 1, 1, secrets.randbits(32)) + parameters
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size + len(body)) + body + b"\0" * (-len(body) % 4)
    packet = _HEADER.pack(source, destination, tag, 0) + chunk
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def decode(packet: bytes) -> tuple[int, int, int, int, bytes]:
    """Ports, kind of the first chunk, the tag it asks for, its cookie. ValueError if the checksum is wrong."""
    source, destination, _, _ = _HEADER.unpack_from(packet)
    if struct.pack("<I", crc32c(packet[:8] + b"\0" * 4 + packet[12:])) != packet[8:12]:
        raise ValueError("wrong checksum")
    kind, _, length = _CHUNK.unpack_from(packet, _HEADER.size)
    begin = _HEADER.size + _CHUNK.size
    tag = struct.unpack_from("!I", packet, begin)[0]
    return source, destination, kind, tag, packet[begin + _BODY.size + _PARAMETER.size : _HEADER.size + length]


def _raw(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)


def _payload(address: str, packet: bytes) -> bytes:
    return packet if ":" in address else packet[(packet[0] & 15) * 4 :]  # IPv4's raw sockets give its header, too


def associate(address: str, port: int, wait_s: float, tries: int = 8) -> bytes:
    """The cookie that an address answers with; ConnectionRefusedError or TimeoutError as with any socket.

    INIT is sent again after `wait_s`: the first one may be lost while neighbours find each other.
    """
    source = 40000 + secrets.randbelow(20000)
    packet = encode(source, port, 0, INIT)
    with _raw(address) as client:
        client.settimeout(wait_s)
        client.connect((address, 0))
        for left in reversed(range(tries)):
            client.send(packet)
            try:
                return _cookie(client, address, (port, source))
            except TimeoutError:
                if not left:
                    raise
    raise AssertionError("unreachable: the last try raises")


def _cookie(client: socket.socket, address: str, ports: tuple[int, int]) -> bytes:
    while True:
        theirs, ours, kind, _, cookie = decode(_payload(address, client.recv(4096)))
        if (theirs, ours, kind) == (*ports, INIT_ACK):
            return cookie


@contextlib.asynccontextmanager
async def sctp_server(machine: Machine, address: str, port: int, name: str) -> AsyncIterator[None]:
    """Answers each INIT with a cookie that says `NAME PEER`."""

    def bound() -> socket.socket:
        made = _raw(address)
        made.bind((address, 0))
        made.settimeout(0)
        return made

    def answer() -> None:
        with contextlib.suppress(BlockingIOError, ValueError):
            packet, peer = server.recvfrom(4096)
            theirs, ours, kind, tag, _ = decode(_payload(address, packet))
            if (ours, kind) == (port, INIT):
                told = f"{name} {peer[0]}".encode()
                server.sendto(encode(port, theirs, tag, INIT_ACK, told), (peer[0], 0))

    server = in_namespace(machine.netns, bound)
    asyncio.get_running_loop().add_reader(server, answer)
    try:
        yield
    finally:
        asyncio.get_running_loop().remove_reader(server)
        server.close()
