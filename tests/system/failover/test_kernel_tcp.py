"""Plain TCP carried by nftables: choice, persistence, refusal, health, statistics, and connections that outlive a host."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from tests.support.fabric import Machine, listen_in, wait_until
from tests.support.traffic import get
from tests.system.host.lab import HOSTS, INSTANCES, MEMBERS, PORT, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import DesiredInstance, HealthMonitor, Listener, Member, Pool, VrrpState
from vrata.net.command import inside

FAST, MEMBER_PORT, WAIT_S = 5000, 5300, 30.0


def kernel(host: str, *, generation: int = 1, weights: dict[str, int] | None = None, **options: Any) -> DesiredInstance:
    """One half of the pair: the HTTP listener of the lab, and beside it a TCP one in nftables before monitored members."""
    monitor = HealthMonitor(id="m", type="TCP", delay=1, timeout=1, max_retries_down=1)
    members = tuple(
        Member(id=f"k{name}", address=MEMBERS[name], protocol_port=MEMBER_PORT, weight=weight)
        for name, weight in (weights or {"m1": 1, "m2": 1}).items()
    )
    of_pool = {key: value for key, value in options.items() if key in Pool.__struct_fields__}
    of_listener = {key: value for key, value in options.items() if key in Listener.__struct_fields__}
    pool = Pool(
        id="fast", protocol="TCP", lb_algorithm="ROUND_ROBIN", members=members, healthmonitor=monitor, **of_pool
    )
    listener = Listener(
        id="fast", protocol="TCP", protocol_port=FAST, default_pool_id="fast", kernel=True, **of_listener
    )
    usual = balancer(host, generation=generation)
    return msgspec.structs.replace(usual, listeners=(*usual.listeners, listener), pools=(*usual.pools, pool))


async def want(it: Lab, generation: int = 1, **options: Any) -> None:
    for host in HOSTS:
        await it.cloud.want(host, kernel(host, generation=generation, **options))
    await it.settle(generation)


@contextlib.asynccontextmanager
async def echo(machine: Machine, address: str, name: str) -> AsyncIterator[None]:
    """Say the name once, then send back whatever comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(f"{name} {writer.get_extra_info('peername')[0]}\n".encode())
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, sock=listen_in(machine.netns, address, MEMBER_PORT))
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def running(label: str, path: Path, **options: Any) -> AsyncIterator[tuple[Lab, contextlib.AsyncExitStack]]:
    async with lab(label, path) as it, contextlib.AsyncExitStack() as first, contextlib.AsyncExitStack() as second:
        await first.enter_async_context(echo(it.inside, MEMBERS["m1"], "m1"))
        await second.enter_async_context(echo(it.inside, MEMBERS["m2"], "m2"))
        await want(it, **options)
        yield it, first


async def hello(it: Lab, source: str = "") -> str:
    """What a member says on a new connection; empty if there is none."""
    script = (
        "import socket,sys\n"
        "try:\n"
        " made=socket.create_connection((sys.argv[1],int(sys.argv[2])),1,(sys.argv[3],0) if sys.argv[3] else None)\n"
        " print(made.recv(100).decode().strip())\n"
        "except OSError as error: print('!',error)\n"
    )
    argv = inside(it.client.netns, sys.executable, "-S", "-c", script, VIP, str(FAST), source)
    made = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    return (await made.communicate())[0].decode().strip()


async def answer(it: Lab, source: str = "") -> str:
    """The name of the member that takes a new connection; waits for one."""
    deadline = monotonic_s() + WAIT_S
    while monotonic_s() < deadline:
        said = await hello(it, source)
        if said and not said.startswith("!"):
            return said
    raise AssertionError(it.logs())


