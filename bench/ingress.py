"""`make bench-ingress`: the Ingress controller beside hand-written HAProxy and nginx, and Traefik: same objects, same pods.

Everything is on one machine: an API server, the controllers, a fast backend that listens on all of 127.0.0.0/8, so that
each pod has an address of its own. Proxies take turns of less than a second (`bench.proxies`), so that what else the
machine does falls on all of them.
"""

import asyncio
import base64
import contextlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.kubernetes import OwnServer
from tests.support.pki import issue

from bench.ground import backends, cpu_s, pss_mib
from bench.proxies import (
    BY_HAND,
    NGINX,
    RETRIES,
    Load,
    Running,
    free_port,
    haproxy_here,
    measured,
    nginx_here,
    traefik,
)
from bench.rows import Row, percentile, row
from vrata.haproxy.process import HaproxyProcess
from vrata.kube import config, resources
from vrata.kube.client import Kube

Json = dict[str, Any]
HOSTS = (1, 1_000, 10_000)
SERVICES = 1  # behind these hosts, as the peer has one backend
OWN = 1_000  # hosts that have a Service each
SHARES = {1: 0.95, 1_000: 0.93, 10_000: 0.90}  # of a hand-written HAProxy
TIMES_TRAEFIK = {1: 3.0, 1_000: 4.0, 10_000: 8.0}
MANY, PODS = 10_000, 10  # Ingresses and Services, and endpoints of each Service
TRIALS, PEER_TRIALS = 100, 20  # Traefik takes seconds for each
CHANGES, CHANGES_S = 50, 20.0
CERTIFICATES = 50
POD_PORT, PEER_PORT = 9001, 9100
AT_ONCE = 32
LIMIT_S = 300.0
OURS, HAND, RETRYING, TRAEFIK = "ours", "HAProxy by hand", "HAProxy by hand, retrying", "Traefik"
CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "vrata"},
    "spec": {"controller": "vrata.dev/ingress-controller"},
}


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


