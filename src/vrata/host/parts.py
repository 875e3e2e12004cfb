"""The moving parts of one instance in one place: its directory, its processes, its fault file."""

import signal
from pathlib import Path

from vrata.base.files import write_atomic
from vrata.haproxy.process import HaproxyProcess
from vrata.net import daemon
from vrata.net.daemon import DaemonId
from vrata.vrrp.process import KeepalivedProcess
from vrata.vrrp.render import NOT_FIT

# What carries traffic comes before whatever else the host has to do (setpriority(2)).
HAPROXY_NICE = -10
_STOP_S = 2.0


class InstanceParts:
    """Handles of one instance; making one touches nothing."""

    def __init__(self, directory: Path, netns: str) -> None:
        self.directory = directory
        self.netns = netns
        self.haproxy = HaproxyProcess(directory, netns, nice=HAPROXY_NICE)
        self.keepalived = KeepalivedProcess(directory, netns)
        self.conntrackd = Conntrackd(directory, netns)
        self._fault = directory / "fault"

    def marked_unfit(self) -> bool:
        """Whether keepalived is told to hold back; a missing file counts, since nothing has been proved yet."""
        try:
            return self._fault.read_text().strip() != "0"
        except OSError:
            return True

    def mark_fit(self) -> None:
        """Let keepalived compete. Written in place: keepalived watches this inode's close."""
        self._fault.write_text("0\n")

    def mark_unfit(self) -> None:
        """Make keepalived say good-bye (priority 0) and drop the addresses at once; the peer takes them."""
        self._fault.write_text(f"{NOT_FIT}\n")


class Conntrackd:
    """The daemon that replicates a gateway's connections to its peer (conntrackd(8))."""

    def __init__(self, directory: Path, netns: str) -> None:
        self.netns = netns
        self.record_path = directory / "conntrackd.pid"
        self.config_path = directory / "conntrackd.conf"
        self._lock = directory / "conntrackd.lock"
        self._log = directory / "conntrackd.log"

    def running(self) -> DaemonId | None:
        """The daemon, if it runs."""
        return daemon.read_record(self.record_path)

    def start(self, config: str) -> DaemonId:
        """Start it; it asks its peer for everything that is established."""
        write_atomic(self.config_path, config)
        self._lock.unlink(missing_ok=True)
        started = daemon.spawn(["conntrackd", "-C", str(self.config_path)], log=self._log, netns=self.netns)
        daemon.write_record(self.record_path, started)
        return started

    async def stop(self) -> None:
        """End it; the kernel keeps the connections."""
        found = self.running()
        if found:
            await daemon.stop(found, signal.SIGTERM, _STOP_S)
        self.record_path.unlink(missing_ok=True)
