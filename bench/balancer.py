"""`make bench-balancer`: what a pair costs, beside a hand-written HAProxy (and plain nftables) with the same task.

Both proxies run in the active instance's own namespace, so the packets take one and the same way, and are kept on one
core; client and backend have the other one. Rounds alternate between the two; a figure is the median of its rounds.
"""

import asyncio
import re
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.ground import Ground, Json, backends, cpu_s, ground, haproxy, loads, pin, process, pss_mib
from bench.rows import Row, ratio_row, row
from vrata.net import daemon, ip
from vrata.net.command import run

ROUNDS = 5
ROUND_S = 4
PROXY_CORE, OTHER_CORE = 0, 1
HTTP_PORT, TCP_PORT, UDP_PORT = 80, 5201, 5202
PEER_HTTP, PEER_TCP, PEER_UDP = 8080, 6201, 6202
BACKEND_HTTP = 9001
MANY, BATCH, MANY_ADVERT_MS = 200, 10, 1000
WIDE, WIDE_CLIENT, WIDE_BACKEND = "10.50.0.0/16", "10.50.255.1", "10.50.255.2"  # three addresses a balancer
IDLE_S = 20.0
MINIMAL = """\
global
  nbthread 1
  maxconn 4000
defaults
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend http
  mode http
  bind {vip}:{peer_http}
  default_backend http
backend http
  mode http
  server one {backend}:{backend_http} check inter 1s
frontend tcp
  mode tcp
  bind {vip}:{peer_tcp}
  default_backend tcp
backend tcp
  mode tcp
  server one {backend}:{tcp}
"""
DNAT = """\
table ip peer {{
  chain prerouting {{
    type nat hook prerouting priority -101;
    ip daddr {vip} udp dport {peer_udp} dnat to {backend}:{udp}
  }}
  chain postrouting {{
    type nat hook postrouting priority 101;
    ip daddr {backend} udp dport {udp} masquerade
  }}
}}
"""


def desired(backend: str) -> Json:
    """An HTTP, a TCP and a UDP listener before one machine."""

    def pool(name: str, protocol: str, port: int, **more: object) -> Json:
        members = [{"address": backend, "protocol_port": port}]
        return {"name": name, "protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members, **more}

    monitor = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    wanted = (
        ("http", "HTTP", HTTP_PORT, pool("http", "HTTP", BACKEND_HTTP, healthmonitor=monitor)),
        ("tcp", "TCP", TCP_PORT, pool("tcp", "TCP", TCP_PORT)),
        ("udp", "UDP", UDP_PORT, pool("udp", "UDP", UDP_PORT)),
    )
    return {
        "name": "measured",
        "listeners": [
            {"name": name, "protocol": protocol, "protocol_port": port, "default_pool": behind}
            for name, protocol, port, behind in wanted
        ],
    }


async def measure() -> list[Row]:
    """All figures of the data path."""
    rows: list[Row] = []
    async with ground("b-bal") as it:
        netns = it.netns("worker-0")
        async with (
            haproxy(netns, backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))) as fast,
            process(netns, "iperf3", "-s", "-p", str(TCP_PORT)) as sink,
            process(netns, "iperf3", "-s", "-p", str(UDP_PORT)) as datagrams,
        ):
            for pid in (fast, sink, datagrams):
                pin(pid, OTHER_CORE)
            made = await it.create(desired(it.backend))
            await it.active(made["id"])
            vip = made["vip_address"]
            await it.first_answer("master-0", f"http://{vip}:{HTTP_PORT}/")
            rows += await _throughput(it, vip)
            rows.append(_memory(it))
            await it.delete(made["id"])
    # A slower advert: four hundred keepalived with real-time priority share two cores here.
    async with ground("b-many", advert_interval_ms=MANY_ADVERT_MS) as it:
        rows += await _many(it)
    return rows


