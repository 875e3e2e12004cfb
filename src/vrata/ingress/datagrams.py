"""Carries UDP, which HAProxy does not: a process beside the controller, `python -m vrata.ingress.datagrams`.

A line of its input is all ports and their pods as JSON, `{"53": [["10.0.0.1", 53]]}`; a line of its output is all ports that
it can not have, `{"53": "Address already in use"}`. It ends with its input. It imports little, to start quickly.
"""

import argparse
import asyncio
import contextlib
import errno
import json
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

IDLE_S = 60.0
LINGER_S = 5.0  # answers of a pod that has left are waited for so long
TICK_S = 1.0
SESSIONS = 8000
FILES = 256  # for everything but sessions
BATCH = 32  # datagrams of one socket before it is another one's turn
DATAGRAM_MAX = 65536  # bytes
ANCILLARY_MAX = 64  # bytes
LINE_MAX = 2**24  # bytes
BURST_MAX = 2**20  # bytes that wait at one port, as far as net.core.rmem_max allows
_IP_PKTINFO = 8  # ip(7); Python has no name for it

Pod = tuple[str, int]
Client = tuple[Any, ...]  # as the kernel names it: address, port, of IPv6 also flow and scope
Source = tuple[tuple[int, int, bytes], ...]  # the address that was asked, as ancillary data
Key = tuple[int, Client, Source]


@dataclass(eq=False)
class Port:
    """A listening socket and its pods, which get sessions in turn."""

    number: int
    listener: socket.socket
    pods: list[Pod] = field(default_factory=list)
    turn: int = 0

    def next_pods(self, refused: Pod | None = None) -> Iterator[Pod]:
        """Each in its turn; `refused` only if there is no other."""
        for _ in self.pods:
            self.turn = (self.turn + 1) % len(self.pods)
            pod = self.pods[self.turn]
            if pod != refused or len(self.pods) == 1:
                yield pod


@dataclass(eq=False)
class Session:
    """A client of a port, and the pod that it speaks to. `source`: the address that it asked, and is answered from."""

    port: Port
    client: Client
    source: Source
    pod: Pod
    socket: socket.socket
    used_s: float

    @property
    def key(self) -> Key:
        return self.port.number, self.client, self.source


