"""Starts, adopts, reloads and stops an HAProxy master-worker, optionally inside a network namespace.

HAProxy management guide 2.6, sections 3 and 4. The master is a daemon that outlives whoever started it; its id is
recorded in `haproxy.pid` beside the configuration. If the master dies its workers follow, and the other way round
(measured, also with SIGKILL), so watching the master is enough.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.files import CHECKED, write_atomic
from vrata.haproxy.model import TlsFile
from vrata.haproxy.runtime import RuntimeClient, parse_statistics
from vrata.net import daemon
from vrata.net.command import CommandFailed, run
from vrata.net.confine import Confinement
from vrata.net.daemon import DaemonId, ExitWatch

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
_POLL_S = 0.01
_LEVEL = re.compile(r"\[[A-Z]+\]")
_SECRET = 0o600  # private keys
# Root, who owns the files, without what else makes it root: it only reads (setpriv(1)).
_POWERLESS = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
# Buffers that a thread has no room for go to a cache of all threads, not to malloc() and back (management guide, -dM).
_SHARED_CACHE = "-dMglobal"


class HaproxyProcess:
    """One HAProxy, its configuration and its sockets, all in one directory."""

    def __init__(
        self,
        directory: Path,
        netns: str | None = None,
        binary: str = "haproxy",
        *,
        nice: int | None = None,
        confinement: Confinement | None = None,
    ) -> None:
        """`nice`: its priority, setpriority(2); None: that of this process. `confinement`: of the next one started."""
        self.directory = directory
        self.netns = netns
        self.config_path = directory / "haproxy.cfg"
        self.record_path = directory / "haproxy.pid"
        self.log_path = directory / "haproxy.log"
        self.tls_dir = directory / "tls"
        self.stats_path = directory / "stats.sock"
        self.master_path = directory / "master.sock"
        self.runtime = RuntimeClient(self.stats_path)
        self._binary = binary
        self._nice = nice
        self._confinement = confinement

    def running(self) -> DaemonId | None:
        """The master, if it runs: this is also how one that an earlier process started is adopted."""
        return daemon.read_record(self.record_path)

    def outdated(self) -> bool:
        """Whether another HAProxy has been installed since it started: a reload brings that one."""
        found = self.running()
        return found is not None and daemon.is_replaced(found.pid)

    def workers(self) -> tuple[int, ...]:
        """Process ids of the master's workers, the newest last."""
        found = self.running()
        return daemon.children(found.pid) if found else ()

    async def check(self, text: str, files: Iterable[TlsFile] = ()) -> None:
        """Ask HAProxy itself about a configuration with its files; VrataError with what it said."""
        beside, staged = self.directory / f"haproxy.cfg{CHECKED}", self.directory / f"tls{CHECKED}"
        labels: dict[str, str] = {}
        try:
            labels = self._stage(staged, files)
            write_atomic(beside, text.replace(f"{self.tls_dir}/", f"{staged}/"))
            await run(
                *(_POWERLESS if self._confinement else ()), self._binary, "-c", "-f", str(beside), netns=self.netns
            )
        except CommandFailed as error:
            said = _alerts(error.stderr.replace(str(beside), "haproxy.cfg"))
            for path, label in labels.items():
                said = said.replace(path, label)
            raise VrataError(f"HAProxy refuses the configuration: {said}", retriable=False) from error
        finally:
            beside.unlink(missing_ok=True)
            shutil.rmtree(staged, ignore_errors=True)

    def _stage(self, staged: Path, files: Iterable[TlsFile]) -> dict[str, str]:
        labels = {}
        for file in files:
            staged.mkdir(mode=0o700, exist_ok=True)
            content = file.content.replace(f"{self.tls_dir}/", f"{staged}/")
            write_atomic(staged / file.name, content, mode=_SECRET)
            labels[f"{staged}/{file.name}"] = file.label
        return labels

    def write_config(self, text: str, files: Iterable[TlsFile] = ()) -> None:
        """Put a configuration in place for the next start or reload; its files first."""
        for file in files:
            self.tls_dir.mkdir(mode=0o700, exist_ok=True)
            path = self.tls_dir / file.name
            if not path.exists() or path.read_text() != file.content:
                write_atomic(path, file.content, mode=_SECRET)
        write_atomic(self.config_path, text)

    def sweep_files(self, files: Iterable[TlsFile]) -> None:
        """Remove what no configuration uses any more; a process keeps in memory what it has read."""
        wanted = {file.name for file in files}
        if self.tls_dir.is_dir():
            for path in self.tls_dir.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)

    def spawn(self) -> DaemonId:
        """Start the master and record it, without waiting until it listens (`wait_started`)."""
        self.log_path.unlink(missing_ok=True)
        argv = [self._binary, _SHARED_CACHE, "-W", "-S", f"{self.master_path},mode,600", "-f", str(self.config_path)]
        started = daemon.spawn(argv, log=self.log_path, netns=self.netns, confinement=self._confinement)
        if self._nice is not None:  # workers inherit it
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, started.pid, self._nice)
        daemon.write_record(self.record_path, started)
        return started

    async def wait_started(self, started: DaemonId) -> None:
        """Wait until the process serves; VrataError with the end of its log if it ends instead."""
        deadline = monotonic_s() + START_TIMEOUT_S
        while monotonic_s() < deadline:
            if not daemon.is_alive(started):
                raise VrataError(f"HAProxy does not start: {self.log_tail()}")
            try:
                information = await self.runtime.information()
            except VrataError:
                await asyncio.sleep(_POLL_S)
            else:
                # A socket file of a former process answers nobody; a foreign answer can only be its last words.
                if information.get("Pid"):
                    return
        raise VrataError(f"HAProxy does not serve after {START_TIMEOUT_S} s: {self.log_tail()}")

    async def start(self) -> DaemonId:
        """Start with the configuration in place and wait until it serves."""
        started = self.spawn()
        try:
            await self.wait_started(started)
        except VrataError:
            daemon.collect(started)
            raise
        return started

    async def older_statistics(self) -> tuple[dict[str, str], ...]:
        """`show stat` of every worker that a reload has replaced and that still has connections."""
        workers = self.workers()[:-1]
        if not workers:
            return ()
        master = RuntimeClient(self.master_path)
        known = (daemon.inner_pid(pid) for pid in workers)  # the master may have its own PID namespace
        answers = [parse_statistics(await master.ask(f"@!{pid} show stat")) for pid in known if pid]
        return tuple(row for rows in answers for row in rows)

    async def reload(self) -> None:
        """Hand the listening sockets to a new worker with the configuration in place; no connection is refused.

        2.6 answers `reload` with nothing: the reload counters of `show proc` tell the end. VrataError if it failed
        (the old worker goes on) or took too long.
        """
        master = RuntimeClient(self.master_path)
        reloads, failed = _counters(await self._patient(master, "show proc"))
        await self._patient(master, "reload")
        deadline = monotonic_s() + START_TIMEOUT_S
        while monotonic_s() < deadline:
            try:
                now_reloads, now_failed = _counters(await master.ask("show proc"))
            except VrataError:  # the master re-executes itself and listens again in a moment
                now_reloads, now_failed = reloads, failed
            if now_failed > failed:
                raise VrataError(f"HAProxy could not reload: {self.log_tail()}")
            if now_reloads > reloads:
                await self.runtime.wait_ready()
                return
            await asyncio.sleep(_POLL_S)
        raise VrataError(f"HAProxy did not reload within {START_TIMEOUT_S} s: {self.log_tail()}")

    def kill(self) -> None:
        """End master and workers at once: for one that does nothing any more."""
        found = self.running()
        for one in (*(daemon.identify(pid) for pid in self.workers()), found):
            if one:
                daemon.send(one, signal.SIGKILL)

    async def stop(self) -> None:
        """End it and its workers; one that does not run is fine."""
        found = self.running()
        if found:
            await daemon.stop(found, signal.SIGTERM, STOP_TIMEOUT_S)
        self.record_path.unlink(missing_ok=True)

    def watch(self, found: DaemonId, callback: Callable[[int | None], None]) -> ExitWatch:
        """Call back with its exit status when the master ends."""
        return ExitWatch(found, callback)

    def log_tail(self) -> str:
        """The last words of HAProxy, on one line."""
        return _alerts(daemon.log_tail(self.log_path))

    async def _patient(self, master: RuntimeClient, command: str) -> str:
        # Right after a start or reload the master refuses connections for a moment.
        deadline = monotonic_s() + 1.0
        while True:
            try:
                return await master.ask(command)
            except VrataError:
                if monotonic_s() > deadline:
                    raise
                await asyncio.sleep(_POLL_S)


def _alerts(text: str) -> str:
    """What HAProxy complains of, on one line; everything it said if it complains of nothing.

    3.0 continues a complaint on lines without a level: the first one may name the place only, the second one the reason.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints, complains = [], False
    for line in lines:
        if level := _LEVEL.match(line):
            complains = level[0] == "[ALERT]"
        if complains:
            complaints.append(line)
    return " | ".join(complaints or lines) or "it said nothing"


def _counters(text: str) -> tuple[int, int]:
    """(reloads, failed) of the master line of `show proc`: `123 master 4 [failed: 0] …`."""
    for line in text.splitlines():
        words = line.replace("[failed:", "").replace("]", "").split()
        if len(words) > 3 and words[1] == "master":
            return int(words[2]), int(words[3])
    raise VrataError("HAProxy's `show proc` names no master")
