"""Daemons that outlive the process that starts them, and how to recognise them again.

A daemon runs in a session of its own, so that nothing which ends the starter ends it. It is known by its process id
*and* its start time in clock ticks (proc(5), /proc/PID/stat field 22), which together never repeat while the machine
runs; command lines are never looked at. exec(2) keeps both, so `nsenter` and HAProxy's re-exec do not disturb them.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.net.command import inside
from vrata.net.confine import Confinement, confine_thread
from vrata.net.netns import in_namespace

_POLL_S = 0.01
_KILL_S = 5.0
_TAIL, _LINES = 2000, 5  # bytes and lines of a log's end that are told


@dataclass(frozen=True)
class DaemonId:
    """One process, for ever: its id and when it started (clock ticks since boot)."""

    pid: int
    start_ticks: int


def identify(pid: int) -> DaemonId | None:
    """Who has this process id now; None if nobody, or only a zombie that its parent has not collected."""
    try:
        state, started = _state(pid)
    except OSError:
        return None
    return None if state in "ZX" else started


def _state(pid: int) -> tuple[str, DaemonId]:
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rindex(")") + 2 :].split()  # the command name before it may hold anything
    return fields[0], DaemonId(pid, int(fields[19]))


def _read(path: str) -> str:
    """A short file of proc(5), in a fifth of the time that a text file takes: agents read thousands a second."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def is_alive(daemon: DaemonId) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    return identify(daemon.pid) == daemon


def is_stopped(pid: int) -> bool:
    """Whether the process is there and stopped, by a signal or by a tracer."""
    try:
        return _state(pid)[0] in "Tt"
    except OSError:
        return False


def is_replaced(pid: int) -> bool:
    """Whether the program that the process runs has been replaced on disk, as by an upgrade (proc(5), /proc/PID/exe)."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.endswith(" (deleted)")
    except OSError:
        return False


def children(pid: int) -> tuple[int, ...]:
    """Process ids of the children of a process's main thread; empty if it ended."""
    try:
        return tuple(int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return ()


def inner_pid(pid: int) -> int | None:
    """The process id that a process has in its own PID namespace; None if it ended (proc(5), /proc/PID/status)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    netns: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    confinement: Confinement | None = None,
) -> DaemonId:
    """Start a daemon in the namespace with its output appended to `log`; VrataError if the program is missing.

    It may have ended already when this returns. It inherits the descriptors that are marked so
    (os.set_inheritable). `confinement`: what it is left with, from its first instruction on; `cwd` is / then.
    """
    environment = os.environ if env is None else env
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise VrataError(f"{argv[0]}: command not found", remedy=f"install it: apt-get install {argv[0]}")
    if confinement is None:
        pid = _spawn(inside(netns, *(("env", "-C", cwd) if cwd else ()), *argv), log, environment)
    else:
        pid = in_namespace(netns, partial(_spawn_confined, confinement, Path(program), argv, log, environment))
    return _state(pid)[1]  # ours until it is reaped, so it is there


def _spawn_confined(
    confinement: Confinement, program: Path, argv: Sequence[str], log: Path, environment: Mapping[str, str]
) -> int:
    confine_thread(confinement, program)
    return _spawn(argv, log, environment)


def _spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    devnull, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawnp(
            command[0],
            tuple(command),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, devnull, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
    finally:
        os.close(devnull)
        os.close(output)


def write_record(path: Path, daemon: DaemonId) -> None:
    """Remember a daemon as `PID START_TICKS`, which a shell can read too."""
    write_atomic(path, f"{daemon.pid} {daemon.start_ticks}\n")


def recorded(path: Path) -> DaemonId | None:
    """The daemon remembered in `path`, whether it still runs or not."""
    try:
        pid, ticks = path.read_text().split()
        return DaemonId(msgspec.convert(pid, int, strict=False), msgspec.convert(ticks, int, strict=False))
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> DaemonId | None:
    """The daemon remembered in `path` if it still runs."""
    daemon = recorded(path)
    return daemon if daemon and is_alive(daemon) else None


def send(daemon: DaemonId, number: signal.Signals) -> None:
    """Signal the daemon through a pidfd, so that a recycled process id is never hit; one that ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(daemon.pid)
        try:
            if is_alive(daemon):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


async def wait_gone(daemon: DaemonId, timeout_s: float) -> bool:
    """Wait for the end of the daemon; False if it still runs after the time."""
    deadline = monotonic_s() + timeout_s
    while is_alive(daemon):
        if monotonic_s() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def wait(daemon: DaemonId) -> int:
    """Wait for the end of the daemon; its exit status (negative: the signal), or -1 if it was not our child."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        descriptor = os.pidfd_open(daemon.pid)
    except ProcessLookupError:
        return _status(daemon)
    try:
        if is_alive(daemon):
            loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
            await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return _status(daemon)


def _status(daemon: DaemonId) -> int:
    status = collect(daemon)
    return -1 if status is None else status


async def stop(daemon: DaemonId, number: signal.Signals, timeout_s: float) -> None:
    """Ask the daemon to end, and end it by force after the time."""
    send(daemon, number)
    if not await wait_gone(daemon, timeout_s):
        send(daemon, signal.SIGKILL)
        await wait_gone(daemon, _KILL_S)
    collect(daemon)


class ExitWatch:
    """Calls back once, from the event loop, when a daemon ends (pidfd_open(2)); `close` forgets it.

    The callback gets the exit status (negative: the signal), None if it was not our child.
    """

    def __init__(self, daemon: DaemonId, callback: Callable[[int | None], None]) -> None:
        self.daemon = daemon
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        try:
            self._descriptor = os.pidfd_open(daemon.pid)
        except ProcessLookupError:
            self._descriptor = -1
            self._loop.call_soon(callback, collect(daemon))
            return
        self._loop.add_reader(self._descriptor, self._ended)
        if identify(daemon.pid) != daemon:  # the id was recycled before the descriptor was opened
            self._loop.call_soon(self._ended)

    def _ended(self) -> None:
        if self._descriptor >= 0:
            self.close()
            self._callback(collect(self.daemon))

    def close(self) -> None:
        """Stop watching; the callback will not come any more."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def collect(daemon: DaemonId) -> int | None:
    """The exit status (negative: the signal) of one that has ended, which leaves nothing of it; None if it was not our child."""
    try:
        reaped, status = os.waitpid(daemon.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None


def describe_status(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "not known: another process started it"
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


def log_tail(log: Path) -> str:
    """The end of what a daemon has written; empty if it has written nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(log: Path) -> str:
    """The last lines of what a daemon has written, on one line."""
    lines = [line.strip() for line in log_tail(log).splitlines() if line.strip()]
    return " | ".join(lines[-_LINES:]) or "it said nothing"
