"""The life of a Service on whatever cloud is under test: ours, or the one that VRATA_TEST_CLOUD names in clouds.yaml.

Against OpenStack's own Octavia (`make interop-octavia`) the same tests say whether ours is like it.
"""

import os
import re
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openstack import exceptions
from tests.support.cloud import Cloud, FakeHost
from tests.support.kubernetes import Cluster, own_cluster, wait_for
from tests.support.ports import free_port
from tests.support.tenant import connect, make_networks

DEADLINE_S = 120.0
WRITES = re.compile(r'openstack_api_requests_total\{request="\w+_(?:create|update|delete)"\} (\S+)')
pytestmark = [
    pytest.mark.any_cloud,
    pytest.mark.filterwarnings("ignore::openstack.warnings.OpenStackDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@dataclass(frozen=True)
class Ground:
    """A cloud to work in: the clouds.yaml entry, a connection, and the subnet and external network to use."""

    entry: str
    clouds_file: Path
    connection: Any
    subnet: Any
    external: Any


def ground_of(entry: str, clouds_file: Path) -> Ground:
    """What a tenant finds there."""
    connection = connect(entry, clouds_file)
    networks = list(connection.network.networks())
    inside = {one.id for one in networks if not one.is_router_external}
    subnet = next(one for one in connection.network.subnets(ip_version=4) if one.network_id in inside)
    return Ground(entry, clouds_file, connection, subnet, next(one for one in networks if one.is_router_external))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    given = os.environ.get("VRATA_TEST_CLOUD")
    if given:
        found = ground_of(given, Path(os.environ["OS_CLIENT_CONFIG_FILE"]))
        yield found
        found.connection.close()
        return
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    cloud.start()
    admin = cloud.connect("admin")
    make_networks(admin)
    admin.close()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    found = ground_of("vrata", cloud.config)
    yield found
    found.connection.close()
    for host in hosts:
        host.stop()
    assert cloud.stop() == 0


class World:
    """A cluster with a provider at work in a cloud."""

    def __init__(self, directory: Path, ground: Ground, cluster: Cluster) -> None:
        self.ground, self.cluster = ground, cluster
        self.name = f"c{uuid.uuid4().hex[:8]}"
        self.log = directory / "provider.log"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the provider and wait until it has read the cluster."""
        self._port = free_port()
        argv = [sys.executable, "-m", "vrata", "provider", "--kubeconfig", str(self.cluster.kubeconfig)]
        argv += ["--os-cloud", self.ground.entry, "--clouds-file", str(self.ground.clouds_file)]
        argv += ["--cluster-name", self.name, "--subnet-id", self.ground.subnet.id, "--http-port", str(self._port)]
        argv += ["--floating-network-id", self.ground.external.id]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        wait_for(lambda: self.ask("/readyz") == "ok\n", "the provider is ready", DEADLINE_S)

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            assert self._process.wait(90) == 0, self.log.read_text()
            self._process = None

    def ask(self, path: str) -> str:
        """GET of the provider's own HTTP port; empty unless it says 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=60) as answer:
                return str(answer.read().decode())
        except OSError:
            assert self._process
            assert self._process.poll() is None, self.log.read_text()
            return ""

    @property
    def writes(self) -> int:
        """Changes that this provider process has asked the cloud for."""
        return sum(int(float(count)) for count in WRITES.findall(self.ask("/metrics")))

    def node(self, name: str, address: str) -> None:
        """A node that is ready."""
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"addresses": [{"type": "InternalIP", "address": address}], "conditions": conditions}
        text = yaml.safe_dump({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status})
        self.cluster.kubectl("apply", "-f", "-", stdin=text)
        self.cluster.set_status(text)

    def service(self, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Apply a Service of type LoadBalancer."""
        spec.setdefault("ports", [{"name": "http", "port": 80}])
        body = {"type": "LoadBalancer", **spec}
        metadata = {"name": name, "annotations": annotations or {}}
        text = yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body})
        self.cluster.kubectl("apply", "-f", "-", stdin=text)

    def address(self, name: str) -> str:
        """Wait for the Service's address."""

        def found() -> str:
            status = self.cluster.get("service", name).get("status", {}).get("loadBalancer", {})
            return status["ingress"][0]["ip"] if status.get("ingress") else ""

        return str(wait_for(found, f"{name} has an address", DEADLINE_S))

    def balancers(self) -> list[Any]:
        """Those of this cluster."""
        found = self.ground.connection.load_balancer.load_balancers()
        return [one for one in found if one.name.startswith(f"kube_service_{self.name}_")]

    def tree(self) -> dict[str, Any]:
        """The only balancer, as its settled attributes; {} while it changes."""
        (balancer,) = self.balancers()
        api = self.ground.connection.load_balancer
        if balancer.provisioning_status != "ACTIVE":
            return {}
        pools = {one.id: one for one in api.pools(loadbalancer_id=balancer.id)}
        monitors = {one.id: one for one in api.health_monitors()}
        out: dict[str, Any] = {}
        for listener in api.listeners(load_balancer_id=balancer.id):
            if listener.default_pool_id not in pools:
                return {}
            pool = pools[listener.default_pool_id]
            monitor = monitors.get(pool.health_monitor_id)
            out[f"{listener.protocol}:{listener.protocol_port}"] = {
                "cidrs": sorted(listener.allowed_cidrs or []),
                "timeout": listener.timeout_client_data,
                "pool": pool.protocol,
                "persistence": (pool.session_persistence or {}).get("type"),
                "members": sorted((one.name, one.address) for one in api.members(pool.id)),
                "monitor": monitor.type if monitor else None,
            }
        return out

    def becomes(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the balancer's tree is as wanted."""
        seen: list[dict[str, Any]] = [{}]

        def found() -> bool:
            try:
                seen.append(self.tree())
            except exceptions.NotFoundException:  # a pool is replaced between two looks
                return False
            return bool(seen[-1]) and wanted(seen[-1])

        try:
            wait_for(found, "the balancer is as wanted", DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[-1]}\n{self.log.read_text()[-2000:]}") from None
        return seen[-1]

    def floating_ips(self) -> list[Any]:
        """Those that the provider made for this cluster."""
        found = self.ground.connection.network.ips()
        return [one for one in found if one.description.endswith(f"from cluster {self.name}")]


@pytest.fixture
def world(tmp_path: Path, ground: Ground) -> Iterator[World]:
    (tmp_path / "kubernetes").mkdir()
    with own_cluster(tmp_path / "kubernetes") as (cluster, _server):
        made = World(tmp_path, ground, cluster)
        made.node("worker-0", "10.10.0.20")
        made.start()
        yield made
        made.cluster.kubectl("delete", "services", "--all", "--timeout=120s")
        made.stop()


MEMBER = ("worker-0", "10.10.0.20")


def test_a_service_lives_and_leaves_nothing(world: World) -> None:
    world.service("web", ports=[{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}])
    address = world.address("web")

    tree = world.becomes(lambda tree: len(tree) == 2)
    assert tree["TCP:80"]["members"] == tree["UDP:53"]["members"] == [MEMBER]
    assert (tree["TCP:80"]["monitor"], tree["UDP:53"]["monitor"]) == ("TCP", "UDP-CONNECT")
    (floating,) = world.floating_ips()
    (balancer,) = world.balancers()
    assert (floating.floating_ip_address, floating.port_id) == (address, balancer.vip_port_id)

    world.cluster.kubectl("delete", "service", "web", "--timeout=120s")

    assert world.balancers() == []
    assert world.floating_ips() == []
    assert [one for one in world.ground.connection.network.ports() if balancer.id in (one.name, one.device_id)] == []


def test_an_internal_service_has_the_vip_for_address(world: World) -> None:
    world.service("db", {"service.beta.kubernetes.io/openstack-internal-load-balancer": "true"})

    address = world.address("db")

    (balancer,) = world.balancers()
    assert balancer.vip_address == address
    assert world.floating_ips() == []


def test_every_change_arrives(world: World) -> None:
    world.service("web")
    address = world.address("web")
    world.becomes(lambda tree: "TCP:80" in tree)

    world.service("web", ports=[{"name": "http", "port": 80}, {"name": "https", "port": 443}])
    world.becomes(lambda tree: set(tree) == {"TCP:80", "TCP:443"})
    world.service("web", {"loadbalancer.openstack.org/timeout-client-data": "70000"})
    world.becomes(lambda tree: set(tree) == {"TCP:80"} and tree["TCP:80"]["timeout"] == 70000)
    world.service("web", loadBalancerSourceRanges=["192.0.2.0/24"])
    world.becomes(lambda tree: tree["TCP:80"]["cidrs"] == ["192.0.2.0/24"])
    world.service("web", sessionAffinity="ClientIP")
    world.becomes(lambda tree: tree["TCP:80"]["persistence"] == "SOURCE_IP")
    world.service("web", {"loadbalancer.openstack.org/enable-health-monitor": "false"})
    world.becomes(lambda tree: tree["TCP:80"]["monitor"] is None)
    world.service("web", {"loadbalancer.openstack.org/proxy-protocol": "true"})
    world.becomes(lambda tree: tree["TCP:80"]["pool"] == "PROXY")

    assert world.address("web") == address


def test_nodes_come_and_go(world: World) -> None:
    world.service("web")
    world.address("web")
    world.becomes(lambda tree: tree["TCP:80"]["members"] == [MEMBER])

    world.node("worker-1", "10.10.0.21")
    world.becomes(lambda tree: tree["TCP:80"]["members"] == [MEMBER, ("worker-1", "10.10.0.21")])
    world.cluster.kubectl("delete", "node", "worker-0")
    world.becomes(lambda tree: tree["TCP:80"]["members"] == [("worker-1", "10.10.0.21")])


def test_a_provider_that_starts_anew_changes_nothing(world: World) -> None:
    annotations = {
        "loadbalancer.openstack.org/timeout-client-data": "70000",
        "loadbalancer.openstack.org/connection-limit": "100",
        "loadbalancer.openstack.org/health-monitor-delay": "7",
        "loadbalancer.openstack.org/lb-method": "LEAST_CONNECTIONS",
    }
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    world.service("web", annotations, ports=ports, loadBalancerSourceRanges=["192.0.2.0/24", "198.51.100.0/24"])
    world.service("db", annotations, externalTrafficPolicy="Local")
    for name in ("web", "db"):
        world.address(name)
    wait_for(lambda: all(one.provisioning_status == "ACTIVE" for one in world.balancers()), "all is built", DEADLINE_S)
    world.stop()

    world.start()
    world.service("last")
    world.address("last")
    wait_for(lambda: "queue_length 0.0" in world.ask("/metrics"), "every Service was looked at", DEADLINE_S)

    made = [one for one in world.balancers() if one.name.endswith("_last")]
    assert len(made) == 1
    assert world.writes == 2, "a balancer and a floating IP, for the new one"