async def members_are(it: Lab, **statuses: str) -> None:
    def agreed() -> bool:
        seen = [it.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
        return all(report and statuses.items() <= report.members.items() for report in seen)

    await wait_until(agreed, lambda: f"members are {statuses}; {it.cloud.reports}", WAIT_S)


async def test_new_connections_go_round_by_weight_beside_haproxys_own(short_path: Path) -> None:
    async with running("ktcp", short_path, weights={"m1": 3, "m2": 1}) as (it, first):
        assert (await answer(it)).split()[1] == VIP  # a member sees the balancer, as behind HAProxy
        seen = Counter([(await answer(it)).split()[0] for _ in range(8)])
        assert seen == {"m1": 6, "m2": 2}
        assert await get(it.client, VIP, PORT, 5.0)
        await members_are(it, km1="ONLINE", km2="ONLINE")

        def counted() -> bool:
            report = it.cloud.seen(it.active(), INSTANCES[it.active()])
            stats = report.listeners.get("fast") if report else None
            return bool(stats and stats.total_connections >= 9 and stats.bytes_in and stats.bytes_out)

        await wait_until(counted, "the listener's counters are reported", WAIT_S)
        await first.aclose()
        await members_are(it, km1="ERROR", km2="ONLINE")
        assert {(await answer(it)).split()[0] for _ in range(4)} == {"m2"}


async def test_a_source_keeps_its_member_and_strangers_are_refused(short_path: Path) -> None:
    options = {"persistence_type": "SOURCE_IP"}
    async with running("kkeep", short_path, **options) as (it, _):
        assert len({(await answer(it)).split()[0] for _ in range(4)}) == 1
        await want(it, 2, **options, allowed_cidrs=("10.99.0.0/16",))
        assert (await hello(it)).startswith("!")


async def test_without_a_live_member_a_connection_is_refused_at_once(short_path: Path) -> None:
    async with running("knone", short_path, weights={"m1": 1}) as (it, first):
        await answer(it)
        await first.aclose()
        await members_are(it, km1="ERROR")
        assert "refused" in await hello(it)


def living(it: Lab, host: str) -> int:
    """Established connections of the kernel's listener, as the host has reported them."""
    report = it.cloud.seen(host, INSTANCES[host])
    return report.listeners["fast"].active_connections if report else 0


EXCHANGE = """\
import asyncio, sys, time
ADDRESS, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
broken, stall, ready = 0, 0.0, 0
async def one():
    global broken, stall, ready
    try:
        reader, writer = await asyncio.open_connection(ADDRESS, PORT)
        await reader.readline()
        ready += 1
        while not stop.is_set():
            began = time.monotonic()
            writer.write(b"x")
            if not await asyncio.wait_for(reader.readexactly(1), 20): raise OSError
            stall = max(stall, time.monotonic() - began)
            await asyncio.sleep(0.02)
    except (OSError, EOFError, TimeoutError): broken += 1
async def main():
    global stop, stall
    stop = asyncio.Event()
    tasks = [asyncio.create_task(one()) for _ in range(COUNT)]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while ready + broken < COUNT: await asyncio.sleep(0.01)
    stall = 0.0
    print("ready", ready, flush=True)
    await reader.readline()
    stop.set()
    await asyncio.wait(tasks)
    print(broken, round(stall * 1000), flush=True)
asyncio.run(main())
"""


async def test_established_connections_outlive_the_death_of_a_host(short_path: Path) -> None:
    async with running("klive", short_path) as (it, _):
        await answer(it)
        argv = inside(it.client.netns, sys.executable, "-S", "-c", EXCHANGE, VIP, str(FAST), "50")
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        assert made.stdout
        assert await made.stdout.readline() == b"ready 50\n"
        active = it.active()
        await wait_until(lambda: living(it, active) == 50, "the connections are counted", WAIT_S)
        assert not living(it, HOSTS[1 - HOSTS.index(active)])  # which knows them, but serves none
        await it.fabric.cut(it.hosts[active])
        await wait_until(lambda: it.state(HOSTS[1 - HOSTS.index(active)]) is VrrpState.MASTER, it.logs)
        await asyncio.sleep(1.0)
        out, _ = await made.communicate(b"end\n")
        broken, stall_ms = map(int, out.split())
        print(f"\n50 established connections, host cut off: {broken} broken, longest stall {stall_ms} ms")
        assert broken == 0
        assert await get(it.client, VIP, PORT, 5.0)
