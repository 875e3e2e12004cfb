"""`make bench-ingress`: the Ingress controller beside a hand-written HAProxy and Traefik, with the same objects and pods.

Everything is on one machine: an API server, the controllers, a fast backend that listens on all of 127.0.0.0/8, so that
each pod has an address of its own. Rounds alternate between the proxies; a figure is the median of its rounds.
"""

import asyncio
import base64
import contextlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.support.kubernetes import OwnServer

from bench.ground import backends, cpu_s, pss_mib
from bench.rows import Row, percentile, ratio_row, row
from vrata.haproxy.process import HaproxyProcess
from vrata.kube import config, resources
from vrata.kube.client import Kube
from vrata.net.command import run

Json = dict[str, Any]
HOSTS = (1, 1_000, 10_000)
SHARES = {1: 0.95, 1_000: 0.93, 10_000: 0.90}  # of a hand-written HAProxy
TIMES_TRAEFIK = {1: 3.0, 1_000: 4.0, 10_000: 8.0}
MANY, PODS = 10_000, 10  # Ingresses and Services, and endpoints of each Service
ROUNDS, ROUND_S, CONNECTIONS = 5, 4, 64
TRIALS = 100
CHANGES, CHANGES_S = 50, 20.0
POD_PORT, PEER_PORT = 9001, 9100
AT_ONCE = 32
LIMIT_S = 300.0
CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "vrata"},
    "spec": {"controller": "vrata.dev/ingress-controller"},
}
# What somebody would write by hand for one Service, with the headers that every proxy adds.
BY_HAND = """\
global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend http
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Real-IP %[src]
  default_backend pods
backend pods
  server one 127.0.0.1:{pod}
"""
# One host of many, another one each time.
SCRIPT = """\
local hosts = {hosts}
function init() math.randomseed(os.time()) end
function request()
  return wrk.format("GET", "/", {{Host = "host-" .. math.random(0, hosts - 1) .. ".example"}})
end
"""


def address(number: int, pod: int = 0) -> str:
    """An address of the loopback for each pod."""
    return f"127.{1 + pod}.{number >> 8}.{number & 255}"


def service(number: int) -> Json:
    """A Service whose slices are written here."""
    spec = {"ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{number}"}, "spec": spec}


def slice_of(number: int, pods: int) -> Json:
    """All endpoints of a Service."""
    labels = {"kubernetes.io/service-name": f"s-{number}"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"s-{number}", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address(number, pod)], "conditions": {"ready": True}} for pod in range(pods)],
        "ports": [{"name": "http", "port": POD_PORT, "protocol": "TCP"}],
    }


def ingress(name: str, host: str, target: str) -> Json:
    """A host and a Service."""
    backend = {"service": {"name": target, "port": {"number": 80}}}
    rule = {"host": host, "http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        # By annotation: Traefik takes ingressClassName for its own classes only.
        "metadata": {"name": name, "annotations": {"kubernetes.io/ingress.class": "vrata"}},
        "spec": {"rules": [rule]},
    }


def free_port() -> int:
    """A port nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Ground:
    """A cluster, and the controller in it."""

    folder: Path
    kubeconfig: Path
    kube: Kube
    port: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def haproxy(self) -> HaproxyProcess:
        return HaproxyProcess(self.folder / "haproxy")

    def start(self) -> None:
        """Start the controller."""
        argv = [sys.executable, "-m", "vrata", "ingress", "--kubeconfig", str(self.kubeconfig), "--no-proxy-protocol"]
        argv += ["--publish-service", "default/front", "--directory", str(self.folder / "haproxy"), "--drain", "1"]
        argv += ["--http-port", str(self.port), "--health-port", str(self.health)]
        with (self.folder / "ingress.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    async def stop(self) -> None:
        """Kill it, with its HAProxy."""
        if self.process:
            self.process.kill()
            self.process.wait()
            await self.haproxy.stop()

    async def fill(self, numbers: range, pods: int) -> None:
        """Services, slices and Ingresses with these numbers."""
        queue = iter(numbers)

        async def work() -> None:
            for number in queue:
                await self.kube.create(resources.SERVICES, service(number), "default")
                await self.kube.create(resources.ENDPOINT_SLICES, slice_of(number, pods), "default")
                made = ingress(f"i-{number}", f"host-{number}.example", f"s-{number}")
                await self.kube.create(resources.INGRESSES, made, "default")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def ask(port: int, host: str) -> bool:
    """Whether a host answers 200 on a new connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(64).startswith(b"HTTP/1.1 200")
    return False


