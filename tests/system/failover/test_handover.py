"""Connections outlive a switch between two living hosts: whatever was begun is finished by whoever began it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from tests.support.fabric import Machine, wait_until
from tests.support.traffic import Seen, prober
from tests.system.host.lab import FLOATING, HOSTS, INSTANCES, PORT, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import VrrpState
from vrata.net.command import inside


async def want(it: Lab, generation: int, yields: str = "") -> None:
    """Desire the pair with a floating address; `yields`: the host that shall hand over."""
    for host in HOSTS:
        wanted = balancer(host, generation=generation, floating=True)
        await it.cloud.want(host, msgspec.structs.replace(wanted, yields=generation if host == yields else 0))
    await wait_until(lambda: all(it.generation(host) == generation for host in HOSTS), it.logs)


@contextlib.asynccontextmanager
async def download(machine: Machine, address: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """A request sent a byte every 20 ms over one connection: as long as this lasts it is under way.

    Yields what ends it: `answered`, or the name of the error that ended it.
    """
    script = (
        "import socket,sys,time\n"
        "sys.excepthook=lambda kind,*_: print(kind.__name__)\n"
        "made=socket.create_connection((sys.argv[1],80),5); made.settimeout(10); print('connected',flush=True)\n"
        "made.sendall(b'GET / HTTP/1.1\\r\\nHost: test\\r\\nX-Slow: ')\n"
        "end=time.monotonic()+20\n"
        "import select\n"
        "while time.monotonic()<end and not select.select([sys.stdin],[],[],0.02)[0]: made.sendall(b'x')\n"
        "made.sendall(b'\\r\\n\\r\\n'); print('answered' if made.recv(4096) else 'closed')\n"
    )
    argv = inside(machine.netns, "python3", "-S", "-c", script, address)
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)

    assert made.stdout
    await made.stdout.readline()

    async def finish() -> str:
        out, _ = await made.communicate(b"end\n")
        return out.decode().strip()

    try:
        yield finish
    finally:
        if made.returncode is None:
            made.kill()
            await made.wait()


async def goes_on(it: Lab, *probes: Seen) -> None:
    """Every client got an answer that it asked for after now."""
    now = monotonic_s() + 0.3
    await wait_until(lambda: all(seen.good and seen.good[-1] > now for seen in probes), it.logs)


@pytest.mark.parametrize("address", [VIP, FLOATING])
async def test_a_handover_breaks_no_connection_and_loses_no_request(short_path: Path, address: str) -> None:
    async with lab("yield", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, address)
        first = it.active()
        with (
            prober(it.client, address, PORT, timeout_s=5.0) as anew,
            prober(it.client, address, PORT, keep=True) as kept,
        ):
            await goes_on(it, anew, kept)
            async with download(it.client, address) as finish:
                await goes_on(it, anew, kept)
                await want(it, 2, yields=first)
                await wait_until(lambda: it.one_active() and it.active() != first, it.logs)
                await goes_on(it, anew, kept)
                assert await finish() == "answered"
            await want(it, 3, yields=HOSTS[1 - HOSTS.index(first)])  # and back, with connections on both
            await wait_until(lambda: it.one_active() and it.active() == first, it.logs)
            await goes_on(it, anew, kept)
            assert (anew.failed, kept.failed) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_keepalived_killed_or_stopped_breaks_no_connection(short_path: Path, number: signal.Signals) -> None:
    async with lab("kah", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        first = it.active()
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            await goes_on(it, anew, kept)
            parent = it.pid(first, "keepalived")
            child = int((it.instance_dir(first) / "keepalived-vrrp.own.pid").read_text())
            os.kill(parent, number)
            os.kill(child, number)
            await wait_until(lambda: it.pid(first, "keepalived") not in (0, parent), it.logs)
            await wait_until(it.one_active, it.logs)
            await goes_on(it, anew, kept)
            assert (anew.failed, kept.failed) == ([], [])
        assert it.active() != first


async def test_clients_of_a_standby_are_sent_to_the_active_one(short_path: Path) -> None:
    """They are there since it was active; without this they would be cut off with the instance."""

    def connections(host: str) -> int:
        report = it.cloud.seen(host, INSTANCES[host])
        return sum(one.active_connections for one in report.listeners.values()) if report else -1

    async with lab("stay", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        first = it.active()
        with prober(it.client, VIP, PORT, keep=True) as kept:
            await goes_on(it, kept)
            os.kill(it.pid(first, "keepalived"), signal.SIGKILL)
            await wait_until(lambda: it.one_active() and it.active() != first, it.logs)
            await goes_on(it, kept)
            await wait_until(lambda: connections(first) > 0, it.logs)
            await want(it, 2, yields=first)
            await wait_until(lambda: connections(first) == 0, it.logs)
            await goes_on(it, kept)
            assert kept.failed == []
        assert it.active() != first


async def test_a_stopped_haproxy_hands_over_and_is_started_again(short_path: Path) -> None:
    async with lab("stop", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        first = it.active()
        master = it.pid(first, "haproxy")
        [worker] = [int(one) for one in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
        with prober(it.client, VIP, PORT) as anew:
            await goes_on(it, anew)
            os.kill(worker, signal.SIGSTOP)
            await wait_until(lambda: it.state(HOSTS[1 - HOSTS.index(first)]) is VrrpState.MASTER, it.logs)
            await goes_on(it, anew)
            await wait_until(lambda: it.pid(first, "haproxy") not in (0, master), it.logs)
            await wait_until(it.one_active, it.logs)
        assert it.active() != first


async def test_a_connection_of_a_dead_host_is_reset_and_not_kept_waiting(short_path: Path) -> None:
    async with lab("dead", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        first = it.active()
        with prober(it.client, VIP, PORT, keep=True) as kept:
            await goes_on(it, kept)
            await it.fabric.cut(it.hosts[first])
            await goes_on(it, kept)
        reasons = [reason for _, reason in kept.failed]
        assert reasons
        assert all("reset" in reason for reason in reasons), reasons


async def active_host(it: Lab) -> str:
    """The host that serves, once the pair is up."""
    await want(it, 1)
    await wait_until(it.one_active, it.logs)
    await it.answers(it.client, VIP)
    return it.active()


async def test_an_agent_that_is_away_for_seconds_breaks_no_connection_of_the_peer(short_path: Path) -> None:
    async with lab("away", short_path) as it:
        first = await active_host(it)
        async with download(it.client, VIP) as finish:
            with prober(it.client, VIP, PORT, keep=True) as kept:
                await goes_on(it, kept)
                os.kill(it.pid(first, "keepalived"), signal.SIGKILL)
                await wait_until(lambda: it.one_active() and it.active() != first, it.logs)
                await goes_on(it, kept)
                second = it.active()
                await it.kill_agent(second)
                await asyncio.sleep(4)
                await goes_on(it, kept)
                await it.start_agent(second)
                await goes_on(it, kept)
                assert kept.failed == []
            assert await finish() == "answered"


async def test_a_host_that_dies_after_a_switch_keeps_nobody_waiting(short_path: Path) -> None:
    async with lab("late", short_path) as it:
        first = await active_host(it)
        async with download(it.client, VIP) as finish:
            with prober(it.client, VIP, PORT) as anew:
                await goes_on(it, anew)
                await want(it, 2, yields=first)
                await wait_until(lambda: it.one_active() and it.active() != first, it.logs)
                await goes_on(it, anew)
                await it.fabric.cut(it.hosts[first])
                await asyncio.sleep(5)
            assert await finish() == "ConnectionResetError"
        assert "changed by somebody else" not in it.logs_since_restart(HOSTS[1 - HOSTS.index(first)])
