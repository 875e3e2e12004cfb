"""`make soak MINUTES=30`: constant load, random faults, random changes over the API, rolling updates; then the books.

Two streams of clients run all the time: one against a load balancer made over the API, one against a Service. Events
come one after the other in a random order that SEED repeats; what fails belongs to the event under way. At the end every
request sent was answered or has a listed reason, no process has grown, and nothing is left. Printed, and kept in
build/soak.json; exits with 1 if one of these is not so.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.clients import TIMEOUT_S
from bench.failover import (
    BACKEND_DOWNLOAD,
    BACKEND_HTTP,
    DOWNLOAD_PORT,
    FAULTS,
    GOALS,
    HTTP_PORT,
    NOTHING,
    Pair,
    Watch,
    clients,
    desired,
    heal,
)
from bench.ground import Ground, Json, backends, haproxy, process
from vrata.base.errors import VrataError
from vrata.net import ip
from vrata.sandbox import network
from vrata.sandbox.demo.manifests import echo_deployment, service
from vrata.sandbox.demo.stage import LBAAS, Stage
from vrata.sandbox.demo.story import nothing_is_left
from vrata.sandbox.lifecycle import Sandbox, silent
from vrata.sandbox.model import Options, worker_address
from vrata.sandbox.overview import resident_mib

OUTPUT = Path("build/soak.json")
SERVICE = "load-balancer"
APP = "soak"
STREAMS = ("balancer", "service")
# The Service is plain TCP: nobody can ask its clients to connect anew, and who stays longer than the drain time on an
# instance that moves is disconnected, perhaps during the next event.
DISCONNECTED = {"kept: ConnectionResetError": "kept: disconnected after the drain time"}
MOVES, LEAVES_S = ("drain", "host_lost"), 45.0
INTERVAL_S = "0.02"  # between new connections, of each stream
SETTLE_S = 1.5  # after an event
VICTIMS_S = TIMEOUT_S + 1  # and after one that requests die of: the last client gives up
LOST_S = 14.0  # longer than the cloud waits for a silent host
EVENT_S = 60.0  # what takes longer has failed
SAMPLE_S = 5.0
GROWTH, GROWTH_MIB = 0.1, 4.0  # of the median of the last third over that of the first; more is a leak


@dataclass
class Tally:
    """What the clients sent while one kind of event was under way."""

    times: int = 0
    sent: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    longest_gap_ms: float = 0.0

    def add(self, stream: str, window: Json, *, moved: bool) -> None:
        """`moved`: not long ago instances left their hosts."""
        self.sent += sum(window["sent"].values())
        self.answered += sum(window["answered"].values())
        for kind, number in window["failed"].items():
            self.failed[f"{stream}, {DISCONNECTED.get(kind, kind) if moved and stream == 'service' else kind}"] += (
                number
            )
        self.longest_gap_ms = max(self.longest_gap_ms, window["gap_ms"])


@dataclass
class Soak:
    """One run: what it acts on and what it has seen."""

    pair: Pair
    watches: tuple[Watch, ...]
    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    memory: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    versions: int = 1
    moved_s: float = float("-inf")

    @property
    def ground(self) -> Ground:
        return self.pair.ground

    async def close(self, name: str, order: bytes = b"") -> None:
        """End a window of both streams in the name of an event."""
        windows = await asyncio.gather(*(watch.window(order) for watch in self.watches))
        for stream, window in zip(STREAMS, windows, strict=True):
            self.tallies[name].add(stream, window, moved=time.monotonic() < self.moved_s + LEAVES_S)

    async def sample(self) -> None:
        """Memory of every process, now and then: parts by name, daemons of instances as the mean of their kind."""
        sandbox = self.ground.stage.sandbox
        while True:
            now = time.monotonic()
            for part in sandbox.all_parts():
                record = sandbox.parts.record(part.name)
                if record and record.is_alive():
                    self.memory[part.name].append((now, resident_mib(record.pid)))
            daemons: defaultdict[str, list[float]] = defaultdict(list)
            for _, netns in sandbox.instance_namespaces():
                for pid in ip.processes_in(netns):
                    daemons[ip.executable_of(pid)].append(resident_mib(pid))
            for name in ("haproxy", "keepalived", "conntrackd"):
                if daemons[name]:
                    self.memory[f"instances: {name}"].append((now, statistics.mean(daemons[name])))
            await asyncio.sleep(SAMPLE_S)


Event = Callable[[Soak], Awaitable[None]]


def _fault(name: str) -> Event:
    async def event(soak: Soak) -> None:
        host = await soak.pair.active()
        await FAULTS[name](soak.pair, host)
        if name in ("host_cut_off", "link_down"):
            await asyncio.sleep(SETTLE_S)
            await heal(soak.pair, host)

    return event


async def _lose_host(soak: Soak) -> None:
    """A host is gone for so long that what it carried is built anew elsewhere, then returns with stale instances."""
    host = await soak.pair.active()
    sandbox = soak.ground.stage.sandbox
    await network.cut(sandbox.layout, sandbox.layout.machine(host))
    await asyncio.sleep(LOST_S)
    await network.cut(sandbox.layout, sandbox.layout.machine(host), up=True)


async def _change_members(soak: Soak) -> None:
    """A second member comes and goes."""
    listener = await soak.ground.cloud.get(SERVICE, f"{LBAAS}/listeners/{soak.pair.balancer['listeners'][0]['id']}")
    path = f"{LBAAS}/pools/{listener['listener']['default_pool_id']}/members"
    body = {"member": {"address": soak.ground.backend, "protocol_port": BACKEND_HTTP + 10}}
    made = await soak.ground.cloud.request("POST", SERVICE, path, body=body)
    await soak.ground.active(soak.pair.balancer["id"])
    await soak.ground.cloud.request("DELETE", SERVICE, f"{path}/{made['member']['id']}")
    await soak.ground.active(soak.pair.balancer["id"])


async def _change_listeners(soak: Soak) -> None:
    """A listener comes and goes."""
    body = {"listener": {"loadbalancer_id": soak.pair.balancer["id"], "protocol": "HTTP", "protocol_port": 8000}}
    made = await soak.ground.cloud.request("POST", SERVICE, f"{LBAAS}/listeners", body=body)
    await soak.ground.active(soak.pair.balancer["id"])
    await soak.ground.cloud.request("DELETE", SERVICE, f"{LBAAS}/listeners/{made['listener']['id']}")
    await soak.ground.active(soak.pair.balancer["id"])


async def _change_balancers(soak: Soak) -> None:
    """Another load balancer comes, answers, and goes."""
    made = await soak.ground.create({**desired(soak.ground.backend), "name": "passing"})
    await soak.ground.active(made["id"])
    await soak.ground.first_answer("master-0", f"http://{made['vip_address']}:{HTTP_PORT}/")
    await soak.ground.delete(made["id"])


async def _update_pods(soak: Soak) -> None:
    """A rolling update of what is behind the Service."""
    soak.versions += 1
    await soak.ground.stage.apply(echo_deployment(APP, version=str(soak.versions)))
    await soak.ground.stage.kubectl("rollout", "status", f"deployment/{APP}", "--timeout=60s")


EVENTS: dict[str, Event] = {
    **{name: _fault(name) for name in FAULTS if name != NOTHING},
    "host_lost": _lose_host,
    "members_changed": _change_members,
    "listeners_changed": _change_listeners,
    "balancers_changed": _change_balancers,
    "pods_updated": _update_pods,
}
# Requests that may fail: those in flight when something dies, and those on connections kept to a pod that ends.
IN_FLIGHT = {name for name, (_, _, may_fail) in GOALS.items() if may_fail is None} | {"host_lost"}


@contextlib.asynccontextmanager
async def site(name: str) -> AsyncIterator[Ground]:
    """Three hosts, two workers and all controllers."""
    sandbox = Sandbox(Options(name=name, hosts=3, workers=2))
    stage = Stage(sandbox, say=print)
    try:
        await sandbox.up(silent)
        async with stage.tenant() as cloud:
            subnets = await cloud.find("network", "/v2.0/subnets", "subnets", name="tenant")
            yield Ground(stage, cloud, subnets[0]["id"], worker_address(0))
    finally:
        if sandbox.paths.root.exists():
            await sandbox.down()


async def measure(minutes: float, seed: int) -> Json:
    """The whole run; what is reported."""
    async with site("soak") as it:
        netns = it.netns("worker-0")
        trickle = process(netns, sys.executable, "-m", "bench.trickle", str(BACKEND_DOWNLOAD))
        ports = (BACKEND_HTTP, BACKEND_HTTP + 10)
        async with contextlib.AsyncExitStack() as stack:
            for port in ports:
                await stack.enter_async_context(haproxy(netns, backends(range(port, port + 1))))
            await stack.enter_async_context(trickle)
            pair = Pair(it, await it.create(desired(it.backend)))
            vip = pair.balancer["vip_address"]
            await it.first_answer("master-0", f"http://{vip}:{HTTP_PORT}/")
            await it.stage.apply(echo_deployment(APP), service(APP, "LoadBalancer"))
            address = await it.stage.address_of(APP)
            await it.stage.until_answers("client", f"http://{address}/")
            streams = (("master-0", vip, str(DOWNLOAD_PORT)), ("client", address, "0"))
            watches = [
                await stack.enter_async_context(clients(it.netns(machine), target, port, INTERVAL_S))
                for machine, target, port in streams
            ]
            soak = Soak(pair, tuple(watches))
            await _run(soak, minutes, random.Random(seed))
        await it.delete(pair.balancer["id"])
        try:
            await nothing_is_left(it.stage)
        except VrataError as error:
            soak.errors.append(str(error))
    return {"minutes": minutes, "seed": seed, **_account(soak)}


async def _run(soak: Soak, minutes: float, chance: random.Random) -> None:
    """Events until the time is over: all of them once in each round, in another order each time."""
    sampler = asyncio.ensure_future(soak.sample())
    deadline = time.monotonic() + minutes * 60
    await asyncio.sleep(SETTLE_S)
    await soak.close("nothing")
    round_: list[str] = []
    while time.monotonic() < deadline:
        round_ = round_ or chance.sample(sorted(EVENTS), len(EVENTS))
        name = round_.pop()
        try:
            await soak.pair.whole()
            await soak.close("nothing")
            async with asyncio.timeout(EVENT_S):
                await EVENTS[name](soak)
            soak.moved_s = time.monotonic() if name in MOVES else soak.moved_s
            await asyncio.sleep(VICTIMS_S if name in IN_FLIGHT else SETTLE_S)
            await soak.pair.whole()
        except (VrataError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
            soak.errors.append(f"{name}: {error!r}")
            print(f"{name}: {error!r}", flush=True)
        soak.tallies[name].times += 1
        await soak.close(name)
        told = soak.tallies[name]
        print(f"{name}: {told.sent} sent, {told.failed.total()} failed {dict(told.failed) or ''}", flush=True)
    await soak.close("nothing", b"end")
    sampler.cancel()
    await asyncio.gather(sampler, return_exceptions=True)


def _account(soak: Soak) -> Json:
    """The books: requests by event, memory by process, and the verdicts."""
    sent = sum(one.sent for one in soak.tallies.values())
    answered = sum(one.answered for one in soak.tallies.values())
    failed = sum(one.failed.total() for one in soak.tallies.values())
    unexplained = {
        name: dict(kinds)
        for name, one in soak.tallies.items()
        if name not in IN_FLIGHT and (kinds := Counter({k: n for k, n in one.failed.items() if k not in _listed(name)}))
    }
    memory = {name: _growth(series) for name, series in sorted(soak.memory.items())}
    verdicts = {
        "books_balance": sent == answered + failed,
        "nothing_failed_by_our_own_hand": not unexplained,
        "memory_flat": all(one["flat"] for one in memory.values()),
        "nothing_left_and_no_error": not soak.errors,
    }
    return {
        "requests": {"sent": sent, "answered": answered, "failed": failed, "unexplained": unexplained},
        "events": {name: vars(one) | {"failed": dict(one.failed)} for name, one in sorted(soak.tallies.items())},
        "memory": memory,
        "errors": soak.errors,
        "verdicts": verdicts,
    }


def _listed(event: str) -> tuple[str, ...]:
    """Reasons for which requests may fail in an event in which nothing of ours dies: a pod that ends closes connections."""
    if event == "pods_updated":
        return ("service, kept: IncompleteReadError", "service, kept: ConnectionResetError")
    return ("balancer, download: ended by the client", f"service, {next(iter(DISCONNECTED.values()))}")


def _growth(series: list[tuple[float, float]]) -> Json:
    """Medians of the first and the last third of the time, MiB."""
    begin, end = series[0][0], series[-1][0]
    third = (end - begin) / 3
    first = statistics.median(mib for at, mib in series if at <= begin + third)
    last = statistics.median(mib for at, mib in series if at >= end - third)
    flat = last - first <= GROWTH_MIB + GROWTH * first
    return {"first_third_mib": round(first, 1), "last_third_mib": round(last, 1), "flat": flat}


def _print(report: Json) -> None:
    print(f"\n{'event':<22}{'times':>6}{'sent':>9}{'failed':>8}{'longest gap':>13}")
    for name, one in report["events"].items():
        failed = sum(one["failed"].values())
        print(f"{name:<22}{one['times']:>6}{one['sent']:>9}{failed:>8}{one['longest_gap_ms']:>10.0f} ms  ", end="")
        print(one["failed"] or "")
    print(f"\n{'process':<26}{'first third':>13}{'last third':>12}")
    for name, one in report["memory"].items():
        mark = "" if one["flat"] else "   ← grows"
        print(f"{name:<26}{one['first_third_mib']:>9} MiB{one['last_third_mib']:>8} MiB{mark}")
    requests = report["requests"]
    print(
        f"\n{requests['sent']} sent = {requests['answered']} answered + {requests['failed']} failed for listed reasons"
    )
    for name, true in report["verdicts"].items():
        print(f"{'✓' if true else '✗'} {name}")
    for error in report["errors"]:
        print(f"  {error}")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    print(f"soak: {options.minutes:g} minutes, seed {options.seed}", flush=True)
    report = asyncio.run(measure(options.minutes, options.seed))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")
    _print(report)
    return 0 if all(report["verdicts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
