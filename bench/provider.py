"""`make bench-provider`: the cloud provider with many Services, on a Kubernetes API server and a cloud that only answers.

`bench.standin` is the cloud of the large figures: its own time is given, 50 ms a call. The first figure has `vrata cloud`.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from tests.support.cloud import Cloud as ServedCloud
from tests.support.cloud import FakeHost
from tests.support.provided import networks

from bench.rows import Row, row
from bench.standin import SUBNET_ID
from vrata.kube import config, resources
from vrata.kube.client import Kube
from vrata.kube.informer import Informer
from vrata.kube.objects import Namespace, Node, Service
from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID
from vrata.provider.bodies import balancer_body
from vrata.provider.call import BALANCING, LBAAS, NETWORK
from vrata.provider.cloud import Cloud
from vrata.provider.desired import desired
from vrata.provider.model import PENDING, Settings
from vrata.provider.service_writer import FINALIZER

Json = dict[str, Any]
SERVICES, NODES = 1000, 100
MANY, MANY_NODES = 10_000, 100
DELAY_MS = 50
TRIALS = 20
AT_ONCE = 32
LIMIT_S = 900.0
CLUSTER = "bench"


@dataclass
class Ground:
    """A cluster and a cloud; the provider comes and goes."""

    folder: Path
    kube: Kube
    clouds: Path
    cloud_name: str
    services: Informer[Service]
    url: str = ""  # of the stand-in
    process: subprocess.Popen[bytes] | None = None
    http_port: int = 0

    def start(self) -> None:
        """Start the provider."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.http_port = free.getsockname()[1]
        command = [sys.executable, "-m", "vrata", "provider", "--os-cloud", self.cloud_name, "--cluster-name", CLUSTER]
        command += ["--clouds-file", str(self.clouds), "--kubeconfig", str(self.folder / "kubeconfig")]
        command += ["--http-port", str(self.http_port)]
        with (self.folder / "provider.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """Kill it."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def peak_mib(self) -> float:
        """The provider's resident memory at its highest."""
        assert self.process
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) / 1024

    def processor_s(self) -> float:
        """Processor time of the provider so far."""
        assert self.process
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def ready(self) -> None:
        """It says that it is."""

        async def asked() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with aiohttp.request("GET", f"http://127.0.0.1:{self.http_port}/readyz") as answer:
                    return answer.status == 200
            return False

        await until(asked, "the provider is ready")

    async def stand_in(self, method: str = "GET", **params: str) -> Json:
        """What the stand-in has counted; POST changes its time and counts anew."""
        async with aiohttp.request(method, f"{self.url}/bench", params=params) as answer:
            found: Json = await answer.json()
            return found

    def addressed(self) -> int:
        """Services that show an address."""
        return sum(bool(one.status.load_balancer.ingress) for one in self.services.objects.values())


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + LIMIT_S
    while not await condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {LIMIT_S} s: {what}")
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def process(*command: str) -> Iterator[str]:
    """A server; the first line that it prints."""
    started = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert started.stdout
    try:
        yield started.stdout.readline().strip()
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait()


@contextlib.asynccontextmanager
async def cluster(folder: Path, clouds: Path, cloud_name: str) -> AsyncIterator[Ground]:
    """A Kubernetes API server with room for many node ports."""
    path = folder / "kubeconfig"
    command = [sys.executable, "-m", "vrata", "apiserver", "--data-dir", str(folder / "kubernetes"), "--kubeconfig"]
    command += [str(path), "--listen", "127.0.0.1:0", "--node-port-range", "20000-40000"]
    with (folder / "apiserver.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: ASYNC220 - it lasts
            command, stdout=log, stderr=log
        )
    try:

        async def served() -> bool:
            return b"apiserver.ready" in (folder / "apiserver.log").read_bytes()

        await until(served, "the API server serves")
        async with Kube(config.load(path)) as kube:
            services = Informer(kube, resources.SERVICES, Service, namespace="default")
            watching = asyncio.create_task(services.run())
            await services.synced.wait()
            it = Ground(folder, kube, clouds, cloud_name, services)
            try:
                yield it
            finally:
                it.stop()
                watching.cancel()
                await asyncio.wait({watching})
    finally:
        server.terminate()
        server.wait()