async def _throughput(it: Ground, vip: str) -> list[Row]:
    _, netns = await it.stage.holder(vip)
    for pid in _daemons(it, "haproxy"):
        for one in (pid, *_children(pid)):
            pin(one, PROXY_CORE)
    peer = MINIMAL.format(
        vip=vip, backend=it.backend, backend_http=BACKEND_HTTP, peer_http=PEER_HTTP, peer_tcp=PEER_TCP, tcp=TCP_PORT
    )
    dnat = DNAT.format(vip=vip, backend=it.backend, peer_udp=PEER_UDP, udp=UDP_PORT)
    async with haproxy(netns, peer) as other:
        pin(other, PROXY_CORE)
        await it.first_answer("master-0", f"http://{vip}:{PEER_HTTP}/")
        await run("nft", "-f", "-", netns=netns, stdin=dnat)
        http = await _rounds(lambda port: _requests(it, vip, port), HTTP_PORT, PEER_HTTP)
        tcp = await _rounds(lambda port: _bits(it, vip, port), TCP_PORT, PEER_TCP)
        udp = await _rounds(lambda port: _packets(it, vip, port), UDP_PORT, PEER_UDP)
    bare = "hand-written HAProxy, same core"
    return [
        ratio_row("http_requests", http[0], "1/s", 0.97, bare, http[1]),
        ratio_row("tcp_throughput", tcp[0], "Gbit/s", 0.97, bare, tcp[1]),
        ratio_row("udp_packets", udp[0], "1/s", 0.95, "plain nftables DNAT", udp[1]),
    ]


async def _rounds(measure_one: Callable[[int], Awaitable[float]], ours: int, peer: int) -> tuple[float, float]:
    """Medians of ours and of the peer, measured in turns; the first round warms both up."""
    seen: dict[int, list[float]] = {ours: [], peer: []}
    for number in range(ROUNDS + 1):
        for port in (ours, peer) if number % 2 else (peer, ours):
            value = await measure_one(port)
            if number:
                seen[port].append(value)
    print(f"ours {[round(one, 2) for one in seen[ours]]}, peer {[round(one, 2) for one in seen[peer]]}")
    return statistics.median(seen[ours]), statistics.median(seen[peer])


async def _requests(it: Ground, vip: str, port: int) -> float:
    argv = (
        "taskset",
        "-c",
        str(OTHER_CORE),
        "wrk",
        "-t",
        "1",
        "-c",
        "32",
        "-d",
        f"{ROUND_S}s",
        f"http://{vip}:{port}/",
    )
    text = await run(*argv, netns=it.netns("master-0"), timeout_s=60)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    assert found, text
    return float(found[1])


async def _iperf(it: Ground, vip: str, port: int, *options: str) -> Json:
    argv = ("taskset", "-c", str(OTHER_CORE), "iperf3", "-J", "-c", vip, "-p", str(port), "-t", str(ROUND_S), *options)
    return loads(await run(*argv, netns=it.netns("master-0"), timeout_s=60))


async def _bits(it: Ground, vip: str, port: int) -> float:
    end = (await _iperf(it, vip, port))["end"]
    return float(end["sum_received"]["bits_per_second"]) / 1e9


async def _packets(it: Ground, vip: str, port: int) -> float:
    """Datagrams of 64 bytes that arrive. iperf3 speaks TCP with its server first: the UDP port has no listener for it.

    So the sender is a few lines of Python with a connected socket, and the arrivals are what the backend's kernel counts.
    """
    script = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.connect((sys.argv[1],int(sys.argv[2])))\n"
        "end=time.monotonic()+float(sys.argv[3]); data=bytes(64); send=s.send\n"
        "while time.monotonic()<end:\n"
        "    for _ in range(256):\n"
        "        try: send(data)\n"
        "        except OSError: pass\n"
    )
    before = _received(it)
    argv = ("taskset", "-c", str(OTHER_CORE), "python3", "-S", "-c", script, vip, str(port), str(ROUND_S))
    await run(*argv, netns=it.netns("master-0"), timeout_s=60)
    return (_received(it) - before) / ROUND_S


