"""`make bench-failover`: what clients see of each fault, beside keepalived as Octavia sets it up, in the same run.

Each trial: clients (`bench.clients`) run all the time, the fault is done to the active instance or its host, a window
later their counts are read, and the pair is made whole again. TRIALS=n takes fewer than fifty.

A gap is what the fault adds: the longest time between two answers to new connections, less the median of the same in
as many windows without any fault. Clients and members stand for other machines: they run in real time, so that what is
measured is not their waiting for a processor.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.amphora import amphorae
from bench.clients import REALTIME
from bench.ground import Ground, Json, backends, ground, haproxy, process
from bench.rows import Row, percentile, row
from vrata.base.errors import VrataError
from vrata.host.model import Record
from vrata.host.store import HostStore
from vrata.net import daemon, ip
from vrata.net.command import inside
from vrata.sandbox import network

TRIALS = int(os.environ.get("TRIALS", "50"))
PEER_TRIALS = max(1, min(3, TRIALS // 10))
ADVERT_MS = 20
WINDOW_S = 1.5
PEER_WINDOW_S = 8.0
PEER_HUNG_S = 20.0  # its checks need up to fifteen seconds to see a stopped process
HTTP_PORT, DOWNLOAD_PORT = 80, 81
BACKEND_HTTP, BACKEND_DOWNLOAD = 9001, 9002
NOTHING = "nothing"
# Fault -> (goal of the median, goal of the 99th percentile, requests that may fail; None: those in flight), ms.
GOALS: dict[str, tuple[float | None, float | None, int | None]] = {
    NOTHING: (None, None, 0),
    "host_cut_off": (60, 100, None),
    "link_down": (60, 100, None),
    "haproxy_killed": (20, 60, None),
    "haproxy_stopped": (150, 300, None),
    "keepalived_killed": (0, 100, 0),
    "keepalived_stopped": (0, 100, 0),
    "agent_killed": (0, 20, 0),
    "control_plane_killed": (0, 20, 0),
    "failover_by_api": (0, 20, 0),
    "reload": (0, 20, 0),
    "drain": (0, 20, 0),
}


@dataclass
class Trials:
    """What the clients saw of one kind of fault."""

    gaps_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)

    def add(self, window: Json) -> None:
        self.gaps_ms.append(window["gap_ms"])
        if os.environ.get("VERBOSE"):
            print(json.dumps(window), flush=True)
        self.failed.update(window["failed"])
        self.sent.update(window["sent"])


class Watch:
    """The clients, as a process on the client's machine."""

    def __init__(self, made: asyncio.subprocess.Process) -> None:
        self._made = made

    async def window(self, order: bytes = b"") -> Json:
        """End the present window and return what happened in it; the order `end` ends the clients, too."""
        assert self._made.stdin
        assert self._made.stdout
        self._made.stdin.write(order + b"\n")
        found: Json = json.loads(await self._made.stdout.readline())
        return found