@dataclass
class Ground:
    """A cluster, and the controller in it."""

    folder: Path
    kubeconfig: Path
    kube: Kube
    port: int = field(default_factory=free_port)
    https: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def haproxy(self) -> HaproxyProcess:
        return HaproxyProcess(self.folder / "haproxy")

    def start(self) -> None:
        """Start the controller."""
        argv = [sys.executable, "-m", "vrata", "ingress", "--kubeconfig", str(self.kubeconfig), "--no-proxy-protocol"]
        argv += ["--publish-service", "default/front", "--directory", str(self.folder / "haproxy"), "--drain", "1"]
        argv += ["--http-port", str(self.port), "--health-port", str(self.health), "--https-port", str(self.https)]
        with (self.folder / "ingress.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    async def stop(self) -> None:
        """Kill it, with its HAProxy."""
        if self.process:
            self.process.kill()
            self.process.wait()
            await self.haproxy.stop()

    async def fill(self, numbers: range, pods: int, services: int | None = None) -> None:
        """Ingresses with these numbers, and the Services that they lead to: so many, or one each."""
        queue = iter(numbers)

        async def work() -> None:
            for number in queue:
                target = number % services if services else number
                if target == number:
                    await self.kube.create(resources.SERVICES, service(number), "default")
                    await self.kube.create(resources.ENDPOINT_SLICES, slice_of(number, pods), "default")
                made = ingress(f"i-{number}", f"host-{number}.example", f"s-{target}")
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


async def _throughput(it: Ground, hosts: range) -> dict[str, Load]:
    """What each proxy does with requests for these hosts; asked for some of them before, so that none is cold."""
    alone, retrying = BY_HAND.format(port=PEER_PORT, pod=POD_PORT), BY_HAND.format(port=PEER_PORT + 1, pod=POD_PORT)
    nginx, theirs = NGINX.format(port=PEER_PORT + 2, pod=POD_PORT), traefik(it.kubeconfig, it.folder)
    with haproxy_here(alone), haproxy_here(retrying + RETRIES), nginx_here(nginx), theirs as peer:
        ports = {OURS: it.port, HAND: PEER_PORT, RETRYING: PEER_PORT + 1, "nginx": PEER_PORT + 2, TRAEFIK: peer.port}
        for number in hosts[:: -max(1, len(hosts) // 10)]:
            for port in (it.port, peer.port):
                await until_answers(port, f"host-{number}.example")
        seen = await measured(it.folder, ports, hosts)
    print(len(hosts), seen, flush=True)
    return seen


def _rates(label: str, seen: dict[str, Load], goals: dict[str, float]) -> list[Row]:
    """Requests a second and the latency of the slowest hundredth, beside each peer; goals are ratios."""
    rows = []
    ours = seen.pop(OURS)
    for peer, theirs in seen.items():
        ratio, goal = ours.rate / theirs.rate, goals.get(peer)
        name = f"{label}_{peer.replace(', ', '_').replace(' ', '_').lower()}"
        met = goal is None or ratio >= goal
        rows += [
            Row(f"requests_{name}", round(ours.rate), "1/s", goal, met, peer, round(theirs.rate), round(ratio, 4)),
            row(f"p99_{name}", ours.p99_ms, "ms", None, peer=peer, peer_value=theirs.p99_ms),
        ]
    return rows


async def _appear(it: Ground, port: int, trials: int) -> list[float]:
    """Times from the write of a new Ingress to its first answer, ms."""
    times = []
    for number in range(trials):
        host = f"new-{number}.example"
        began = time.monotonic()
        await it.kube.create(resources.INGRESSES, ingress(f"new-{number}", host, "s-7"), "default")
        await until_answers(port, host)
        times.append((time.monotonic() - began) * 1000)
        await it.kube.delete(resources.INGRESSES, f"new-{number}", "default")
        await asyncio.sleep(0.05)
    return times


async def _vanish(it: Ground, port: int, trials: int) -> list[float]:
    """Times from the write that an endpoint is gone to the last request it was sent, ms."""
    times = []
    for number in range(trials):
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


async def _certify(it: Ground) -> list[float]:
    """Times from the write of another certificate to the handshake that shows it, ms."""
    name, times = "host-7.example", []
    made = ingress("secure", name, "s-7")
    made["spec"]["tls"] = [{"hosts": [name], "secretName": "secure"}]
    for number in range(CERTIFICATES + 1):
        one = issue(f"{name} {number}", name)
        data = {"tls.crt": one.cert_pem, "tls.key": one.key_pem}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        wanted = ssl.PEM_cert_to_DER_cert(one.cert_pem)
        began = time.monotonic()
        if number:
            await it.kube.patch(resources.SECRETS, "secure", {"data": encoded}, "default")
        else:
            body = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "secure"}}
            await it.kube.create(resources.SECRETS, body | {"data": encoded}, "default")
            await it.kube.create(resources.INGRESSES, made, "default")
        while shown(it.https, name) != wanted:
            if time.monotonic() > began + LIMIT_S:
                raise RuntimeError(f"{name} is not served with its certificate")
            await asyncio.sleep(0.001)
        if number:
            times.append((time.monotonic() - began) * 1000)
    return times


def shown(port: int, name: str) -> bytes:
    """The certificate that a host is served with."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
        return tls.getpeercert(binary_form=True) or b""


async def _many(it: Ground) -> list[Row]:
    """At 10,000 Ingresses, 10,000 Services and 100,000 endpoints."""
    began = time.monotonic()
    it.start()
    last = f"host-{MANY - 1}.example"
    await until_answers(it.port, last)
    start_s = time.monotonic() - began
    print(f"serves after {start_s:.1f} s", flush=True)
    with traefik(it.kubeconfig, it.folder) as peer:
        began = time.monotonic()
        await until_answers(peer.port, last)
        its_start_s = time.monotonic() - began
        print(f"Traefik after {its_start_s:.1f} s", flush=True)
        ours, theirs = await _appear(it, it.port, TRIALS), await _appear(it, peer.port, PEER_TRIALS)
        print("new Ingress", statistics.median(ours), "Traefik", statistics.median(theirs), flush=True)
        gone, its_gone = await _vanish(it, it.port, TRIALS), await _vanish(it, peer.port, PEER_TRIALS)
        costs = await _cost(it, peer)
    certified = await _certify(it)
    return [
        row("start", start_s, "s", 10.0, peer=TRAEFIK, peer_value=its_start_s),
        row("new_ingress_p50", percentile(ours, 0.5), "ms", 30.0, peer=TRAEFIK, peer_value=percentile(theirs, 0.5)),
        row("new_ingress_p99", percentile(ours, 0.99), "ms", 100.0, peer=TRAEFIK, peer_value=percentile(theirs, 0.99)),
        row(
            "endpoint_gone_p99", percentile(gone, 0.99), "ms", 50.0, peer=TRAEFIK, peer_value=percentile(its_gone, 0.99)
        ),
        row("certificate_replaced_p99", percentile(certified, 0.99), "ms", 100.0),
        *costs,
    ]


async def _cost(it: Ground, peer: Running) -> list[Row]:
    """What the controller takes beside what it serves with; Traefik is one process for both."""
    serving = it.haproxy.running()
    assert it.process
    assert serving
    pids = (it.process.pid, peer.pid, serving.pid, *it.haproxy.workers())
    memory, its_memory, *haproxy = (pss_mib(pid) for pid in pids)
    before, at = [cpu_s(pid) for pid in pids], time.monotonic()
    changes = 0
    while time.monotonic() < at + CHANGES_S:
        target = slice_of(1000 + changes % 1000, PODS)
        target["endpoints"][0]["conditions"]["ready"] = bool(changes // 1000 % 2)
        patch = {"endpoints": target["endpoints"]}
        await it.kube.patch(resources.ENDPOINT_SLICES, target["metadata"]["name"], patch, "default")
        changes += 1
        await asyncio.sleep(max(0.0, at + changes / CHANGES - time.monotonic()))
    cores, its_cores, *workers = ((cpu_s(pid) - was) / CHANGES_S for pid, was in zip(pids, before, strict=True))
    return [
        row("memory", memory, "MiB", 400.0, peer=TRAEFIK, peer_value=its_memory),
        row("memory_with_haproxy", memory + sum(haproxy), "MiB", None, peer=TRAEFIK, peer_value=its_memory),
        row("processor_at_50_changes_a_second", cores, "cores", 0.3, peer=TRAEFIK, peer_value=its_cores),
        row("the_same_with_haproxy", cores + sum(workers), "cores", None, peer=TRAEFIK, peer_value=its_cores),
    ]


async def measure() -> list[Row]:
    """All figures."""
    rows: list[Row] = []
    pods = backends(range(POD_PORT, POD_PORT + 1))
    with haproxy_here(pods):
        async with ground() as it:
            it.start()
            done = 0
            for hosts in HOSTS:
                await it.fill(range(done, hosts), 1, SERVICES)
                done = hosts
                goals = {HAND: SHARES[hosts], TRAEFIK: TIMES_TRAEFIK[hosts]}
                rows += _rates(f"{hosts}_hosts", await _throughput(it, range(hosts)), goals)
            own = range(done, done + OWN)
            await it.fill(own, 1)
            rows += _rates(f"{OWN}_services", await _throughput(it, own), {})
    with haproxy_here(pods.replace('string "ok"', 'lf-string "%[dst]"')):  # who answers is who was asked
        async with ground() as it:
            await it.fill(range(MANY), PODS)
            print("filled", flush=True)
            rows += await _many(it)
    return rows