async def until_answers(port: int, host: str) -> None:
    """Ask every millisecond."""
    deadline = time.monotonic() + LIMIT_S
    while not ask(port, host):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{host} does not answer on port {port}")
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """An empty cluster on the loopback; nothing of it remains."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        server = OwnServer(Path(folder))
        server.start()
        try:
            async with Kube(config.load(server.kubeconfig)) as kube:
                made = Ground(Path(folder), server.kubeconfig, kube)
                await kube.create(resources.INGRESS_CLASSES, CLASS)
                try:
                    yield made
                finally:
                    await made.stop()
        finally:
            server.kill()


@contextlib.contextmanager
def traefik(it: Ground) -> Iterator[int]:
    """Traefik with the same Ingresses; its port."""
    found = yaml.safe_load(it.kubeconfig.read_text())
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    authority, token, port = it.folder / "ca.pem", it.folder / "token", free_port()
    authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    token.write_text(user["token"])
    argv = [str(Path(sys.executable).with_name("traefik")), f"--entrypoints.web.address=127.0.0.1:{port}"]
    argv += ["--providers.kubernetesingress=true", f"--providers.kubernetesingress.endpoint={cluster['server']}"]
    argv += [f"--providers.kubernetesingress.token={token}", "--providers.kubernetesingress.ingressclass=vrata"]
    argv += [
        f"--providers.kubernetesingress.certauthfilepath={authority}",
        "--log.level=ERROR",
        "--global.checknewversion=false",
    ]
    with (it.folder / "traefik.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=it.folder)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def requests(folder: Path, port: int, hosts: int) -> tuple[float, float]:
    """Requests a second and the 99th percentile of their latency, ms."""
    script = folder / "hosts.lua"
    script.write_text(SCRIPT.format(hosts=hosts))
    argv = ("wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{ROUND_S}s", "--latency", "-s", str(script))
    text = await run(*argv, f"http://127.0.0.1:{port}/", timeout_s=60)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    tail = re.search(r"99%\s+([0-9.]+)(us|ms|s)", text)
    assert rate
    assert tail
    return float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]]


async def _throughput(it: Ground, hosts: int) -> list[Row]:
    """All proxies in turns; the first round warms them up."""
    seen: dict[str, list[tuple[float, float]]] = {}
    with haproxy_here(BY_HAND.format(port=PEER_PORT, pod=POD_PORT)), traefik(it) as its_port:
        ports = {"ours": it.port, "haproxy": PEER_PORT, "traefik": its_port}
        for number in range(hosts - 1, -1, -max(1, hosts // 10)):
            for port in (it.port, its_port):
                await until_answers(port, f"host-{number}.example")
        for number in range(ROUNDS + 1):
            for name, port in ports.items():
                found = await requests(it.folder, port, hosts)
                if number:
                    seen.setdefault(name, []).append(found)
    rate = {name: statistics.median(one for one, _ in found) for name, found in seen.items()}
    tail = {name: statistics.median(one for _, one in found) for name, found in seen.items()}
    print({name: [round(one) for one, _ in found] for name, found in seen.items()}, flush=True)
    label = f"{hosts}_hosts"
    return [
        ratio_row(f"requests_{label}", rate["ours"], "1/s", SHARES[hosts], "HAProxy written by hand", rate["haproxy"]),
        ratio_row(f"requests_{label}_traefik", rate["ours"], "1/s", TIMES_TRAEFIK[hosts], "Traefik", rate["traefik"]),
        row(f"p99_{label}", tail["ours"], "ms", None, peer="HAProxy written by hand", peer_value=tail["haproxy"]),
        row(f"p99_{label}_traefik", tail["ours"], "ms", None, peer="Traefik", peer_value=tail["traefik"]),
    ]


@contextlib.contextmanager
def haproxy_here(text: str) -> Iterator[None]:
    """A hand-written HAProxy on this machine."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        file = Path(folder) / "haproxy.cfg"
        file.write_text(text)
        process = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield
        finally:
            process.kill()
            process.wait()


