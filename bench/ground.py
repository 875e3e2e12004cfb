"""What the balancing benchmarks stand on: a sandbox without controllers, its cloud as a client, fast backends."""

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrata.net.command import inside, run
from vrata.provider.cloud import Cloud
from vrata.sandbox.demo.stage import LBAAS, Stage
from vrata.sandbox.lifecycle import Sandbox, silent
from vrata.sandbox.model import Options, worker_address

Json = dict[str, Any]
SERVICE = "load-balancer"
BACKEND = """\
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend fast
{binds}
  http-request return status 200 content-type text/plain string "ok"
"""


@dataclass
class Ground:
    """A sandbox and the tenant's session with its cloud."""

    stage: Stage
    cloud: Cloud
    subnet_id: str
    backend: str  # address of the machine with the backends

    def netns(self, machine: str) -> str:
        return str(self.stage.sandbox.layout.machine(machine).netns)

    async def create(self, body: Json) -> Json:
        """POST a load balancer on the tenant's subnet."""
        wanted = {"loadbalancer": {"vip_subnet_id": self.subnet_id, **body}}
        answer = await self.cloud.request("POST", SERVICE, f"{LBAAS}/loadbalancers", body=wanted)
        made: Json = answer["loadbalancer"]
        return made

    async def get(self, balancer_id: str) -> Json:
        answer = await self.cloud.get(SERVICE, f"{LBAAS}/loadbalancers/{balancer_id}")
        found: Json = answer["loadbalancer"]
        return found

    async def flavor(self, name: str, **data: object) -> str:
        """A flavor of its own; its id."""
        profile = {"name": name, "provider_name": "octavia", "flavor_data": json.dumps(data)}
        async with self.stage.admin() as admin:
            made = await admin.request("POST", SERVICE, f"{LBAAS}/flavorprofiles", body={"flavorprofile": profile})
            flavor = {"name": name, "flavor_profile_id": made["flavorprofile"]["id"]}
            made = await admin.request("POST", SERVICE, f"{LBAAS}/flavors", body={"flavor": flavor})
        return str(made["flavor"]["id"])

    async def active(self, balancer_id: str, timeout_s: float = 120.0) -> Json:
        """Wait until it is ACTIVE."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.get(balancer_id)
            if found["provisioning_status"] == "ACTIVE":
                return found
            if found["provisioning_status"] == "ERROR" or time.monotonic() > deadline:
                raise RuntimeError(f"{balancer_id} is {found['provisioning_status']}")
            await asyncio.sleep(0.01)

    async def delete(self, balancer_id: str) -> None:
        """Delete with everything under it and wait until it is gone."""
        await self.cloud.request("DELETE", SERVICE, f"{LBAAS}/loadbalancers/{balancer_id}", params={"cascade": "true"})
        while any(one["id"] == balancer_id for one in await self.balancers()):
            await asyncio.sleep(0.02)

    async def balancers(self) -> list[Json]:
        found: list[Json] = await self.cloud.find(SERVICE, f"{LBAAS}/loadbalancers", "loadbalancers")
        return found

    async def first_answer(self, machine: str, *urls: str) -> None:
        """Return when every URL answers 200, asked by one process that tries every few milliseconds.

        A connection gets 20 ms: a SYN sent a moment too early is lost, and the kernel's next one is a second away.
        """
        script = (
            "import socket,sys,time\n"
            "def answers(host,port):\n"
            "    try:\n"
            "        with socket.create_connection((host,int(port or 80)),0.02) as s:\n"
            "            s.settimeout(0.2); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); return b' 200 ' in s.recv(99)\n"
            "    except OSError: time.sleep(0.002)\n"
            "for url in sys.argv[1:]:\n"
            "    host,_,port=url.removeprefix('http://').rstrip('/').partition(':'); end=time.monotonic()+30\n"
            "    while not answers(host,port):\n"
            "        if time.monotonic()>end: sys.exit(url)\n"
        )
        await run("python3", "-S", "-c", script, *urls, netns=self.netns(machine), timeout_s=600)


@contextlib.asynccontextmanager
async def ground(name: str, advert_interval_ms: int = 50, *, hosts: int = 2) -> AsyncIterator[Ground]:
    """A sandbox for one benchmark; nothing of it remains."""
    options = Options(name=name, hosts=hosts, workers=1, controllers=False, advert_interval_ms=advert_interval_ms)
    sandbox = Sandbox(options)
    stage = Stage(sandbox, say=print)
    try:
        await sandbox.up(silent)
        async with stage.tenant() as cloud:
            subnets = await cloud.find("network", "/v2.0/subnets", "subnets", name="tenant")
            yield Ground(stage, cloud, subnets[0]["id"], worker_address(0))
    finally:
        for host in ("host-a", "host-b"):
            log = sandbox.paths.log(host).read_text().splitlines()
            print(*(line for line in log if "not as desired" in line), sep="\n", end="")
        await sandbox.down()


@contextlib.asynccontextmanager
async def haproxy(netns: str, config: str) -> AsyncIterator[int]:
    """A hand-written HAProxy in a namespace; its process id."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        file = Path(folder) / "haproxy.cfg"
        file.write_text(config)
        async with process(netns, "haproxy", "-db", "-f", str(file)) as pid:
            yield pid


@contextlib.asynccontextmanager
async def process(netns: str, *argv: str) -> AsyncIterator[int]:
    """A process in a namespace, killed at the end."""
    made = await asyncio.create_subprocess_exec(
        *inside(netns, *argv), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield made.pid
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


def backends(ports: range) -> str:
    """A configuration that answers 200 on every port."""
    return BACKEND.format(binds="\n".join(f"  bind :{port}" for port in ports))


def pin(pid: int, core: int) -> None:
    """Keep a process, its threads included, on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_s(pid: int) -> float:
    """CPU time a process has used, seconds (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    """Memory of a process with its share of what it shares, MiB (smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def loads(text: str) -> Json:
    """JSON as a dictionary."""
    decoded: Json = json.loads(text)
    return decoded
