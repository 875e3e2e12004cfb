"""The OpenStack CLI as a stranger, and the migrations up and down on both databases."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.cloud import Cloud, FakeHost

from vrata.cloud import migrate, schema


def openstack(cloud: Cloud, *arguments: str) -> Any:
    """Run `openstack`, return its JSON."""
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(cloud.config), "OS_CLOUD": "vrata"}
    tool = Path(sys.executable).with_name("openstack")
    done = subprocess.run(
        [tool, *arguments, "-f", "json"], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout or b"null")


@pytest.mark.parametrize("cloud", ["sqlite"], indirect=True)  # each call of the tool takes two seconds
def test_the_openstack_cli_makes_a_balancer_and_gives_it_an_address(
    cloud: Cloud, world: SimpleNamespace, name: str
) -> None:
    balancer = openstack(cloud, "loadbalancer", "create", "--name", name, "--vip-subnet-id", world.subnet.id, "--wait")
    assert balancer["provisioning_status"] == "ACTIVE"
    listener = openstack(
        cloud, "loadbalancer", "listener", "create", "--protocol", "TCP", "--protocol-port", "80", "--wait", name
    )
    assert listener["protocol_port"] == 80
    assert [one["name"] for one in openstack(cloud, "loadbalancer", "list", "--name", name)] == [name]
    floating = openstack(cloud, "floating", "ip", "create", "--port", balancer["vip_port_id"], "external")
    assert floating["fixed_ip_address"] == balancer["vip_address"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_go_up_and_down_and_agree_with_the_tables(
    kind: str, tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    url = new_database("migrations") if kind == "postgresql" else f"sqlite:///{tmp_path}/cloud.db"
    assert migrate.current(url) is None
    migrate.migrate(url)
    assert migrate.current(url) == schema.HEAD
    assert migrate.difference(url) == []
    migrate.migrate(url, "0001")
    assert migrate.current(url) == "0001"
    migrate.migrate(url)
    migrate.migrate(url, "base")
    assert migrate.current(url) is None
    migrate.migrate(url)
    assert migrate.difference(url) == []


def test_metrics_count_requests_and_load_balancers_and_name_no_tenant(cloud: Cloud, hosts: list[FakeHost]) -> None:
    _ = hosts
    assert cloud.request("GET", "/load-balancer/v2.0/lbaas/pools", None, {"X-Auth-Token": cloud.token()})[0] == 200
    assert cloud.request("GET", "/network/v2.0/networks")[0] == 401
    status, text, headers = cloud.request("GET", "/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert 'vrata_cloud_requests_total{api="load-balancer",method="GET",status="200"}' in text
    assert 'vrata_cloud_requests_total{api="network",method="GET",status="401"}' in text
    assert 'vrata_cloud_hosts{alive="true"}' in text
    assert "demo" not in text
    if cloud.database is None:  # SQLite
        assert 'vrata_cloud_disk_bytes{state="free"}' in text


def test_metrics_count_the_addresses_of_external_networks_only(cloud: Cloud) -> None:
    admin = cloud.connect("admin")
    made = {}
    for name, external in (("public", True), ("inner", False)):
        network = admin.network.create_network(name=f"figures-{name}", is_router_external=external)
        pools = [{"start": "198.51.100.10", "end": "198.51.100.19"}]
        made[name] = admin.network.create_subnet(
            network_id=network.id, ip_version=4, cidr="198.51.100.0/24", allocation_pools=pools
        )
        admin.network.create_port(network_id=network.id)
    text = cloud.request("GET", "/metrics")[1]
    assert f'vrata_cloud_external_addresses{{state="used",subnet="{made["public"].id}"}} 1.0' in text
    assert f'vrata_cloud_external_addresses{{state="free",subnet="{made["public"].id}"}} 9.0' in text
    assert made["inner"].id not in text


@pytest.mark.parametrize(("least", "status"), [("0013", 0), ("0099", 1)])
def test_a_newer_database_is_used_if_it_says_that_older_programs_may(
    new_database: Callable[[str], str], least: str, status: int
) -> None:
    """While replicas are upgraded one by one, one of the last version may start again."""
    url = new_database(f"newer-{status}")
    migrate.migrate(url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
        connection.execute(sa.text("UPDATE databases SET least = :least"), {"least": least})
    engine.dispose()
    command = [sys.executable, "-c", "from vrata.cli.main import main; main()", "cloud"]
    environment = os.environ | {"VRATA_DATABASE": url}
    for words in (["serve", "--check", "--listen", "127.0.0.1:8780"], ["revoke-host", "nobody"]):
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert status == 0 or "0099" in done.stderr
