"""The moving parts of one instance in one place: its directory, its processes, its fault file."""

import signal
import socket
from pathlib import Path
from typing import assert_never

from vrata.base.files import write_atomic
from vrata.haproxy.process import HaproxyProcess
from vrata.host.model import Part
from vrata.net import daemon
from vrata.net.confine import Capability, Confinement
from vrata.net.daemon import DaemonId
from vrata.vrrp.process import KeepalivedProcess
from vrata.vrrp.render import NOT_FIT

# What carries traffic comes before whatever else the host has to do (setpriority(2)).
HAPROXY_NICE = -10
_STOP_S = 2.0
HAPROXY = frozenset(
    {
        *(Capability.NET_BIND_SERVICE, Capability.SETUID, Capability.SETGID, Capability.SYS_CHROOT, Capability.KILL),
        Capability.SYS_RESOURCE,  # more open files than the agent itself may have
    }
)
# The last two: it sets user and groups for its script, also those that it has.
KEEPALIVED = frozenset({Capability.NET_ADMIN, Capability.NET_RAW, Capability.SETUID, Capability.SETGID})
CONNTRACKD = frozenset({Capability.NET_ADMIN})
_NAMES = tuple(Path(path) for path in ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/protocols"))
_BUILD_OPTIONS = Path("/etc/keepalived/keepalived.config-opts")  # keepalived 2.3 does not start without it
_PROC = Path("/proc")  # where keepalived's script looks HAProxy up, by the host's process ids


def _haproxy(directory: Path) -> Confinement:
    """Of the master, which binds for its workers and gives them their user; they keep no capability."""
    families = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6})
    return Confinement(HAPROXY, families, directory, own_pids=True)


def _speaker(directory: Path, capabilities: frozenset[Capability]) -> Confinement:
    return Confinement(capabilities, None, directory, (*_NAMES, _BUILD_OPTIONS, _PROC))


class InstanceParts:
    """Handles of one instance; making one touches nothing."""

    def __init__(self, directory: Path, netns: str) -> None:
        self.directory = directory
        self.netns = netns
        self.haproxy = HaproxyProcess(directory, netns, nice=HAPROXY_NICE, confinement=_haproxy(directory))
        self.keepalived = KeepalivedProcess(directory, netns, _speaker(directory, KEEPALIVED))
        self.conntrackd = Conntrackd(directory, netns)
        self._fault = directory / "fault"

    def process(self, part: Part) -> "HaproxyProcess | KeepalivedProcess | Conntrackd":
        """The handle of one part."""
        match part:
            case Part.HAPROXY:
                return self.haproxy
            case Part.KEEPALIVED:
                return self.keepalived
            case Part.CONNTRACKD:
                return self.conntrackd
            case _:
                assert_never(part)

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
        self.log_path = directory / "conntrackd.log"
        self._confinement = _speaker(directory, CONNTRACKD)

    def running(self) -> DaemonId | None:
        """The daemon, if it runs."""
        return daemon.read_record(self.record_path)

    def start(self, config: str) -> DaemonId:
        """Start it; it asks its peer for everything that is established."""
        write_atomic(self.config_path, config)
        for path in (self._lock, self.log_path):
            path.unlink(missing_ok=True)
        argv = ["conntrackd", "-C", str(self.config_path)]
        started = daemon.spawn(argv, log=self.log_path, netns=self.netns, confinement=self._confinement)
        daemon.write_record(self.record_path, started)
        return started

    def log_tail(self) -> str:
        """The last words of conntrackd, on one line."""
        return daemon.last_words(self.log_path)

    async def stop(self) -> None:
        """End it; the kernel keeps the connections."""
        found = self.running()
        if found:
            await daemon.stop(found, signal.SIGTERM, _STOP_S)
        self.record_path.unlink(missing_ok=True)
