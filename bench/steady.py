"""`make bench-steady`: how often a healthy pair fails over while every core is saturated. MINUTES=n, thirty by default.

Two pairs, one with the shortest advert in use and one with the default. On each core a process with a priority above all of
ours sleeps for a few milliseconds at a time and notes when it woke too late: what keeps even that one from a core is the
machine, or whoever it runs on.
"""

import asyncio
import json
import os
import sys

from bench.failover import ADVERT_MS, BACKEND_HTTP, desired
from bench.ground import Ground, Json, backends, ground, haproxy
from bench.rows import Row, row

MINUTES = float(os.environ.get("MINUTES", "30"))
BUSY = 2 * (os.cpu_count() or 1)
INTERVALS_MS = (ADVERT_MS, 50)
SETTLE_S = 10.0
STALL = """\
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
while True:
    asked = time.time() + 0.005
    time.sleep(0.005)
    late_ms = (time.time() - asked) * 1000
    if late_ms > 15:
        print(f"{asked:.3f} core {sys.argv[1]} woke {late_ms:.0f} ms late", flush=True)
"""


async def transitions(it: Ground) -> list[Json]:
    """Every change of an instance's state that the cloud knows of."""
    async with it.stage.admin() as admin:
        answer = await admin.get("load-balancer", "/v2.0/vrata/transitions", limit="1000")
    return [one for one in answer["transitions"] if one["after"] in ("MASTER", "BACKUP", "FAULT", "UNKNOWN")]


async def measure() -> list[Row]:
    """Two busy processes a core beside the pairs (and the pair of the gateway)."""
    backend = backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))
    async with ground("b-steady", ADVERT_MS) as it, haproxy(it.netns("worker-0"), backend):
        pairs = {}
        for interval_ms in INTERVALS_MS:
            flavor = await it.flavor(f"advert-{interval_ms}", advert_interval_ms=interval_ms)
            made = await it.create(desired(it.backend) | {"name": f"every-{interval_ms}", "flavor_id": flavor})
            await it.active(made["id"])
            await it.first_answer("master-0", f"http://{made['vip_address']}:80/")
            pairs[made["id"]] = interval_ms
        await asyncio.sleep(SETTLE_S)
        before = await transitions(it)
        pipe, cores = asyncio.subprocess.PIPE, range(os.cpu_count() or 1)
        stalls = [await asyncio.create_subprocess_exec(sys.executable, "-c", STALL, str(n), stdout=pipe) for n in cores]
        busy = [await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass") for _ in range(BUSY)]
        try:
            await asyncio.sleep(MINUTES * 60)
            news = [one for one in await transitions(it) if one not in before]
        finally:
            for one in (*busy, *stalls):
                one.kill()
            late = [line for one in stalls for line in (await one.communicate())[0].decode().splitlines()]
            await asyncio.gather(*(one.wait() for one in busy))
    print(*sorted(late), *(json.dumps(one) for one in news), sep="\n")
    worst = max((float(line.split()[-3]) for line in late), default=0.0)
    return [
        *(
            row(
                f"false_failovers_at_{interval_ms}_ms",
                sum(one["owner_id"] == pair and one["after"] == "MASTER" for one in news),
                f"in {MINUTES:g} min",
                0,
            )
            for pair, interval_ms in pairs.items()
        ),
        row("longest_stall_of_the_machine", worst, "ms", None),
    ]
