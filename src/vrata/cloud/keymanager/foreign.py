"""Reads key material of tenants in child processes: a PKCS #12 file or an encrypted key may ask for hours of hashing.

A child parses one thing at a time, at a low priority, and ends when that takes more processor time than its budget or
more than MEMORY bytes. Children are started at need and kept. (The child's side is `reading.py`.)

What one request names shares a budget: QUICK_S for a first try, which is enough for what common tools make, then SLOW_S
among other slow ones. So material that is slow to open delays only other slow material.
"""

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import msgspec

QUICK_S, SLOW_S = 0.1, 1.0  # processor time for all that one request names
LEAST_S = 0.01  # for one thing: the kernel counts in steps of some milliseconds
MEMORY = 512 * 1024 * 1024
WAIT_S = 20.0  # for a child that gets no processor
KEPT = 2  # idle children
TOO_LONG = (
    f"export it again with fewer iterations, or name fewer in one request: opening them takes more than {SLOW_S:g} s"
)


class Source(msgspec.Struct, frozen=True):
    """What a TLS reference stands for, as it was stored."""

    certificate: bytes = b""
    private_key: bytes = b""
    passphrase: bytes | None = None
    intermediates: bytes | None = None
    pkcs12: bytes | None = None  # in place of all others


class Reading(msgspec.Struct, frozen=True):
    """What became of it: PEM in HAProxy's form, or what to do about it."""

    pem: str = ""
    remedy: str = ""
    spent_s: float = 0.0  # processor time


class Job(msgspec.Struct, frozen=True):
    """What a child is asked to read, and the processor time that it may take."""

    source: Source
    budget_s: float


_READINGS = msgspec.msgpack.Decoder(Reading)  # at import: see balancing/desired.py


LENGTH = struct.Struct(">I")


class _Child:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vrata.cloud.keymanager.reading"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, job: Job) -> Reading | None:
        """None if the child did not come to an end; it is of no use then."""
        assert self._process.stdin is not None
        raw = msgspec.msgpack.encode(job)
        try:
            self._process.stdin.write(LENGTH.pack(len(raw)) + raw)
            self._process.stdin.flush()
        except OSError:
            return None
        deadline = time.monotonic() + WAIT_S
        head = self._take(LENGTH.size, deadline)
        body = self._take(LENGTH.unpack(head)[0], deadline) if head else None
        return None if body is None else _READINGS.decode(body)

    def _take(self, size: int, deadline: float) -> bytes | None:
        assert self._process.stdout is not None
        descriptor, found = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(found) < size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            part = os.read(descriptor, size - len(found))
            if not part:
                return None
            found += part
        return found

    def kill(self) -> None:
        """Whoever reads from it finds the end."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, and leave nothing of it."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        self._process.wait()


class ForeignKeys:
    """The children of one service; called from threads, one child for each that reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    def read(self, source: Source, budget_s: float) -> Reading | None:
        """What became of it; None if it takes more processor time than this, or the service ends."""
        with self._lock:
            if self._closed:
                return None
            child = self._idle.pop() if self._idle else _Child()
            self._busy.add(child)
        reading = child.read(Job(source, budget_s))
        with self._lock:
            self._busy.discard(child)
            keep = reading is not None and len(self._idle) < KEPT and not self._closed
            if keep:
                self._idle.append(child)
        if not keep:
            child.end()
        return reading

    def read_all(self, sources: Mapping[str, Source], budget_s: float) -> dict[str, Reading]:
        """What became of them, by name, until the budget is used up: the rest is left out."""
        found: dict[str, Reading] = {}
        for name, source in sources.items():
            reading = self.read(source, budget_s) if budget_s >= LEAST_S else None
            if reading is None:
                break
            found[name] = reading
            budget_s -= reading.spent_s
        return found

    def close(self) -> None:
        """End the children: whoever waits for one is told at once."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for child in self._busy:
                child.kill()
        for child in idle:
            child.end()


FOREIGN = ForeignKeys()
