"""Processes that outlive who started them: a pid with its start time names one process for good.

A pid alone may be recycled; with the start time from /proc/PID/stat (field 22, clock ticks since boot, proc(5)) it
cannot be mistaken. Ends are noticed through pidfd_open(2), for children and strangers alike.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals


@dataclass(frozen=True)
class ProcessId:
    """One process on this machine since its last boot."""

    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self.pid > 0 and _start_ticks(self.pid) == self.start_ticks

    def send(self, number: Signals) -> None:
        """Send a signal to it; nothing happens if it is gone."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; returns the exit status (negative: signal), or -1 if it was not our child."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return _reap(self.pid)
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        try:
            if self.is_alive():
                loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
                await ended
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return _reap(self.pid)

    async def stop(self, grace_s: float, number: Signals = Signals.SIGTERM) -> None:
        """Ask it to end, wait up to `grace_s`, then kill it; returns when it is gone."""
        self.send(number)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            self.send(Signals.SIGKILL)
            await self.wait()


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process, None if there is none of that pid."""
    ticks = _start_ticks(pid)
    return None if ticks is None else ProcessId(pid, ticks)


def spawn(
    argv: Sequence[str],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> ProcessId:
    """Start a process in a session of its own, appending stdout and stderr to a file; OSError if it cannot start.

    It lives on when this process ends.
    """
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        # The handle is dropped on purpose: `wait` reaps through the pidfd.
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    finally:
        os.close(output)
    process.returncode = 0  # tells Popen's finaliser that nobody waits through it
    return ProcessId(process.pid, _start_ticks(process.pid) or 0)


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the command name may hold spaces and brackets
    return None if fields[0] == "Z" else int(fields[19])


def _reap(pid: int) -> int:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return -1
    return os.waitstatus_to_exitcode(status) if reaped else -1
