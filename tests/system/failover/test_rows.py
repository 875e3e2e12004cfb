"""Each row of the table of faults, on the whole stack, with clients at work: what may fail, and that the pair is whole again.

The faults and the clients are those of `make bench-failover`, which measures what is only shown to hold here.
"""

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
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
    cut_off,
    desired,
    heal,
)
from bench.ground import backends, ground, haproxy, process
from bench.rebuild import complete

from vrata.sandbox import network

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADVERT_MS = 50
ANEW_S = "0.02"  # between new connections
IN_FLIGHT = 20  # requests of these clients that one fault can meet
HEALED = ("host_cut_off", "link_down")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene() -> AsyncIterator[tuple[Pair, Watch]]:
    """A pair on three hosts, and clients that connect anew, keep connections, and download."""
    async with ground("rows", ADVERT_MS, hosts=3) as it:
        netns = it.netns("worker-0")
        trickle = process(netns, sys.executable, "-m", "bench.trickle", str(BACKEND_DOWNLOAD))
        async with haproxy(netns, backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))), trickle:
            pair = Pair(it, await it.create(desired(it.backend)))
            vip = pair.balancer["vip_address"]
            await it.first_answer("master-0", f"http://{vip}:{HTTP_PORT}/")
            async with clients(it.netns("master-0"), vip, str(DOWNLOAD_PORT), ANEW_S) as watch:
                yield pair, watch


@pytest.mark.parametrize("name", [name for name in FAULTS if name != NOTHING])
async def test_a_fault_costs_at_most_what_is_in_flight(scene: tuple[Pair, Watch], name: str) -> None:
    pair, watch = scene
    await pair.whole()
    host = await pair.active()
    await watch.window()
    await FAULTS[name](pair, host)
    if name in HEALED:
        await taken_over(pair, host)
        await heal(pair, host)
    await pair.whole()
    window = await watch.window()
    assert window["answered"]["anew"] > 10
    if GOALS[name][2] == 0:
        assert window["failed"] == {}
    else:
        assert sum(window["failed"].values()) <= IN_FLIGHT, window["failed"]
        assert "anew: TimeoutError" not in window["failed"]


async def taken_over(pair: Pair, host: str) -> None:
    """Wait until another host holds the address, too; the one that is cut off does not know."""

    async def look() -> bool:
        return any(one != host for one, _ in await pair.ground.stage.holders(pair.balancer["vip_address"]))

    await pair.ground.stage.wait("another host holds the address", look)


async def test_the_instances_of_a_lost_host_are_built_anew_elsewhere(scene: tuple[Pair, Watch]) -> None:
    pair, _ = scene
    await pair.whole()
    host = await pair.active()
    await cut_off(pair, host)
    await complete(pair, without=host)
    there = set(pair.instances()) - {host}
    assert len(there) == 2
    sandbox = pair.ground.stage.sandbox
    await network.cut(sandbox.layout, sandbox.layout.machine(host), up=True)
    await pair.whole()
    assert set(pair.instances()) == there, "what the lost host had is gone when it is back"