def _received(it: Ground) -> int:
    """Datagrams that reached the backend's machine, delivered or not (the counters of its namespace)."""
    pid = it.stage.sandbox.parts.record("kubelet-worker-0")
    assert pid
    rows = [line.split() for line in Path(f"/proc/{pid.pid}/net/snmp").read_text().splitlines() if "Udp:" in line]
    names, values = rows[0], rows[1]
    seen = dict(zip(names[1:], map(int, values[1:]), strict=True))
    return seen["InDatagrams"] + seen["NoPorts"] + seen["InErrors"]


def _daemons(it: Ground, name: str) -> list[int]:
    """Process ids of all instances' daemons of this name."""
    found = []
    for host in ("host-a", "host-b"):
        for directory in (it.stage.sandbox.paths.state(host) / "instances").iterdir():
            record = daemon.read_record(directory / f"{name}.pid")
            if record:
                found.append(record.pid)
    return found


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _memory(it: Ground) -> Row:
    """Of one balancer instance: HAProxy's master and worker, keepalived's two processes. Gateways have no HAProxy."""
    directories = [
        path
        for host in ("host-a", "host-b")
        for path in (it.stage.sandbox.paths.state(host) / "instances").iterdir()
        if (path / "haproxy.pid").exists()
    ]
    each = []
    for path in directories:
        pids = [one.pid for name in ("haproxy", "keepalived") if (one := daemon.read_record(path / f"{name}.pid"))]
        each.append(sum(pss_mib(one) for pid in pids for one in (pid, *_children(pid))))
    print(f"memory of each instance: {[round(one, 1) for one in each]} MiB")
    return row("memory_of_one_instance", max(each), "MiB", 12.0, peer="amphora: a VM of 1 GiB", peer_value=1024.0)


async def _wide_network(it: Ground) -> None:
    """A network with room for all of them, on the same wire as the tenant's."""
    async with it.stage.admin() as admin:
        network = {"name": "wide", "shared": True, "provider:physical_network": "tenant",
                   "provider:network_type": "flat"}  # fmt: skip
        made = (await admin.request("POST", "network", "/v2.0/networks", body={"network": network}))["network"]
        pools = [{"start": "10.50.0.10", "end": "10.50.9.250"}]
        subnet = {
            "network_id": made["id"],
            "ip_version": 4,
            "cidr": WIDE,
            "gateway_ip": None,
            "allocation_pools": pools,
        }
        made = (await admin.request("POST", "network", "/v2.0/subnets", body={"subnet": subnet}))["subnet"]
    it.subnet_id = made["id"]
    for machine, address in (("master-0", WIDE_CLIENT), ("worker-0", WIDE_BACKEND)):
        await ip.batch([f"addr replace {address}/16 dev tenant"], netns=it.netns(machine))


async def _many(it: Ground) -> list[Row]:
    """Many balancers on one machine: all ACTIVE and answering; then what a pass costs when nothing changes."""
    members = [{"address": WIDE_BACKEND, "protocol_port": BACKEND_HTTP}]
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    await _wide_network(it)
    async with haproxy(it.netns("worker-0"), backends(range(BACKEND_HTTP, BACKEND_HTTP + 1))):
        listener = {"name": "l", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
        made: list[Json] = []
        for start in range(0, MANY, BATCH):
            fresh = [await it.create({"name": f"many-{start + n}", "listeners": [listener]}) for n in range(BATCH)]
            for one in fresh:
                await it.active(one["id"])  # not all at once: who measures must not drown the machine
            made += fresh
        await it.first_answer("master-0", *(f"http://{one['vip_address']}/" for one in made))
        active = sum(1 for one in await it.balancers() if one["provisioning_status"] == "ACTIVE")
        await asyncio.sleep(5)
        agents = {host: it.stage.sandbox.parts.record(host) for host in ("host-a", "host-b")}
        before = {host: cpu_s(one.pid) for host, one in agents.items() if one}
        await asyncio.sleep(IDLE_S)
        used = max((cpu_s(one.pid) - before[host]) / IDLE_S * 1000 for host, one in agents.items() if one)
    return [
        row("balancers_active_and_answering", active, "balancers", float(MANY), least=True),
        # An agent collects and reports once a second.
        row("agent_pass_unchanged_200_balancers", used, "ms CPU", 100.0),
    ]