class Relay:
    """All ports and sessions, at most `most` of these; the least recently used one ends for a new one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._wanted: Mapping[int, list[Pod]] = {}
        self._ports: dict[int, Port] = {}
        self.sessions: OrderedDict[Key, Session] = OrderedDict()
        self._leaving: dict[Session, float] = {}  # until when; their clients speak to others
        self._buffer = memoryview(bytearray(DATAGRAM_MAX))
        self._refused: dict[int, str] | None = None

    def want(self, wanted: Mapping[int, list[Pod]]) -> None:
        """Carry these ports, and no others; the clients of pods that have left speak to others from now on."""
        self._wanted = wanted
        for number in self._ports.keys() - wanted.keys():
            gone = self._ports.pop(number)
            self._loop.remove_reader(gone.listener)
            gone.listener.close()
        pods = {number: frozenset(one) for number, one in wanted.items()}
        for session in (*self.sessions.values(), *self._leaving):
            number = session.port.number
            if number not in wanted:
                self._end(session)
            elif session.pod not in pods[number] and session not in self._leaving:
                del self.sessions[session.key]
                self._leaving[session] = self._loop.time() + LINGER_S
        self._listen()

    def tick(self, now_s: float) -> None:
        """What time brings: idle sessions end, and ports that were taken are tried again. `now_s` is the loop's."""
        while self.sessions and (oldest := next(iter(self.sessions.values()))).used_s < now_s - IDLE_S:
            self._end(oldest)
        for session in [one for one, until_s in self._leaving.items() if until_s < now_s]:
            self._end(session)
        if self._refused:
            self._listen()

    def _listen(self) -> None:
        refused = {}
        for number, pods in self._wanted.items():
            port = self._ports.get(number)
            if port is None:
                try:
                    port = Port(number, listen(number))
                except OSError as error:
                    refused[number] = error.strerror or str(error)
                    continue
                self._ports[number] = port
                self._loop.add_reader(port.listener, self._asked, port)
            port.pods = pods
        if refused != self._refused:
            self._refused = refused
            print(json.dumps(refused), flush=True)  # noqa: T201 - to the controller

    def _asked(self, port: Port) -> None:
        for _ in range(BATCH):
            try:
                size, ancillary, _, client = port.listener.recvmsg_into([self._buffer], ANCILLARY_MAX)
            except OSError:
                return
            source = source_of(ancillary)
            session = self.sessions.get((port.number, client, source)) or self._open(port, client, source)
            if session is None:
                continue
            self._use(session)
            datagram = self._buffer[:size]
            try:
                session.socket.send(datagram)
            except ConnectionRefusedError:  # an earlier one; this one has not been sent
                if other := self._elsewhere(session):
                    with contextlib.suppress(OSError):
                        other.socket.send(datagram)
            except OSError:  # lost, as a network loses it
                continue

    def _answered(self, session: Session) -> None:
        for _ in range(BATCH):
            try:
                size = session.socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE:  # the way there has become narrower; the next one is sent in pieces
                    continue
                self._elsewhere(session)
                return
            self._use(session)
            with contextlib.suppress(OSError):
                session.port.listener.sendmsg([self._buffer[:size]], session.source, 0, session.client)

    def _use(self, session: Session) -> None:
        if session not in self._leaving:
            session.used_s = self._loop.time()
            self.sessions.move_to_end(session.key)

    def _open(self, port: Port, client: Client, source: Source, refused: Pod | None = None) -> Session | None:
        while len(self.sessions) + len(self._leaving) >= self._most:
            self._end(next(iter(self._leaving or self.sessions.values())))
        for pod in port.next_pods(refused):
            try:
                connected = connect(pod)
            except OSError:  # no way leads there
                continue
            session = Session(port, client, source, pod, connected, self._loop.time())
            self.sessions[session.key] = session
            self._loop.add_reader(connected, self._answered, session)
            return session
        return None

    def _elsewhere(self, session: Session) -> Session | None:
        """The successor of a session whose pod does not listen, with another pod."""
        left = session in self._leaving
        self._end(session)
        return None if left else self._open(session.port, session.client, session.source, session.pod)

    def _end(self, session: Session) -> None:
        if self._leaving.pop(session, None) is None:
            del self.sessions[session.key]
        self._loop.remove_reader(session.socket)
        session.socket.close()


def listen(port: int) -> socket.socket:
    """A socket for both families where the machine has both; OSError if it can not be had."""
    both = socket.has_dualstack_ipv6()
    listener = socket.socket(socket.AF_INET6 if both else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if both:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BURST_MAX)
        listener.bind(("", port))
    except OSError:
        listener.close()
        raise
    return listener


def connect(pod: Pod) -> socket.socket:
    """A socket of a session."""
    family = socket.AF_INET6 if ":" in pod[0] else socket.AF_INET
    connected = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        connected.connect(pod)
    except OSError:
        connected.close()
        raise
    return connected


def source_of(ancillary: Iterable[tuple[int, int, bytes]]) -> Source:
    """The address that was asked (in6_pktinfo, RFC 3542 section 6; in_pktinfo, ip(7)), over whichever interface."""
    return tuple(
        (level, kind, data[:16] + bytes(4) if level == socket.IPPROTO_IPV6 else bytes(4) + data[4:])
        for level, kind, data in ancillary
    )


def fitting(most: int) -> int:
    """As many of these sessions as this process may have files for; it takes all that it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = most + FILES if hard == resource.RLIM_INFINITY else min(most + FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - FILES)


async def run(most: int) -> None:
    """Carry what the input says until it ends."""
    loop = asyncio.get_running_loop()
    relay, reader = Relay(loop, most), asyncio.StreamReader(limit=LINE_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            relay.tick(loop.time())

    ticking = asyncio.create_task(tick())
    while (line := await reader.readline()).endswith(b"\n"):  # else the controller was killed in the middle of it
        relay.want(
            {int(port): [(address, number) for address, number in pods] for port, pods in json.loads(line).items()}
        )
    ticking.cancel()


def main() -> None:
    """Entry point of `python -m vrata.ingress.datagrams`."""
    parser = argparse.ArgumentParser(description="Forwards UDP for the Ingress controller.")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="clients at once; the least recently used ends")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller, which ends the input
    asyncio.run(run(fitting(options.sessions)))


if __name__ == "__main__":
    main()