@contextlib.asynccontextmanager
async def clients(netns: str, address: str, *options: str) -> AsyncIterator[Watch]:
    """Clients of an address, at work. `options`: the port of the download and seconds between new connections."""
    # Five hundred connections a second from one address: ports must come back sooner than after a minute.
    await ip.set_sysctls({"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "1024 65000"}, netns=netns)
    argv = inside(
        netns, sys.executable, "-m", "bench.clients", address, str(HTTP_PORT), *(options or (str(DOWNLOAD_PORT),))
    )
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    try:
        yield Watch(made)
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


@dataclass
class Pair:
    """The balancer that is broken again and again."""

    ground: Ground
    balancer: Json

    def instances(self) -> dict[str, tuple[Record, Path]]:
        """Host -> record and directory of the pair's instance there."""
        found = {}
        for machine in self.ground.stage.sandbox.layout.of_role("host"):
            store = HostStore(self.ground.stage.sandbox.paths.state(machine.name))
            for known in store.known():
                applied, record = store.applied(known), store.record(known)
                if applied and record and applied.owner_id == self.balancer["id"]:
                    found[machine.name] = (record, store.directory(known))
        return found

    async def active(self) -> str:
        """The one host that holds the VIP."""
        return (await self.ground.stage.holder(self.balancer["vip_address"]))[0]

    def pids(self, host: str, name: str) -> list[int]:
        """Process ids of a daemon with its children."""
        return _pids(self.instances()[host][1], name)

    async def states(self) -> list[str]:
        """The VRRP states of the pair's instances, as the cloud knows them."""
        async with self.ground.stage.admin() as admin:
            every = (await admin.get("load-balancer", "/v2.0/vrata/pairs"))["pairs"]
        found = (one["instances"] for one in every if one["id"] == self.balancer["id"])
        return sorted(one["state"] for one in next(found, ()))

    async def whole(self) -> None:
        """Wait until the cloud is settled, one instance holds the address, and the other one stands by."""
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            try:
                settled = (await self.ground.get(self.balancer["id"]))["provisioning_status"] == "ACTIVE"
                holders = await self.ground.stage.holders(self.balancer["vip_address"])
                there = self.instances()
                up = all(_pids(one, name) for _, one in there.values() for name in ("haproxy", "keepalived"))
                state = f"{settled=} {up=} {len(there)=} {holders=}"
                if settled and up and len(there) == 2 and len(holders) == 1:
                    state = f"{state} {(states := await self.states())}"
                    if states == ["BACKUP", "MASTER"]:
                        break
            except (VrataError, OSError) as error:  # the control plane is being killed, too
                state = str(error)
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"the pair does not become whole again: {state}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.7)  # and its standby has heard the active one


def _pids(directory: Path, name: str) -> list[int]:
    found = daemon.read_record(directory / f"{name}.pid")
    return [found.pid, *daemon.children(found.pid)] if found else []


Fault = Callable[[Pair, str], Awaitable[None]]


async def _nothing(_pair: Pair, _host: str) -> None:
    """What clients see of a pair that is left alone."""


async def cut_off(pair: Pair, host: str) -> None:
    sandbox = pair.ground.stage.sandbox
    await network.cut(sandbox.layout, sandbox.layout.machine(host))


async def _link(pair: Pair, host: str) -> None:
    record, netns = pair.instances()[host][0], pair.ground.netns(host)
    await ip.batch([f"link set {link} down" for link in record.links.values()], netns=netns)


async def heal(pair: Pair, host: str) -> None:
    sandbox = pair.ground.stage.sandbox
    await network.cut(sandbox.layout, sandbox.layout.machine(host), up=True)
    record = pair.instances()[host][0]
    netns = pair.ground.netns(host)
    await ip.batch([f"link set {link} up" for link in record.links.values()], netns=netns)


def _signal(name: str, number: signal.Signals) -> Fault:
    async def fault(pair: Pair, host: str) -> None:
        for pid in pair.pids(host, name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    return fault


def _part(name: str) -> Fault:
    """Kill a part of the sandbox (empty: the agent of the host) and start it again, as its supervisor would."""

    async def fault(pair: Pair, host: str) -> None:
        sandbox = pair.ground.stage.sandbox
        part = next(one for one in sandbox.all_parts() if one.name == (name or host))
        record = sandbox.parts.record(part.name)
        assert record
        daemon.send(record.process, signal.SIGKILL)
        await daemon.wait_gone(record.process, 5)
        await asyncio.sleep(0.2)  # its last thread lets go of the socket that the next one listens on
        await sandbox.parts.ensure(part)

    return fault


async def _reload(pair: Pair, _: str) -> None:
    """A change that HAProxy can not take at run time."""
    listener = pair.balancer["listeners"][0]["id"]
    found = await pair.ground.cloud.get("load-balancer", f"/v2.0/lbaas/listeners/{listener}")
    body = {"listener": {"timeout_client_data": found["listener"]["timeout_client_data"] + 1}}
    await pair.ground.cloud.request("PUT", "load-balancer", f"/v2.0/lbaas/listeners/{listener}", body=body)


async def _failover(pair: Pair, _: str) -> None:
    """Another instance in the place of both, over the API; waits until both are new."""
    path = f"/v2.0/lbaas/loadbalancers/{pair.balancer['id']}"
    async with pair.ground.stage.admin() as admin:
        await admin.request("PUT", "load-balancer", f"{path}/failover")
        while (await admin.get("load-balancer", path))["loadbalancer"]["provisioning_status"] != "ACTIVE":
            await asyncio.sleep(0.1)


async def _drain(pair: Pair, host: str) -> None:
    """Everything leaves the active one's host; afterwards it may be used again."""
    path = f"/v2.0/vrata/hosts/{host}"
    async with pair.ground.stage.admin() as admin:
        found = (await admin.request("PUT", "load-balancer", path, body={"host": {"drained": True}}))["host"]
        while found["moving"]:
            await asyncio.sleep(0.1)
            found = (await admin.get("load-balancer", path))["host"]
        await admin.request("PUT", "load-balancer", path, body={"host": {"drained": False}})


FAULTS: dict[str, Fault] = {
    NOTHING: _nothing,
    "host_cut_off": cut_off,
    "link_down": _link,
    "haproxy_killed": _signal("haproxy", signal.SIGKILL),
    "haproxy_stopped": _signal("haproxy", signal.SIGSTOP),
    "keepalived_killed": _signal("keepalived", signal.SIGKILL),
    "keepalived_stopped": _signal("keepalived", signal.SIGSTOP),
    "agent_killed": _part(""),
    "control_plane_killed": _part("cloud"),
    "reload": _reload,
    "failover_by_api": _failover,
    "drain": _drain,
}


def desired(backend: str) -> Json:
    """An HTTP listener for short requests and one for the download."""

    def listener(name: str, port: int, behind: int) -> Json:
        members = [{"address": backend, "protocol_port": behind}]
        pool = {"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
        return {"name": name, "protocol": "HTTP", "protocol_port": port, "default_pool": pool}

    wanted = (("short", HTTP_PORT, BACKEND_HTTP), ("long", DOWNLOAD_PORT, BACKEND_DOWNLOAD))
    return {"name": "failover", "listeners": [listener(*one) for one in wanted]}


async def measure() -> list[Row]:
    """Every fault, then the peer's."""
    names = [NOTHING, *(os.environ.get("FAULTS", "").split() or [name for name in FAULTS if name != NOTHING])]
    ours: dict[str, Trials] = {}
    theirs: dict[str, Trials] = {}
    async with ground("b-fail", ADVERT_MS, hosts=3) as it:
        netns = it.netns("worker-0")
        trickle = process(netns, sys.executable, "-m", "bench.trickle", str(BACKEND_DOWNLOAD))
        async with haproxy(netns, backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))) as short, trickle as long:
            for pid in (short, long):
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(REALTIME))
            pair = Pair(it, await it.create(desired(it.backend)))
            vip = pair.balancer["vip_address"]
            await it.first_answer("master-0", f"http://{vip}:{HTTP_PORT}/")
            async with clients(it.netns("master-0"), vip) as watch:
                for name in names:
                    ours[name] = await _trials(pair, watch, name)
            if "peer" in os.environ.get("SKIP", ""):
                return _rows(ours, theirs)
            async with amphorae(it, BACKEND_HTTP, BACKEND_DOWNLOAD) as peer:
                await it.first_answer("master-0", f"http://{peer.vip}:{HTTP_PORT}/")
                async with clients(it.netns("master-0"), peer.vip) as watch:
                    for name in (one for one in names if one in peer.faults):
                        trials = theirs[name] = Trials()
                        for _ in range(PEER_TRIALS):
                            await peer.whole()
                            await watch.window()
                            await asyncio.sleep(0.5)
                            await peer.fault(name)
                            await asyncio.sleep(PEER_HUNG_S if name.endswith("stopped") else PEER_WINDOW_S)
                            trials.add(await watch.window())
                        print(f"{name:<22} as Octavia sets keepalived: {_told(trials)}", flush=True)
    return _rows(ours, theirs)


async def _trials(pair: Pair, watch: Watch, name: str) -> Trials:
    trials = Trials()
    for _ in range(TRIALS):
        await pair.whole()
        host = await pair.active()
        await watch.window()
        await asyncio.sleep(0.3)
        await FAULTS[name](pair, host)
        await asyncio.sleep(WINDOW_S)
        trials.add(await watch.window())
        if name in ("host_cut_off", "link_down"):
            await heal(pair, host)
            await asyncio.sleep(2.5)  # both were active: clients learn from the next announcement which one stayed
    print(f"{name:<22} {_told(trials)}", flush=True)
    return trials


def _told(trials: Trials) -> str:
    p50, p99, most = (percentile(trials.gaps_ms, share) for share in (0.5, 0.99, 1.0))
    sent, failed = sum(trials.sent.values()), sum(trials.failed.values())
    return f"gap p50 {p50:.0f}, p99 {p99:.0f}, max {most:.0f} ms; {failed} of {sent} failed {dict(trials.failed) or ''}"


def _rows(ours: dict[str, Trials], theirs: dict[str, Trials]) -> list[Row]:
    rows = []
    usual_ms = percentile(ours[NOTHING].gaps_ms, 0.5)

    def gap(trials: Trials, share: float) -> float:
        return max(0.0, percentile(trials.gaps_ms, share) - (usual_ms if trials is not ours[NOTHING] else 0.0))

    for name, trials in ours.items():
        median, tail, may_fail = GOALS[name]
        peer = "keepalived as Octavia sets it" if name in theirs else None
        for share, goal, label in ((0.5, median, "p50"), (0.99, tail, "p99"), (1.0, None, "max")):
            other = gap(theirs[name], share) if name in theirs else None
            rows.append(row(f"{name}_gap_{label}", gap(trials, share), "ms", goal, peer=peer, peer_value=other))
        other = float(sum(theirs[name].failed.values())) / PEER_TRIALS if name in theirs else None
        failed = sum(trials.failed.values()) / len(trials.gaps_ms)
        rows.append(row(f"{name}_failed_a_trial", failed, "requests", may_fail, peer=peer, peer_value=other))
    return rows