@contextlib.asynccontextmanager
async def large(services: int, nodes: int) -> AsyncIterator[Ground]:
    """Services and nodes that nobody looked at yet, and a cloud that answers at once."""
    with tempfile.TemporaryDirectory() as name, process("-m", "bench.standin") as port:
        folder, url = Path(name), f"http://127.0.0.1:{port}"
        clouds = folder / "clouds.yaml"
        auth = {"auth_url": f"{url}/v3", "username": "u", "password": "p", "project_name": "p",
                "user_domain_name": "Default", "project_domain_name": "Default"}  # fmt: skip
        clouds.write_text(yaml.safe_dump({"clouds": {"standin": {"auth": auth, "region_name": "R"}}}))
        async with cluster(folder, clouds, "standin") as it:
            it.url = url
            await at_once(nodes, lambda number: add_node(it.kube, number))
            await at_once(services, lambda number: add_service(it.kube, f"web-{number}"))
            yield it


async def at_once(count: int, make: Callable[[int], Awaitable[None]]) -> None:
    """So many, some at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await make(number)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def add_node(kube: Kube, number: int) -> None:
    name = f"node-{number}"
    status = {"addresses": [{"type": "InternalIP", "address": f"10.0.{number // 200}.{number % 200 + 1}"}],
              "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
    await kube.create(resources.NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    await kube.patch(resources.NODES, name, {"status": status}, subresource="status")


async def add_service(kube: Kube, name: str) -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    await kube.create(resources.SERVICES, body, "default")


async def measure() -> list[Row]:
    """The four figures of the provider."""
    return [await _one_at_a_time(), *await _thousand(), *await _restart()]


async def _one_at_a_time() -> Row:
    """From the creation of a Service to its address, less what `vrata cloud` takes from the create to ACTIVE."""
    with tempfile.TemporaryDirectory() as name:
        served = ServedCloud(Path(name))
        served.start()
        hosts = [FakeHost(served, one) for one in ("host-a", "host-b")]
        for host in hosts:
            host.start()
        try:
            await networks(served.config)
            async with Cloud("vrata", served.config) as cloud, cluster(Path(name), served.config, "vrata") as it:
                await it.kube.create(resources.NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
                status = {"addresses": [{"type": "InternalIP", "address": "10.10.0.20"}]}
                await it.kube.patch(resources.NODES, "n", {"status": status}, subresource="status")
                it.start()
                await it.ready()
                whole = [await _apply(it, f"web-{number}") for number in range(TRIALS)]
                alone = [await _create(cloud, f"alone-{number}") for number in range(TRIALS)]
        finally:
            for host in hosts:
                host.stop()
            served.stop()
    print(f"address after {statistics.median(whole):.0f} ms, the cloud alone {statistics.median(alone):.0f} ms")
    above = statistics.median(whole) - statistics.median(alone)
    return row("address_above_the_clouds_own_time", above, "ms", 100.0)


async def _apply(it: Ground, name: str) -> float:
    begun = time.monotonic()
    await add_service(it.kube, name)

    async def addressed() -> bool:
        found = it.services.objects.get(f"default/{name}")
        return bool(found and found.status.load_balancer.ingress)

    await until(addressed, "it has an address")
    return (time.monotonic() - begun) * 1000


async def _create(cloud: Cloud, name: str) -> float:
    """The same load balancer and floating IP, without Kubernetes."""
    [subnet] = await cloud.find(NETWORK, "/v2.0/subnets", "subnets", name="tenant")
    [external] = await cloud.find(NETWORK, "/v2.0/networks", "networks", **{"router:external": "true"})
    member = {"address": "10.10.0.20", "protocol_port": 30000}
    monitor = {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 1}
    pool = {
        "name": "p",
        "protocol": "TCP",
        "lb_algorithm": "ROUND_ROBIN",
        "members": [member],
        "healthmonitor": monitor,
    }
    listener = {"name": "l", "protocol": "TCP", "protocol_port": 80, "default_pool": pool}
    body = {"name": name, "vip_subnet_id": subnet["id"], "listeners": [listener]}
    begun = time.monotonic()
    made = (await cloud.request("POST", BALANCING, f"{LBAAS}/loadbalancers", body={"loadbalancer": body}))[
        "loadbalancer"
    ]
    floating = {"floating_network_id": external["id"], "port_id": made["vip_port_id"]}
    await cloud.request("POST", NETWORK, "/v2.0/floatingips", body={"floatingip": floating})

    async def active() -> bool:
        found = await cloud.get(BALANCING, f"{LBAAS}/loadbalancers/{made['id']}")
        return found["loadbalancer"]["provisioning_status"] not in PENDING

    await until(active, "it is active")
    return (time.monotonic() - begun) * 1000


async def _thousand() -> list[Row]:
    async with large(SERVICES, NODES) as it:
        await it.stand_in("POST", delay_ms=str(DELAY_MS))
        begun = time.monotonic()
        it.start()

        async def addressed() -> bool:
            return it.addressed() == SERVICES

        await until(addressed, "all have addresses")
        created_s, calls = time.monotonic() - begun, (await it.stand_in())["calls"]
        print(f"{SERVICES} Services: {created_s:.1f} s, {it.processor_s():.1f} s of processor time, calls {calls}")
        await asyncio.sleep(3.0)  # last annotations
        await it.stand_in("POST", delay_ms=str(DELAY_MS))
        before_s, begun = it.processor_s(), time.monotonic()
        await add_node(it.kube, NODES)

        async def effective() -> bool:
            return bool((await it.stand_in())["pools_by_members"].get(str(NODES + 1)) == SERVICES)

        await until(effective, "the node is in every pool")
        added_s, calls = time.monotonic() - begun, (await it.stand_in())["calls"]
        print(f"node added: {added_s:.1f} s, {it.processor_s() - before_s:.1f} s of processor time, calls {calls}")
        return [
            row(f"{SERVICES}_services_{NODES}_nodes", created_s, "s", 60.0),
            row(f"{SERVICES}_services_{NODES}_nodes_memory", it.peak_mib(), "MiB", 400.0),
            row(f"node_added_to_{SERVICES}_services", added_s, "s", 15.0),
            row(f"node_added_to_{SERVICES}_services_writes", calls["write"], "calls", float(SERVICES)),
        ]


async def _restart() -> list[Row]:
    async with large(0, MANY_NODES) as it, Cloud("standin", it.clouds) as cloud:
        nodes = (await it.kube.list(resources.NODES, Node)).objects
        system = await it.kube.get(resources.NAMESPACES, Namespace, "kube-system")
        settings = Settings(cluster=CLUSTER, cluster_uid=system.metadata.uid if system else "")
        await at_once(MANY, lambda number: _settled(it.kube, cloud, settings, nodes, f"web-{number}"))
        await it.stand_in("POST", delay_ms=str(DELAY_MS))
        begun = time.monotonic()
        it.start()
        await it.ready()
        ready_s = time.monotonic() - begun
        await add_service(it.kube, "new")
        begun_new = time.monotonic()

        async def served() -> bool:
            return it.addressed() == MANY + 1

        await until(served, "a new Service has an address")
        new_s, calls = time.monotonic() - begun_new, (await it.stand_in())["calls"]
        print(
            f"ready after {ready_s:.1f} s, a new Service {new_s:.1f} s later; {it.processor_s():.1f} s of processor time"
        )
        print(f"calls {calls}, of which 2 writes are the new Service's; {it.peak_mib():.0f} MiB so far")
        return [
            row(f"restart_{MANY}_services", ready_s + new_s, "s", 10.0),
            row(f"restart_{MANY}_services_writes", calls["write"] - 2, "calls", 0.0),
            row(f"restart_{MANY}_services_memory", it.peak_mib(), "MiB", 500.0),
        ]


async def _settled(kube: Kube, cloud: Cloud, settings: Settings, nodes: list[Node], name: str) -> None:
    """A Service and all that the provider would have made of it, sooner than it would."""
    metadata = {"name": name, "finalizers": [FINALIZER]}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    wanted = desired(settings, msgspec.convert(await kube.create(resources.SERVICES, body, "default"), Service), nodes)
    whole = {"loadbalancer": balancer_body(wanted, {4: SUBNET_ID})}
    made = (await cloud.request("POST", BALANCING, f"{LBAAS}/loadbalancers", body=whole))["loadbalancer"]
    held = {"port_id": made["vip_port_id"], "description": wanted.floating_description}
    address = (await cloud.request("POST", NETWORK, "/v2.0/floatingips", body={"floatingip": held}))["floatingip"][
        "floating_ip_address"
    ]
    annotations = {BALANCER_ID: made["id"], BALANCER_ADDRESS: address}
    await kube.patch(resources.SERVICES, name, {"metadata": {"annotations": annotations}}, "default")
    status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
    await kube.patch(resources.SERVICES, name, {"status": status}, "default", subresource="status")
