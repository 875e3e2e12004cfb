"""`make bench-cloud`: how fast the balancing service answers, and how fast what it is told becomes true.

Octavia's creation time is others' measurement (43 to 97 s, published); nothing of it runs here.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
from pathlib import Path

from tests.support.cloud import Cloud as ServedCloud

from bench import outage
from bench.ground import SERVICE, Ground, Json, backends, ground, haproxy
from bench.rows import Row, percentile, row
from vrata.haproxy.runtime import RuntimeClient
from vrata.sandbox.demo.stage import LBAAS

CREATE_TRIALS = 20
MEMBER_TRIALS = 30
GET_TRIALS = 500
LIST_TRIALS = 50
LISTED = 1000
PORTS = range(9001, 9005)
LOAD_BALANCERS = "/load-balancer/v2.0/lbaas/loadbalancers"
OCTAVIA_CREATE_MS = 43_000.0


def populated(name: str, backend: str) -> Json:
    """A load balancer with 4 listeners, 4 pools, 12 members and 4 monitors."""
    pools: list[Json] = [
        {
            "name": f"pool-{port}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "healthmonitor": {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1},
            "members": [
                {"address": backend, "protocol_port": other, "name": f"m{other}"} for other in PORTS if other != port
            ],
        }
        for port in PORTS
    ]  # fmt: skip
    listeners = [
        {"name": f"l{number}", "protocol": "HTTP", "protocol_port": 8001 + number, "default_pool": pool}
        for number, pool in enumerate(pools)
    ]
    return {"name": name, "listeners": listeners}


async def measure() -> list[Row]:
    """All figures of the service."""
    async with ground("b-cloud") as it, haproxy(it.netns("worker-0"), backends(PORTS)):
        rows = [await _creation(it)]
        rows += await _members(it)
        rows += await _reading(it)
    rows.append(await asyncio.to_thread(_listing))
    return [*rows, *await outage.measure()]


async def _creation(it: Ground) -> Row:
    times = []
    for number in range(CREATE_TRIALS):
        begun = time.monotonic()
        made = await it.create(populated(f"trial-{number}", it.backend))
        urls = [f"http://{made['vip_address']}:{8001 + port}/" for port in range(4)]
        await asyncio.gather(it.active(made["id"]), it.first_answer("master-0", *urls))
        times.append((time.monotonic() - begun) * 1000)
        await it.delete(made["id"])
    print(f"creation: fastest {min(times):.0f} ms, slowest {max(times):.0f} ms of {CREATE_TRIALS}")
    return row(
        "create_full_to_active_and_answering", statistics.median(times), "ms", 400.0,
        peer="Octavia, published, not in this run", peer_value=OCTAVIA_CREATE_MS,
    )  # fmt: skip


async def _members(it: Ground) -> list[Row]:
    """Time from the request to the member's appearance in, and disappearance from, the active HAProxy."""
    members = [{"address": f"10.10.9.{number}", "protocol_port": 80} for number in range(1, 101)]
    pool = {"name": "wide", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    listener = {"name": "wide", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    made = await it.create({"name": "wide", "listeners": [listener]})
    await it.active(made["id"])
    found = await it.cloud.find(SERVICE, f"{LBAAS}/pools", "pools", name="wide")
    path = f"{LBAAS}/pools/{found[0]['id']}/members"
    client, worker = await _active_haproxy(it, made["vip_address"])
    added, removed = [], []
    for number in range(MEMBER_TRIALS):
        address = f"10.10.8.{number + 1}"
        begun = time.monotonic()
        body = {"member": {"address": address, "protocol_port": 80}}
        member = (await it.cloud.request("POST", SERVICE, path, body=body))["member"]
        await _until_listed(client, address, wanted=True)
        added.append((time.monotonic() - begun) * 1000)
        await it.active(made["id"])
        begun = time.monotonic()
        await it.cloud.request("DELETE", SERVICE, f"{path}/{member['id']}")
        await _until_listed(client, address, wanted=False)
        removed.append((time.monotonic() - begun) * 1000)
        await it.active(made["id"])
    reloads = 0.0 if worker == await _worker(client) else 1.0
    await it.delete(made["id"])
    return [
        row("member_added_effective", statistics.median(added), "ms", 50.0),
        row("member_removed_effective", statistics.median(removed), "ms", 50.0),
        row("reloads_for_member_changes", reloads, "reloads", 0.0),
    ]


async def _active_haproxy(it: Ground, vip: str) -> tuple[RuntimeClient, str]:
    host, netns = await it.stage.holder(vip)
    for directory in (it.stage.sandbox.paths.state(host) / "instances").iterdir():
        if netns in (directory / "record.json").read_text():
            client = RuntimeClient(directory / "stats.sock")
            return client, await _worker(client)
    raise RuntimeError(f"{vip}: no instance directory names {netns}")


async def _worker(client: RuntimeClient) -> str:
    lines = (await client.ask("show info")).splitlines()
    return next(line for line in lines if line.startswith("Pid:"))


async def _until_listed(client: RuntimeClient, address: str, *, wanted: bool) -> None:
    """Effective means: in the running process, or out of its rotation."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [line.split() for line in (await client.ask("show servers state")).splitlines()]
        serving = any(words[4] == address and int(words[6]) & 1 == 0 for words in lines if len(words) > 6)
        if serving == wanted:
            return
        await asyncio.sleep(0.001)
    raise RuntimeError(f"member {address} is not {'there' if wanted else 'gone'}")


async def _reading(it: Ground) -> list[Row]:
    made = await it.create(populated("tree", it.backend))
    await it.active(made["id"])
    single = await _times(it, f"{LBAAS}/loadbalancers/{made['id']}/status", GET_TRIALS)
    return [row("get_tree_p99", percentile(single, 0.99), "ms", 10.0)]


def _listing() -> Row:
    """A list of a thousand load balancers, of a cloud without hosts: only reading is measured."""
    with tempfile.TemporaryDirectory() as folder:
        cloud = ServedCloud(Path(folder), None, "--noop")
        cloud.start()
        try:
            headers = {"X-Auth-Token": cloud.token()}
            for number in range(LISTED):
                body = {"loadbalancer": {"name": f"n{number}", "vip_subnet_id": str(uuid.uuid4())}}
                status, said, _ = cloud.request("POST", LOAD_BALANCERS, body, headers)
                if status != 201:
                    raise RuntimeError(said)
            times = []
            for _ in range(LIST_TRIALS):
                begun = time.monotonic()
                status, found, _ = cloud.request("GET", LOAD_BALANCERS, None, headers)
                times.append((time.monotonic() - begun) * 1000)
            if len(found["loadbalancers"]) != LISTED:
                raise RuntimeError(f"{len(found['loadbalancers'])} listed")
        finally:
            cloud.stop()
    return row("list_1000_p99", percentile(times, 0.99), "ms", 150.0)


async def _times(it: Ground, path: str, trials: int) -> list[float]:
    times = []
    for _ in range(trials):
        begun = time.monotonic()
        await it.cloud.get(SERVICE, path)
        times.append((time.monotonic() - begun) * 1000)
    return times
