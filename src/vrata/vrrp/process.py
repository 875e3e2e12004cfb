"""Starts, adopts, reloads and stops one keepalived inside a network namespace, and hears its state changes.

keepalived(8), 2.2 and 2.3. Several live side by side because each has its own configuration, process id files (`-p`, `-r`)
and notification pipe. Killing the parent leaves its VRRP child running and active, and the parent restarts a killed
child as BACKUP; so the parent is watched, and its death ends the child too (`clear`).
"""

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.files import CHECKED, write_atomic
from vrata.net import daemon
from vrata.net.command import CommandFailed, run
from vrata.net.confine import Confinement
from vrata.net.daemon import DaemonId

STOP_TIMEOUT_S = 2.0
RELOAD_TIMEOUT_S = 5.0
REALTIME_PRIORITY = 10
_CHILD_TIMEOUT_S = 0.3
_ASK_AGAIN_S = 0.2
_POLL_S = 0.005


class KeepalivedProcess:
    """One keepalived, its configuration and its pipe, all in one directory."""

    def __init__(self, directory: Path, netns: str | None, confinement: Confinement | None = None) -> None:
        self.directory = directory
        self.netns = netns
        self._confinement = confinement
        self.config_path = directory / "keepalived.conf"
        self.record_path = directory / "keepalived.pid"
        self.log_path = directory / "keepalived.log"
        self.fifo_path = directory / "notify.fifo"
        self._child_path = directory / "keepalived-vrrp.own.pid"
        self._parent_path = directory / "keepalived.own.pid"

    def running(self) -> DaemonId | None:
        """The parent process, if it runs, whoever started it."""
        return daemon.read_record(self.record_path)

    def pids(self) -> tuple[int, ...]:
        """The parent and the child that speaks VRRP, as far as they run."""
        found, child = self.running(), self._child()
        return tuple(one.pid for one in (found, child) if one)

    async def check(self, text: str) -> None:
        """Ask keepalived itself about a configuration, in the namespace: with a bad one a reload would end it."""
        beside = self.directory / f"keepalived.conf{CHECKED}"
        write_atomic(beside, text)
        try:
            await run("keepalived", "-t", "-l", "-f", str(beside), netns=self.netns)
        except CommandFailed as error:
            said = " | ".join(error.stderr.replace(str(beside), "keepalived.conf").split("\n")).strip(" |")
            raise VrataError(f"keepalived refuses the configuration: {said}", retriable=False) from error
        finally:
            beside.unlink(missing_ok=True)

    def write_config(self, text: str) -> None:
        """Put a configuration in place for the next start or reload."""
        write_atomic(self.config_path, text)

    def start(self) -> DaemonId:
        """Start it as BACKUP and record it. Its own pid files must not name a dead process: `clear` first."""
        self.log_path.unlink(missing_ok=True)
        # -B: 2.3 opens BFD's pid file, /run/bfd.pid for all of them, also where none is configured.
        argv = ["keepalived", "-n", "-l", "-P", "-B", "-f", str(self.config_path)]
        argv += ["-p", str(self._parent_path), "-r", str(self._child_path)]
        started = daemon.spawn(argv, log=self.log_path, netns=self.netns, confinement=self._confinement)
        daemon.write_record(self.record_path, started)
        return started

    def raise_priority(self) -> None:
        """Give the VRRP child real-time priority, so that a busy machine misses no adverts; call at each state change.

        The child resets what it inherits, and a new one follows when it dies: it then reports its state, which is the
        moment to do this. Where the system does not allow it, keepalived runs all the same.
        """
        child = self._child()
        if child:
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.sched_setscheduler(child.pid, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))

    async def reload(self) -> None:
        """Take the configuration in place; state, addresses and adverts go on (measured: no advert is late).

        One that is just starting dies of the signal, or loses it without a word and goes on with peers it no longer has
        (measured): it is asked once it has written its process id, until it says that it reloads. VrataError if it
        never does.
        """
        found = self.running()
        begin = self._log_size()
        deadline = monotonic_s() + RELOAD_TIMEOUT_S
        ask = monotonic_s()
        while found and daemon.is_alive(found) and not self._says_reloading(begin):
            if monotonic_s() > deadline:
                raise VrataError("keepalived does not reload", remedy=f"see {self.log_path}")
            if monotonic_s() >= ask and self._parent_path.exists():
                daemon.send(found, signal.SIGHUP)
                ask = monotonic_s() + _ASK_AGAIN_S
            await asyncio.sleep(_POLL_S)

    def _says_reloading(self, since: int) -> bool:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(min(since, self._log_size()))
            return b"Reloading" in log.read()
        return False

    def log_tail(self) -> str:
        """The last words of keepalived, on one line."""
        return daemon.last_words(self.log_path)

    def _log_size(self) -> int:
        try:
            return self.log_path.stat().st_size
        except OSError:
            return 0

    def kill(self) -> None:
        """End both at once, without a good-bye: for one that does nothing any more."""
        for one in (self.running(), self._child()):
            if one:
                daemon.send(one, signal.SIGKILL)

    async def clear(self) -> None:
        """End what a dead parent left: first gently, so that the child says good-bye (priority 0) to its peer."""
        child = self._child()
        if child:
            await daemon.stop(child, signal.SIGTERM, _CHILD_TIMEOUT_S)
        for path in (self.record_path, self._child_path, self._parent_path):
            path.unlink(missing_ok=True)

    async def stop(self) -> None:
        """End it; its peer takes over at once and its addresses go. One that does not run is fine."""
        found = self.running()
        if found:
            await daemon.stop(found, signal.SIGTERM, STOP_TIMEOUT_S)
        await self.clear()

    def _child(self) -> DaemonId | None:
        try:
            found = daemon.identify(int(self._child_path.read_text()))
            # keepalived records no start time: what has that number now must at least be keepalived.
            name = Path(f"/proc/{found.pid}/comm").read_text().strip() if found else ""
        except (OSError, ValueError):
            return None
        return found if name == "keepalived" else None


class NotifyPipe:
    """Reads keepalived's notification pipe (`INSTANCE "name" STATE priority` a line) into a callback."""

    def __init__(self, path: Path, callback: Callable[[str], None]) -> None:
        self._callback = callback
        self._rest = b""
        if not path.exists() or not stat.S_ISFIFO(path.stat().st_mode):
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        # Open for writing too: the pipe never ends, and lives whether keepalived is there or not.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._descriptor, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            state = parse_notification(line.decode(errors="replace"))
            if state:
                self._callback(state)

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def parse_notification(line: str) -> str | None:
    """The state in one line of the pipe: MASTER, BACKUP or FAULT; None for anything else."""
    words = line.split()
    if len(words) == 4 and words[0] == "INSTANCE" and words[2] in ("MASTER", "BACKUP", "FAULT"):
        return words[2]
    return "BACKUP" if len(words) == 4 and words[2] == "STOP" else None