async def _appear(it: Ground, port: int) -> list[float]:
    """Times from the write of a new Ingress to its first answer, ms."""
    times = []
    for number in range(TRIALS):
        host = f"new-{number}.example"
        began = time.monotonic()
        await it.kube.create(resources.INGRESSES, ingress(f"new-{number}", host, "s-7"), "default")
        await until_answers(port, host)
        times.append((time.monotonic() - began) * 1000)
        await it.kube.delete(resources.INGRESSES, f"new-{number}", "default")
        await asyncio.sleep(0.05)
    return times


async def _vanish(it: Ground, port: int) -> list[float]:
    """Times from the write that an endpoint is gone to the last request it was sent, ms."""
    times = []
    for number in range(TRIALS):
        target = 100 + number
        whole, without = slice_of(target, PODS), slice_of(target, PODS)
        gone = without["endpoints"].pop(0)["addresses"][0]
        began = time.monotonic()
        patch = {"endpoints": without["endpoints"]}
        await it.kube.patch(resources.ENDPOINT_SLICES, f"s-{target}", patch, "default")
        last = began
        quiet = 0
        while quiet < 3 * PODS:
            quiet += 1
            if gone in pod_of(port, f"host-{target}.example"):
                last, quiet = time.monotonic(), 0
        times.append((last - began) * 1000)
        await it.kube.patch(resources.ENDPOINT_SLICES, f"s-{target}", {"endpoints": whole["endpoints"]}, "default")
    return times


def pod_of(port: int, host: str) -> str:
    """The address of the pod that answers, which the backend puts into the body."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(4096):
            answer += data
    return answer.partition(b"\r\n\r\n")[2].decode()


async def _many(it: Ground) -> list[Row]:
    """At 10,000 Ingresses, 10,000 Services and 100,000 endpoints."""
    began = time.monotonic()
    it.start()
    last = f"host-{MANY - 1}.example"
    await until_answers(it.port, last)
    start_s = time.monotonic() - began
    print(f"serves after {start_s:.1f} s", flush=True)
    assert it.process
    with traefik(it) as its_port:
        began = time.monotonic()
        await until_answers(its_port, last)
        its_start_s = time.monotonic() - began
        print(f"Traefik after {its_start_s:.1f} s", flush=True)
        ours, theirs = await _appear(it, it.port), await _appear(it, its_port)
        gone, its_gone = await _vanish(it, it.port), await _vanish(it, its_port)
    memory = pss_mib(it.process.pid)
    before, at = cpu_s(it.process.pid), time.monotonic()
    changes = 0
    while time.monotonic() < at + CHANGES_S:
        target = slice_of(1000 + changes % 1000, PODS)
        target["endpoints"][0]["conditions"]["ready"] = bool(changes // 1000 % 2)
        patch = {"endpoints": target["endpoints"]}
        await it.kube.patch(resources.ENDPOINT_SLICES, target["metadata"]["name"], patch, "default")
        changes += 1
        await asyncio.sleep(max(0.0, at + changes / CHANGES - time.monotonic()))
    cores = (cpu_s(it.process.pid) - before) / (time.monotonic() - at)
    peer = "Traefik"
    return [
        row("start", start_s, "s", 10.0, peer=peer, peer_value=its_start_s),
        row("new_ingress_p50", percentile(ours, 0.5), "ms", 30.0, peer=peer, peer_value=percentile(theirs, 0.5)),
        row("new_ingress_p99", percentile(ours, 0.99), "ms", 100.0, peer=peer, peer_value=percentile(theirs, 0.99)),
        row("endpoint_gone_p99", percentile(gone, 0.99), "ms", 50.0, peer=peer, peer_value=percentile(its_gone, 0.99)),
        row("memory", memory, "MiB", 400.0),
        row("processor_at_50_changes_a_second", cores, "cores", 0.3),
    ]


async def measure() -> list[Row]:
    """All figures."""
    rows: list[Row] = []
    pods = backends(range(POD_PORT, POD_PORT + 1)).replace('string "ok"', 'lf-string "%[dst]"')
    with haproxy_here(pods):
        async with ground() as it:
            it.start()
            done = 0
            for hosts in HOSTS:
                await it.fill(range(done, hosts), 1)
                done = hosts
                rows += await _throughput(it, hosts)
        async with ground() as it:
            await it.fill(range(MANY), PODS)
            print("filled", flush=True)
            rows += await _many(it)
    return rows
