"""Clouds on both databases, with two hosts and the two networks every test needs."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openstack
import pytest
from tests.support.cloud import Cloud, FakeHost, postgresql
from tests.support.tenant import make_networks


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[str], str]]:
    with postgresql() as database:
        yield database


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A running cloud of our own, one per database."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("new_database")(f"cloud_{uuid.uuid4().hex[:8]}")
    running = Cloud(tmp_path_factory.mktemp("cloud"), url, "--host-timeout-s", "5")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def hosts(cloud: Cloud) -> Iterator[list[FakeHost]]:
    both = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    yield both
    for host in both:
        host.stop()


@pytest.fixture(scope="session")
def demo(cloud: Cloud) -> Iterator[Any]:
    connection = cloud.connect("demo")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def stranger(demo: Any, world: SimpleNamespace) -> Iterator[Any]:
    """A connection to whatever cloud is under test: the one VRATA_TEST_CLOUD names in clouds.yaml, or ours."""
    name = os.environ.get("VRATA_TEST_CLOUD")
    if name is None:
        assert world.router is not None
        yield demo
        return
    connection = openstack.connect(cloud=name)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def admin(cloud: Cloud) -> Iterator[Any]:
    connection = cloud.connect("admin")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def world(admin: Any, hosts: list[FakeHost]) -> SimpleNamespace:
    """An external and a shared tenant network with a router between them."""
    _ = hosts
    return make_networks(admin)


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def little(demo: Any, name: str) -> Iterator[SimpleNamespace]:
    """A tenant's own network with room for two ports."""
    network = demo.network.create_network(name=name)
    subnet = demo.network.create_subnet(
        network_id=network.id, ip_version=4, cidr="192.168.7.0/24", name=name,
        allocation_pools=[{"start": "192.168.7.10", "end": "192.168.7.11"}],
    )  # fmt: skip
    yield SimpleNamespace(network=network, subnet=subnet)
    for port in demo.network.ports(network_id=network.id):
        demo.network.delete_port(port)
    demo.network.delete_network(network)


@pytest.fixture
def fresh_cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud on SQLite that a test may kill."""
    running = Cloud(tmp_path, None, "--host-timeout-s", "5")
    running.start()
    yield running
    running.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """openstacksdk warns about openstacksdk: its own business, not an error of ours."""
    for item in items:
        if "/api/cloud/" in str(item.path):
            for kind in ("openstack.warnings.OpenStackDeprecationWarning", "PendingDeprecationWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
