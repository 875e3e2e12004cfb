"""`make bench-established`: a thousand established TCP connections when the host of the active one is cut off.

Carried by nftables with their state at the standby, beside the same connections through HAProxy; and how fast each is.
"""

import asyncio
import os
import re
import sys

from bench.failover import ADVERT_MS, Pair, cut_off, heal
from bench.ground import Ground, Json, backends, ground, haproxy, process
from bench.rows import Row, ratio_row, row
from vrata.net.command import inside, run

COUNT = int(os.environ.get("CONNECTIONS", "1000"))
ECHO_PORT, HTTP_PORT, PATHS = 9003, 9001, {"nftables": 5000, "haproxy": 5001}
FAST_HTTP = {"nftables": 5002, "haproxy": 5003}
PAUSE_S = 1.0
ROUND_S = 4
ECHO = """\
import asyncio, sys
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "0.0.0.0", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()
asyncio.run(main())
"""
EXCHANGE = """\
import asyncio, sys, time
ADDRESS, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
broken, stall, ready = 0, 0.0, 0
async def one(number):
    global broken, stall, ready
    try:
        reader, writer = await asyncio.open_connection(ADDRESS, PORT)
        writer.write(b"x"); await reader.readexactly(1)
        ready += 1
        await asyncio.sleep(number / COUNT)
        while not stop.is_set():
            began = time.monotonic()
            writer.write(b"x")
            await asyncio.wait_for(reader.readexactly(1), 5)
            stall = max(stall, time.monotonic() - began)
            await asyncio.sleep(0.5)
    except (OSError, EOFError, TimeoutError): broken += 1
async def main():
    global stop, stall
    stop = asyncio.Event()
    tasks = [asyncio.create_task(one(n)) for n in range(COUNT)]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while ready + broken < COUNT: await asyncio.sleep(0.01)
    print("ready", ready, flush=True)
    await reader.readline()
    stall = 0.0
    await reader.readline()
    stop.set()
    await asyncio.wait(tasks)
    print(broken, round(stall * 1000), flush=True)
asyncio.run(main())
"""


def desired(backend: str, path: str, flavor: str) -> Json:
    """Two TCP listeners, before the echo server and before one that answers HTTP."""

    def listener(name: str, port: int, behind: int) -> Json:
        members = [{"address": backend, "protocol_port": behind}]
        pool = {"name": name, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": members}
        return {"name": name, "protocol": "TCP", "protocol_port": port, "default_pool": pool}

    more = {"flavor_id": flavor} if path == "nftables" else {}
    listeners = [listener("echo", PATHS[path], ECHO_PORT), listener("http", FAST_HTTP[path], HTTP_PORT)]
    return {"name": path, "listeners": listeners, **more}


async def measure() -> list[Row]:
    """Both paths, one after the other."""
    broken: dict[str, int] = {}
    stall: dict[str, float] = {}
    speed: dict[str, float] = {}
    async with ground("b-est", ADVERT_MS) as it:
        netns, flavor = it.netns("worker-0"), await it.flavor("kernel", tcp_data_path="nftables")
        async with (
            haproxy(netns, backends(range(HTTP_PORT, HTTP_PORT + 1))),
            process(netns, sys.executable, "-S", "-c", ECHO, str(ECHO_PORT)),
        ):
            for path in ("haproxy", "nftables"):
                pair = Pair(it, await it.create(desired(it.backend, path, flavor)))
                await it.first_answer("master-0", f"http://{pair.balancer['vip_address']}:{FAST_HTTP[path]}/")
                speed[path] = await _requests(it, pair.balancer["vip_address"], FAST_HTTP[path])
                await pair.whole()
                broken[path], stall[path] = await _cut_off(pair, PATHS[path])
    return [
        row("established_broken", broken["nftables"], "connections", 0, peer="HAProxy", peer_value=broken["haproxy"]),
        row("established_longest_stall", stall["nftables"], "ms", 250),
        ratio_row("requests_by_tcp_path", speed["nftables"], "requests/s", 1.6, "HAProxy, TCP mode", speed["haproxy"]),
    ]


async def _cut_off(pair: Pair, port: int) -> tuple[int, float]:
    """Connections that broke, and the longest time one waited for its byte, ms."""
    argv = (sys.executable, "-S", "-c", EXCHANGE, pair.balancer["vip_address"], str(port), str(COUNT))
    pipe = asyncio.subprocess.PIPE
    netns = pair.ground.netns("master-0")
    made = await asyncio.create_subprocess_exec(*inside(netns, *argv), stdin=pipe, stdout=pipe)
    assert made.stdin
    assert made.stdout
    print((await made.stdout.readline()).decode().strip(), "connections", flush=True)
    await asyncio.sleep(3.0)  # every one has spoken, and the standby has been told
    host = await pair.active()
    made.stdin.write(b"\n")
    await asyncio.sleep(PAUSE_S)
    await cut_off(pair, host)
    await asyncio.sleep(4.0)
    out, _ = await made.communicate(b"\n")
    await heal(pair, host)
    await pair.whole()
    count, waited = out.split()
    print(f"{count.decode()} broken, longest stall {waited.decode()} ms", flush=True)
    return int(count), float(waited)


async def _requests(it: Ground, vip: str, port: int) -> float:
    argv = ("wrk", "-t", "1", "-c", "64", "-d", f"{ROUND_S}s", f"http://{vip}:{port}/")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", await run(*argv, netns=it.netns("master-0"), timeout_s=60))
    assert found
    return float(found[1])
