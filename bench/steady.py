"""`make bench-steady`: how often a healthy pair fails over while every core is saturated. MINUTES=n, thirty by default."""

import asyncio
import os
import sys

from bench.failover import ADVERT_MS, BACKEND_HTTP, desired
from bench.ground import Ground, backends, ground, haproxy
from bench.rows import Row, row

MINUTES = float(os.environ.get("MINUTES", "30"))
BUSY = 2 * (os.cpu_count() or 1)
SETTLE_S = 10.0


def told(it: Ground) -> list[str]:
    """State changes, and what led to them, that the agents of all hosts have logged."""
    sandbox = it.stage.sandbox
    logs = (sandbox.paths.log(machine.name).read_text() for machine in sandbox.layout.of_role("host"))
    return [line for log in logs for line in log.splitlines() if "event=vrrp" in line or "level=warning" in line]


async def measure() -> list[Row]:
    """Two busy processes a core beside a pair (and the pair of the gateway) with the shortest advert in use."""
    backend = backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))
    async with ground("b-steady", ADVERT_MS) as it, haproxy(it.netns("worker-0"), backend):
        made = await it.create(desired(it.backend))
        await it.active(made["id"])
        await it.first_answer("master-0", f"http://{made['vip_address']}:80/")
        await asyncio.sleep(SETTLE_S)
        before = told(it)
        busy = [await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass") for _ in range(BUSY)]
        try:
            await asyncio.sleep(MINUTES * 60)
            news = [line for line in told(it) if line not in before]
        finally:
            for one in busy:
                one.kill()
                await one.wait()
    print(*sorted(news), sep="\n")
    changes = sum("event=vrrp" in line for line in news)
    return [row(f"false_failovers_in_{MINUTES:g}_minutes", changes, "changes", 0)]
