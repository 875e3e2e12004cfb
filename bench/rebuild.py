"""`make bench-rebuild`: a host is lost with the active instance on it; how long until the pair is whole on two others.

Whole: two instances on living hosts, one MASTER and one BACKUP, as the cloud lists them. TRIALS=n, ten by default.
"""

import asyncio
import os
import time

from bench.failover import ADVERT_MS, BACKEND_HTTP, Pair, cut_off, desired
from bench.ground import backends, ground, haproxy
from bench.rows import Row, percentile, row
from vrata.sandbox import network

TRIALS = int(os.environ.get("TRIALS", "10"))
TIMEOUT_S = 60.0
PEER, PEER_S = "Octavia, published elsewhere: 68–72 s", 68.0


async def measure() -> list[Row]:
    """Cut the active one's host off, wait for a whole pair, bring the host back, again."""
    backend = backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))
    times = []
    async with ground("b-rebuild", ADVERT_MS, hosts=3) as it, haproxy(it.netns("worker-0"), backend):
        pair = Pair(it, await it.create(desired(it.backend)))
        await it.first_answer("master-0", f"http://{pair.balancer['vip_address']}:80/")
        for _ in range(TRIALS):
            await pair.whole()
            host = await pair.active()
            began = time.monotonic()
            await cut_off(pair, host)
            await complete(pair, without=host)
            times.append(time.monotonic() - began)
            print(f"whole again after {times[-1]:.2f} s", flush=True)
            sandbox = it.stage.sandbox
            await network.cut(sandbox.layout, sandbox.layout.machine(host), up=True)
            await asyncio.sleep(3.0)  # it returns, and removes what it no longer shall have
    return [
        row(f"pair_whole_after_host_loss_{name}", percentile(times, share), "s", 3.0, peer=PEER, peer_value=PEER_S)
        for name, share in (("p50", 0.5), ("max", 1.0))
    ]


async def complete(pair: Pair, *, without: str) -> None:
    """Wait until both instances are on other hosts, one active and one standing by; RuntimeError after a minute."""
    deadline = time.monotonic() + TIMEOUT_S
    async with pair.ground.stage.admin() as admin:
        while time.monotonic() < deadline:
            every = (await admin.get("load-balancer", "/v2.0/vrata/pairs"))["pairs"]
            found = next(one for one in every if one["id"] == pair.balancer["id"])["instances"]
            if sorted(one["state"] for one in found if one["host"] != without) == ["BACKUP", "MASTER"]:
                return
            await asyncio.sleep(0.02)
    raise RuntimeError(f"the pair is not whole after {TIMEOUT_S:g} s: {found}")
