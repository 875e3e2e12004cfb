"""The sandbox's processes: started once each, found again by pid and start time, stopped in good order."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from vrata.base.errors import VrataError
from vrata.net import daemon
from vrata.net.daemon import DaemonId
from vrata.sandbox.model import Topology
from vrata.sandbox.roster import Part, Paths

STOP_GRACE_S = 4.0
LOG_TAIL_LINES = 5


class PartRecord(msgspec.Struct, frozen=True):
    """What is written down of a started part."""

    pid: int
    start_ticks: int
    argv: tuple[str, ...]
    loopback_port: int = 0

    @property
    def process(self) -> DaemonId:
        """The identity of the process."""
        return DaemonId(self.pid, self.start_ticks)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return daemon.is_alive(self.process)


@dataclass(frozen=True)
class Parts:
    """Starts and stops parts of one sandbox."""

    paths: Paths
    layout: Topology

    def record(self, name: str) -> PartRecord | None:
        """What is known of a part, None if it was never started."""
        file = self.paths.process(name)
        try:
            return msgspec.json.decode(file.read_bytes(), type=PartRecord)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def is_running(self, name: str) -> bool:
        """Whether the recorded process is alive."""
        record = self.record(name)
        return record is not None and record.is_alive()

    async def ensure(self, part: Part) -> bool:
        """Start a part unless it runs as it should; True if it was started."""
        record = self.record(part.name)
        if record and record.is_alive():
            if record.argv == part.argv:
                return False
            await daemon.stop(record.process, signal.SIGTERM, STOP_GRACE_S)
        self._start(part, record.loopback_port if record else 0)
        return True

    def _start(self, part: Part, loopback_port: int) -> None:
        argv = [sys.executable, "-m", "vrata", *part.argv]
        listening = listen_on_loopback(loopback_port) if part.listens_on_loopback else None
        if listening:
            listening.set_inheritable(True)
            argv += ["--listen-fd", str(listening.fileno())]
            loopback_port = listening.getsockname()[1]
        netns = self.layout.machine(part.machine).netns if part.machine else None
        self.paths.state(part.name).mkdir(parents=True, exist_ok=True)
        for file in (self.paths.log(part.name), self.paths.process(part.name)):
            file.parent.mkdir(parents=True, exist_ok=True)
        process = daemon.spawn(
            argv,
            log=self.paths.log(part.name),
            netns=netns,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"},
        )
        if listening:
            listening.close()
        record = PartRecord(process.pid, process.start_ticks, part.argv, loopback_port)
        beside = self.paths.process(part.name).with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(record))
        beside.replace(self.paths.process(part.name))

    def check_alive(self, name: str) -> None:
        """Raise with the end of its log if a part has died."""
        if not self.is_running(name):
            log = self.paths.log(name)
            tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]) if log.exists() else ""
            raise VrataError(f"{name} ended right after its start:\n  {tail}\n", remedy=f"see `vrata logs {name}`")

    async def stop(self, names: Iterable[str]) -> None:
        """Stop these parts, all at once, bounded; those that never started are fine."""
        records = [self.record(name) for name in names]
        await asyncio.gather(
            *(daemon.stop(record.process, signal.SIGTERM, STOP_GRACE_S) for record in records if record)
        )

    def names(self) -> list[str]:
        """Every recorded part."""
        return [file.stem for file in (self.paths.root / "parts").glob("*.json")]

    async def stop_all(self) -> None:
        """Stop every recorded part."""
        await self.stop(self.names())


def listen_on_loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1: on the recorded port if it is free, else on another."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=512)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=512)


def check_tools() -> None:
    """Raise with the packages to install if a program that the sandbox needs is missing."""
    packages = {
        "haproxy": "haproxy",
        "keepalived": "keepalived",
        "nft": "nftables",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "sysctl": "procps",
        "conntrack": "conntrack",
    }
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for program, package in packages.items() if not shutil.which(program, path=path)]
    if missing:
        raise VrataError(f"not installed: {', '.join(missing)}", remedy=f"apt-get install {' '.join(missing)}")


def check_root() -> None:
    """Raise unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise VrataError("the sandbox needs root (network namespaces, nftables)", remedy="run it with sudo")
