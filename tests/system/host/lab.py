"""Two hosts with an agent each, a client, a backend, and the cloud's side of the conversation: one pair to break."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.agent_cloud import SECRET, AgentCloud
from tests.support.fabric import Fabric, Machine, fabric, wait_until
from tests.support.traffic import get, http_server

from vrata.base.clock import monotonic_s
from vrata.base.ids import kernel_name, mac_address
from vrata.base.wire import (
    DesiredInstance,
    HealthMonitor,
    InstanceKind,
    Leg,
    Listener,
    Member,
    Pool,
    Vrrp,
    VrrpState,
)
from vrata.host.model import directory_name
from vrata.net import daemon, ip

VIP, FLOATING, PORT = "10.10.0.100", "203.0.113.20", 80
HOSTS = ("host-a", "host-b")
INSTANCES = {"host-a": "11111111-aaaa-4aaa-8aaa-000000000001", "host-b": "11111111-bbbb-4bbb-8bbb-000000000002"}
FIXED = {"host-a": "10.10.0.11", "host-b": "10.10.0.12"}
MEMBERS = {"m1": "10.10.0.21", "m2": "10.10.0.22"}


def balancer(
    host: str, *, generation: int = 1, members: tuple[str, ...] = ("m1",), floating: bool = False, weight: int = 1
) -> DesiredInstance:
    """One half of the pair: an HTTP listener on the VIP (and the floating address) before monitored members."""
    other = HOSTS[1 - HOSTS.index(host)]
    legs = [_leg(host, "tenant", (f"{FIXED[host]}/24",), (f"{VIP}/24",), "10.10.0.1")]
    if floating:
        legs.append(_leg(host, "external", (), (f"{FLOATING}/24",), "203.0.113.1"))
    pool = Pool(
        id="pool-1",
        protocol="HTTP",
        lb_algorithm="ROUND_ROBIN",
        members=tuple(Member(id=m, address=MEMBERS[m], protocol_port=8000, weight=weight) for m in members),
        healthmonitor=HealthMonitor(id="monitor-1", type="HTTP", delay=1, timeout=1),
    )
    return DesiredInstance(
        id=INSTANCES[host],
        kind=InstanceKind.BALANCER,
        owner_id="lb-1",
        generation=generation,
        legs=tuple(legs),
        vrrp=_vrrp(host, other, 7),
        listeners=(Listener(id="listener-1", protocol="HTTP", protocol_port=PORT, default_pool_id="pool-1"),),
        pools=(pool,),
    )


def _leg(host: str, name: str, fixed: tuple[str, ...], virtual: tuple[str, ...], gateway: str | None) -> Leg:
    mac = _mac(host, name)
    return Leg(name=name, physical_network=name, mac_address=mac, fixed=fixed, virtual=virtual, gateway=gateway)


def _mac(host: str, leg: str) -> str:
    return mac_address(host, leg, str(os.getpid()))


def _vrrp(host: str, other: str, router_id: int) -> Vrrp:
    return Vrrp(
        router_id=router_id,
        priority=254 if host == HOSTS[0] else 250,
        advert_interval_ms=100,
        source=FIXED[host],
        peers=(FIXED[other],),
        peer_instances=(INSTANCES[other],),
        peer_macs=(_mac(other, "tenant"),),
    )


@dataclass
class Lab:
    """Everything a test needs to hold on to."""

    fabric: Fabric
    cloud: AgentCloud
    hosts: dict[str, Machine]
    client: Machine
    inside: Machine
    directory: Path
    mortal: bool = False
    agents: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start_agent(self, host: str) -> None:
        """Start a host's agent in its namespace."""
        log = (self.directory / f"{host}.log").open("ab")
        secret = self.directory / "secret"
        secret.write_text(SECRET)
        program = ["tests.support.mortal", str(self.death(host))] if self.mortal else ["vrata"]
        argv = ["nsenter", f"--net=/run/netns/{self.hosts[host].netns}", "--", sys.executable, "-m", *program, "host"]
        argv += ["--name", host, "--cloud-url", "http://172.31.0.2:8780", "--secret-file", str(secret)]
        argv += ["--insecure"]
        argv += ["--bridge", "tenant=br-tenant", "--bridge", "external=br-external"]
        argv += ["--state-dir", str(self.state_dir(host))]
        with log:
            log.write(b"--- start ---\n")
            log.flush()
            self.agents[host] = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)

    async def kill_agent(self, host: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End a host's agent and return its status."""
        agent = self.agents.pop(host)
        if agent.returncode is None:
            agent.send_signal(number)
        return await agent.wait()

    def death(self, host: str) -> Path:
        """The file that says when a mortal agent dies (`tests.support.mortal`)."""
        return self.directory / f"{host}.death"

    def state_dir(self, host: str) -> Path:
        """Where the host's agent keeps its files."""
        return self.directory / host

    def pid(self, host: str, name: str, instance_id: str | None = None) -> int:
        """Process id of an instance's daemon; 0 if it does not run."""
        found = daemon.read_record(self.instance_dir(host, instance_id) / f"{name}.pid")
        return found.pid if found else 0

    def instance_dir(self, host: str, instance_id: str | None = None) -> Path:
        """Where the files of the host's instance are."""
        return self.state_dir(host) / "instances" / directory_name(instance_id or INSTANCES[host])

    def stats_socket(self, host: str) -> Path:
        """HAProxy's runtime socket."""
        return self.instance_dir(host) / "stats.sock"

    def generation(self, host: str) -> int:
        """The generation the host reports."""
        seen = self.cloud.seen(host, INSTANCES[host])
        return seen.observed_generation if seen else 0

    async def links(self, host: str) -> list[str]:
        """Names of the instance's interfaces, loopback aside."""
        return [
            link["ifname"] for link in await ip.query("link", "show", netns=self.netns(host)) if link["ifname"] != "lo"
        ]

    async def answers(self, machine: Machine, address: str, port: int = PORT, timeout_s: float = 60.0) -> str:
        """Wait for an answer and return it."""
        deadline = monotonic_s() + timeout_s
        while monotonic_s() < deadline:
            answer = await get(machine, address, port, timeout_s=0.2)
            if answer:
                return answer
        raise AssertionError(f"{address}:{port} does not answer; {self.logs()}")

    def netns(self, host: str, instance_id: str | None = None) -> str:
        """The namespace of the host's instance."""
        return kernel_name("i", host, str(self.state_dir(host)), instance_id or INSTANCES[host])

    def state(self, host: str, instance_id: str | None = None) -> VrrpState | None:
        """The VRRP state the host reports."""
        seen = self.cloud.seen(host, instance_id or INSTANCES[host])
        return seen.state if seen else None

    def active(self) -> str:
        """The one host that reports MASTER."""
        masters = [host for host in HOSTS if self.state(host) is VrrpState.MASTER]
        assert len(masters) == 1, masters
        return masters[0]

    def one_active(self) -> bool:
        """Whether one host reports MASTER and the other BACKUP."""
        return {self.state(host) for host in HOSTS} == {VrrpState.MASTER, VrrpState.BACKUP}

    async def want_pair(self, **options: object) -> None:
        """Desire the balancer on both hosts."""
        for host in HOSTS:
            await self.cloud.want(host, balancer(host, **options))  # type: ignore[arg-type]

    async def settle(self, generation: int = 1) -> None:
        """Wait until both report the generation, one is active, and all members are judged ONLINE."""

        def settled() -> bool:
            seen = [self.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
            return self.one_active() and all(r and r.observed_generation == generation and not r.error for r in seen)

        await wait_until(settled, lambda: f"generation {generation} on both hosts; {self.logs()}")

    def logs_since_restart(self, host: str) -> str:
        """What the agent logged since it was started last."""
        return (self.directory / f"{host}.log").read_text().rpartition("--- start ---")[2]

    def logs(self) -> str:
        """The last lines of both agents' logs."""
        return " // ".join((self.directory / f"{host}.log").read_text()[-700:] for host in HOSTS)


@contextlib.asynccontextmanager
async def lab(label: str, directory: Path, *, mortal: bool = False) -> AsyncIterator[Lab]:
    """A running lab without instances; nothing of it remains. `mortal`: its agents die when told to."""
    cloud = AgentCloud()
    async with contextlib.AsyncExitStack() as stack:
        net = await stack.enter_async_context(fabric(label, "mgmt", "tenant", "external"))
        hosts = {}
        for number, host in enumerate(HOSTS):
            hosts[host] = await net.add_host(host, ("tenant", "external"), {"mgmt": f"172.31.0.{11 + number}/24"})
        cloud_machine = await net.add_machine("cloud", {"mgmt": ["172.31.0.2/24"]})
        client = await net.add_machine("client", {"external": ["203.0.113.10/24"], "tenant": ["10.10.0.50/24"]})
        inside = await net.add_machine(
            "inside", {"tenant": [f"{address}/24" for address in MEMBERS.values()]}, default_via="10.10.0.1"
        )
        for name, address in MEMBERS.items():
            await stack.enter_async_context(http_server(inside, address, 8000, name))
        await stack.enter_async_context(cloud.serve(cloud_machine, "172.31.0.2", 8780))
        made = Lab(net, cloud, hosts, client, inside, directory, mortal)
        try:
            for host in HOSTS:
                await made.start_agent(host)
            await wait_until(lambda: len(cloud.reports) == 2, "both hosts report")
            yield made
        finally:
            await clean_up(made)


async def clean_up(made: Lab) -> None:
    """Have the agents remove what they built, then end them; fails if anything is left."""
    for host in HOSTS:
        if host not in made.agents or made.agents[host].returncode is not None:
            await made.start_agent(host)
        await made.fabric.heal(made.hosts[host])
        await made.cloud.want(host)
    try:
        await wait_until(lambda: not any(left(made, host) for host in HOSTS), lambda: f"nothing is left; {made.logs()}")
    finally:
        for host in HOSTS:
            await made.kill_agent(host, signal.SIGTERM)


def left(made: Lab, host: str) -> list[str]:
    """Instance directories that still exist on a host."""
    directory = made.state_dir(host) / "instances"
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []
