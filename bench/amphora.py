"""The peer of `bench.failover`: two namespaces with HAProxy and keepalived set up as in Octavia's amphorae.

Octavia's defaults (octavia.conf, [keepalived_vrrp]): advert 1 s, check of HAProxy each 5 s, down after 2 failed checks,
gratuitous ARP again each 5 s; HAProxy is restarted by its supervisor when it dies.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.ground import Ground
from vrata.base.ids import kernel_name
from vrata.net import ip
from vrata.net.command import inside

VIP = "10.10.0.240"
FIXED = ("10.10.0.241", "10.10.0.242")
FAULTS = {
    "haproxy_killed": ("haproxy", signal.SIGKILL),
    "haproxy_stopped": ("haproxy", signal.SIGSTOP),
    "keepalived_killed": ("keepalived", signal.SIGKILL),
    "keepalived_stopped": ("keepalived", signal.SIGSTOP),
}
HAPROXY = """\
global
  stats socket {directory}/stats.sock
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen short
  bind {vip}:80
  server one {backend}:{short}
listen long
  bind {vip}:81
  server one {backend}:{long}
"""
KEEPALIVED = """\
global_defs {{
  enable_script_security
  script_user root
}}
vrrp_script check {{
  script "{directory}/check.sh"
  interval 5
  fall 2
  rise 2
}}
vrrp_instance amphora {{
  state BACKUP
  interface tenant
  virtual_router_id 240
  priority {priority}
  nopreempt
  accept
  garp_master_refresh 5
  garp_master_refresh_repeat 2
  advert_int 1
  unicast_src_ip {own}
  unicast_peer {{
    {other}
  }}
  virtual_ipaddress {{
    {vip}/32 dev tenant
  }}
  track_script {{
    check
  }}
}}
"""
CHECK = """\
#!{python} -S
import socket
with socket.socket(socket.AF_UNIX) as asked:
    asked.settimeout(2)
    asked.connect("{directory}/stats.sock")
    asked.sendall(b"show info\\n")
    raise SystemExit(not asked.recv(1))
"""


@dataclass
class Amphorae:
    """The two, and how to break the active one."""

    ground: Ground
    directory: Path
    ports: tuple[int, int]
    namespaces: list[str] = field(default_factory=list)
    supervised: dict[tuple[int, str], asyncio.Task[None]] = field(default_factory=dict)
    broken: tuple[str, int] | None = None
    vip: str = VIP

    @property
    def faults(self) -> tuple[str, ...]:
        return (*FAULTS, "host_cut_off", "link_down")

    def link(self, number: int) -> str:
        return str(kernel_name("o", str(os.getpid()), str(number)))

    async def active(self) -> int:
        """Which of them holds the address; the one that took it last, if both do."""
        for number, netns in enumerate(self.namespaces):
            for link in await ip.query("address", "show", "dev", "tenant", netns=netns):
                if any(one.get("local") == VIP for one in link["addr_info"]):
                    return number
        raise RuntimeError("no amphora holds the address")

    async def whole(self) -> None:
        """Undo the last fault and wait until one of them holds the address and both run."""
        if self.broken:
            name, number = self.broken
            if name in FAULTS:
                self._signal(number, FAULTS[name][0], signal.SIGKILL)  # and its supervisor starts it again
            else:
                fabric = self.ground.stage.sandbox.layout.fabric
                await ip.batch([f"link set {self.link(number)} up"], netns=fabric)
            self.broken = None
            await asyncio.sleep(25.0)  # two good checks, an election
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RuntimeError):
                    await self.active()
                    return
                await asyncio.sleep(0.1)

    async def fault(self, name: str) -> None:
        number = await self.active()
        self.broken = (name, number)
        if name in FAULTS:
            self._signal(number, *FAULTS[name])
        else:
            await ip.batch([f"link set {self.link(number)} down"], netns=self.ground.stage.sandbox.layout.fabric)

    def _signal(self, number: int, program: str, what: signal.Signals) -> None:
        for pid in ip.processes_in(self.namespaces[number]):
            if ip.executable_of(pid) == program:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, what)

    async def build(self, number: int) -> None:
        sandbox = self.ground.stage.sandbox
        netns = str(kernel_name("amp", str(os.getpid()), str(number)))
        self.namespaces.append(netns)
        await ip.add_namespace(netns, {"net.ipv4.ip_nonlocal_bind": "1"})
        port = self.link(number)
        lines = [
            f"link add {port} type veth peer name tenant netns {netns}",
            f"link set {port} master tenant up",
        ]
        await ip.batch(lines, netns=sandbox.layout.fabric)
        await ip.batch([f"address add {FIXED[number]}/24 dev tenant", "link set tenant up"], netns=netns)
        directory = self.directory / str(number)
        directory.mkdir()
        short, long = self.ports
        values = {
            "directory": directory,
            "python": sys.executable,
            "vip": VIP,
            "backend": self.ground.backend,
            "short": short,
            "long": long,
            "own": FIXED[number],
            "other": FIXED[1 - number],
            "priority": 100 - 10 * number,
        }
        (directory / "haproxy.cfg").write_text(HAPROXY.format(**values))
        (directory / "keepalived.conf").write_text(KEEPALIVED.format(**values))
        (directory / "check.sh").write_text(CHECK.format(**values))
        (directory / "check.sh").chmod(0o700)
        own = ("-p", f"{directory}/k.pid", "-r", f"{directory}/v.pid")
        for name, argv in (
            ("haproxy", ("haproxy", "-db", "-f", f"{directory}/haproxy.cfg")),
            ("keepalived", ("keepalived", "-n", "-P", "-f", f"{directory}/keepalived.conf", *own)),
        ):
            self.supervised[number, name] = asyncio.create_task(self._supervise(netns, *argv))

    async def _supervise(self, netns: str, *argv: str) -> None:
        """systemd's part: start it again 100 ms after its end."""
        quiet = asyncio.subprocess.DEVNULL
        while True:
            made = await asyncio.create_subprocess_exec(*inside(netns, *argv), stdout=quiet, stderr=quiet)
            await made.wait()
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def amphorae(ground: Ground, short: int, long: int) -> AsyncIterator[Amphorae]:
    """The pair on the sandbox's tenant network; nothing of it remains."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Amphorae(ground, Path(folder), (short, long))
        try:
            for number in range(2):
                await made.build(number)
            await made.whole()
            yield made
        finally:
            for task in made.supervised.values():
                task.cancel()
            for number, netns in enumerate(made.namespaces):
                for program in ("haproxy", "keepalived"):
                    made._signal(number, program, signal.SIGKILL)
                await ip.delete_namespace(netns)
