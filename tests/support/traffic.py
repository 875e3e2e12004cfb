"""Traffic for tests: a small HTTP server in a namespace, and a client that connects anew every few milliseconds."""

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from tests.support.fabric import Machine, listen_in

from vrata.net.netns import enter, in_namespace


@contextlib.asynccontextmanager
async def http_server(machine: Machine, address: str, port: int, name: str) -> AsyncIterator[None]:
    """Answer every request with `name` and the address of the peer, keeping connections open.

    It runs in a thread of its own: clients get answers also while the test's event loop waits in a call.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body = f"{name} {writer.get_extra_info('peername')[0]}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()

    listening = listen_in(machine.netns, address, port)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(answer, sock=listening)
        await stop.wait()
        server.close()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # its end cancels connections that are open
            runner.run(serve())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _exchange(connection: socket.socket) -> tuple[str, bool]:
    """Body of one answer, and whether the connection may be used again."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    answer = connection.recv(4096)
    if b" 200 " not in answer:
        raise OSError(f"answered {answer[:40]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(), b"connection: close" not in head.lower()


async def get(machine: Machine, address: str, port: int, timeout_s: float = 0.5) -> str | None:
    """The body of one GET from this machine; None if nothing (good) comes back in time."""

    def once() -> str | None:
        try:
            with socket.create_connection((address, port), timeout_s) as connection:
                return _exchange(connection)[0]
        except OSError:
            return None

    return await asyncio.to_thread(in_namespace, machine.netns, once)


@dataclass
class Seen:
    """What a prober saw: monotonic times of good answers, and failures with their reason."""

    good: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)

    def longest_gap_ms(self, since: float = 0.0) -> float:
        """The longest time between two good answers after `since`."""
        times = [t for t in self.good if t >= since]
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf")) * 1000


@contextlib.contextmanager
def prober(
    machine: Machine,
    address: str,
    port: int,
    *,
    interval_s: float = 0.002,
    keep: bool = False,
    timeout_s: float | None = None,
) -> Iterator[Seen]:
    """Ask all the time from a thread in the machine's namespace, each time anew or (`keep`) on one connection."""
    seen = Seen()
    stop = threading.Event()
    timeout = timeout_s or (5.0 if keep else 0.05)

    def work() -> None:
        enter(machine.netns)
        kept: socket.socket | None = None
        while not stop.is_set():
            try:
                connection = kept or socket.create_connection((address, port), timeout)
                try:
                    reusable = _exchange(connection)[1]
                    seen.good.append(time.monotonic())
                except OSError:
                    connection.close()
                    kept = None
                    raise
                kept = connection if keep and reusable else None
                if kept is None:
                    connection.close()
            except OSError as error:
                seen.failed.append((time.monotonic(), str(error)))
            stop.wait(interval_s)
        if kept:
            kept.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
