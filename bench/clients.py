"""Clients around a fault: new connections every 2 ms, kept ones, and one long download; none of them retries.

Run inside a machine as `python -m bench.clients ADDRESS PORT DOWNLOAD_PORT [SECONDS]`; a download port of 0 downloads
nothing, SECONDS lie between new connections. Each line on stdin ends a window: a line of JSON tells what happened in it.
The line `end` sends nothing any more and first waits for what is under way. `gap_ms` is the longest time between two
answers to new connections; `failed` counts what was refused, reset, or not answered within five seconds.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

ANEW_S = 0.002
KEPT, KEPT_S = 5, 0.02
TIMEOUT_S = 5.0
REALTIME = 5  # of an instrument; keepalived has 10
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass
class Window:
    """What is counted between two lines of stdin. Times are monotonic seconds."""

    answers: list[float] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    longest_silence_s: float = 0.0

    def report(self) -> dict[str, object]:
        times = sorted(self.answers)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return {
            "gap_ended_at": time.time() - time.monotonic() + max(zip(gaps, times[1:], strict=False), default=(0, 0))[1],
            "gap_ms": max(gaps, default=TIMEOUT_S) * 1000,
            "sent": dict(self.sent),
            "answered": dict(self.answered),
            "failed": dict(self.failed),
            "slowest_ms": self.slowest_s * 1000,
            "download_stall_ms": self.longest_silence_s * 1000,
        }


class Clients:
    """All of them, counting into the present window."""

    def __init__(self, address: str, port: int, download_port: int, anew_s: float) -> None:
        self.address, self.port, self.download_port, self.anew_s = address, port, download_port, anew_s
        self.window = Window()
        self.ending = False
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(KEPT):
                self.tasks.append(group.create_task(self._keep(number * KEPT_S / KEPT)))
            if self.download_port:
                self.tasks.append(group.create_task(self._download()))
            group.create_task(self._tell())
            due = time.monotonic()
            while not self.ending:
                group.create_task(self._once())
                due += self.anew_s
                await asyncio.sleep(due - time.monotonic())

    async def _end(self) -> None:
        """Send nothing any more; what is under way has its time to be answered, but for the download."""
        self.ending = True
        await asyncio.sleep(TIMEOUT_S + 1)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tell(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line.strip() == b"end":
                await self._end()
            window, self.window = self.window, Window()
            sys.stdout.write(json.dumps(window.report()) + "\n")
            sys.stdout.flush()

    async def _once(self) -> None:
        began = time.monotonic()
        self.window.sent["anew"] += 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self.address, self.port)
                try:
                    await _ask(reader, writer)
                finally:
                    writer.close()
        except (OSError, TimeoutError, EOFError) as error:
            self.window.failed[f"anew: {type(error).__name__}"] += 1
            return
        now = time.monotonic()
        self.window.answered["anew"] += 1
        self.window.answers.append(now)
        self.window.slowest_s = max(self.window.slowest_s, now - began)

    async def _keep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while not self.ending:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(self.address, self.port)
            except (OSError, TimeoutError):
                await asyncio.sleep(KEPT_S)
                continue
            try:
                while not self.ending:
                    self.window.sent["kept"] += 1
                    async with asyncio.timeout(TIMEOUT_S):
                        reusable = await _ask(reader, writer)
                    self.window.answered["kept"] += 1
                    if not reusable:
                        break
                    await asyncio.sleep(KEPT_S)
            except (OSError, TimeoutError, EOFError) as error:
                self.window.failed[f"kept: {type(error).__name__}"] += 1
            writer.close()

    async def _download(self) -> None:
        while not self.ending:
            self.window.sent["download"] += 1
            try:
                await self._download_once()
                self.window.answered["download"] += 1
            except (OSError, TimeoutError, EOFError) as error:
                self.window.failed[f"download: {type(error).__name__}"] += 1
                await asyncio.sleep(KEPT_S)
            except asyncio.CancelledError:
                self.window.failed["download: ended by the client"] += 1
                raise

    async def _download_once(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(self.address, self.download_port)
            writer.write(REQUEST)
            left = await _length(reader)
        while left:
            began = time.monotonic()
            async with asyncio.timeout(TIMEOUT_S):
                got = len(await reader.read(65536))
            if not got:
                raise ConnectionResetError
            left -= got
            silence_s = time.monotonic() - began
            self.window.longest_silence_s = max(self.window.longest_silence_s, silence_s)
        writer.close()


async def _head(reader: asyncio.StreamReader) -> dict[bytes, bytes]:
    """The header fields of an answer with status 200; ConnectionResetError for any other."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ConnectionResetError(head[:30])
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return {name.strip(): value.strip() for name, _, value in lines}


async def _length(reader: asyncio.StreamReader) -> int:
    return int((await _head(reader))[b"content-length"])


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its whole answer; whether the connection may be used again."""
    writer.write(REQUEST)
    fields = await _head(reader)
    await reader.readexactly(int(fields[b"content-length"]))
    return fields.get(b"connection") != b"close"


if __name__ == "__main__":
    # An instrument: what it is kept waiting by other processes of this machine is not the balancer's doing.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME))
    anew_s = float(sys.argv[4]) if len(sys.argv) > 4 else ANEW_S
    asyncio.run(Clients(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), anew_s).run())
