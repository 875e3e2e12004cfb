"""No loss or skew of the control plane's state removes an instance: databases that are older or other ones, clocks.

The host here is the agent's own decision (`vrata.host.trust`) behind the wire; what it decides has its laws in
tests/unit/host/test_trust.py.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.backups import WaryHost
from tests.support.cloud import SECRET, Cloud, FakeHost, postgresql, wait_for

LBAAS, NETWORK, HOSTS = "/load-balancer/v2.0/lbaas", "/network/v2.0", "/load-balancer/v2.0/vrata/hosts"
Json = dict[str, Any]
AGENT = {"Authorization": f"Bearer {SECRET}"}


def ask(cloud: Cloud, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
    return cloud.request(method, path, body, {"X-Auth-Token": cloud.token("admin")}, timeout_s=30.0)[:2]


def subnet(cloud: Cloud) -> str:
    values: Json = {"provider:physical_network": "tenant", "provider:network_type": "flat"}
    network = ask(cloud, "POST", f"{NETWORK}/networks", {"network": values})[1]["network"]
    values = {"network_id": network["id"], "ip_version": 4, "cidr": "10.10.0.0/24"}
    return str(ask(cloud, "POST", f"{NETWORK}/subnets", {"subnet": values})[1]["subnet"]["id"])


def balancer(cloud: Cloud, subnet_id: str) -> str:
    status, said = ask(cloud, "POST", f"{LBAAS}/loadbalancers", {"loadbalancer": {"vip_subnet_id": subnet_id}})
    assert status == 201, said
    return str(said["loadbalancer"]["id"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Cloud]]:
    """Clouds that stand in for each other: the same host meets one after the other."""
    running: list[Cloud] = []

    def begin(name: str) -> Cloud:
        (tmp_path / name).mkdir(exist_ok=True)
        running.append(Cloud(tmp_path / name, None, "--host-timeout-s", "60"))
        running[-1].start()
        return running[-1]

    yield begin
    for cloud in running:
        cloud.stop()


def test_a_host_that_meets_an_empty_database_keeps_everything_until_it_is_told_to_adopt(
    place: Callable[[str], Cloud],
) -> None:
    cloud = place("first")
    host = WaryHost(cloud, "host-a")
    host.report()
    mine = balancer(cloud, subnet(cloud))
    wait_for(lambda: host.carries(mine))
    other = place("empty")
    host.cloud = other
    host.report()
    host.take()
    assert host.instances(mine)
    status, shown = ask(other, "GET", f"{HOSTS}/host-a")
    assert (status, "comes from database" in shown["host"]["refusal"]) == (200, True)
    assert ask(other, "PUT", f"{HOSTS}/host-a", {"host": {"adopt": True}})[0] == 200
    wait_for(lambda: not host.carries(mine))
    assert ask(other, "GET", f"{HOSTS}/host-a")[1]["host"]["refusal"] is None
    assert ask(other, "PUT", f"{HOSTS}/host-a", {"host": {"adopt": True}})[0] == 409
    host.stop()


def test_a_database_restored_from_an_older_copy_takes_nothing_away(
    place: Callable[[str], Cloud], tmp_path: Path
) -> None:
    cloud = place("first")
    host = WaryHost(cloud, "host-a")
    host.report()
    subnet_id = subnet(cloud)
    old = balancer(cloud, subnet_id)
    wait_for(lambda: host.carries(old))
    cloud.stop()
    (tmp_path / "older").mkdir()
    for name in ("cloud.db", "keys"):
        shutil.copy(tmp_path / "first" / name, tmp_path / "older" / name)
    cloud = host.cloud = place("first")
    new = balancer(cloud, subnet_id)
    wait_for(lambda: host.carries(new))
    seen = host.desired["revision"]
    older = host.cloud = place("older")
    host.take()
    made = [balancer(older, subnet_id) for _ in range(3)]  # its revision catches up; what it lost does not come back
    path = f"/agent/v1/hosts/{host.name}/desired?since=0&wait_s=0"
    assert older.request("GET", path, None, AGENT)[1]["revision"] > seen
    host.take()
    assert host.refusal is not None
    assert "was seen before" in host.refusal.reason
    assert host.instances(old)
    assert host.instances(new)
    assert ask(older, "PUT", f"{HOSTS}/{host.name}", {"host": {"adopt": True}})[0] == 200
    wait_for(lambda: all(host.carries(one) for one in made))
    assert not host.instances(new)
    host.stop()


def test_what_was_deleted_while_its_host_was_away_is_named_until_the_host_is_rid_of_it(
    tmp_path: Path,
) -> None:
    cloud = Cloud(tmp_path, None, "--host-timeout-s", "1")
    cloud.start()
    host = WaryHost(cloud, "host-a")
    host.report()
    mine = balancer(cloud, subnet(cloud))
    wait_for(lambda: host.carries(mine))
    wait_for(
        lambda: ask(cloud, "GET", f"{LBAAS}/loadbalancers/{mine}")[1]["loadbalancer"]["operating_status"] == "ONLINE"
    )
    wait_for(lambda: not ask(cloud, "GET", f"{HOSTS}/host-a")[1]["host"]["alive"])
    assert ask(cloud, "DELETE", f"{LBAAS}/loadbalancers/{mine}")[0] == 204
    wait_for(lambda: ask(cloud, "GET", f"{LBAAS}/loadbalancers/{mine}")[0] == 404)
    assert host.instances(mine)
    host.take()
    assert host.refusal is None
    assert host.instances(mine) == []
    wait_for(lambda: host.take()["leaving"] == [])
    cloud.stop()


# Clocks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql() as cluster:
        yield cluster("clocks")


def wait_long_enough() -> None:
    """Longer than the time-out: whoever would be buried is."""
    until = time.monotonic() + 7.0
    wait_for(lambda: time.monotonic() > until)


class Skewed(Cloud):
    """A cloud whose wall clock is what a file says (libfaketime); its monotonic clock is the machine's."""

    def start(self) -> None:
        self.clock = self.directory / "clock"
        self.clock.write_text("+0")
        library = subprocess.run(
            ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True
        )
        skew = {
            "LD_PRELOAD": library.stdout.strip(), "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        before = dict(os.environ)
        os.environ.update(skew)
        try:
            super().start()
        finally:
            for name in skew:
                os.environ.pop(name, None)
            os.environ.update(before)


def test_replicas_whose_clocks_differ_and_jump_bury_nobody_and_miss_no_death(database: str, tmp_path: Path) -> None:
    """Three seconds apart, then an hour ahead and an hour back, with a host time-out of 6 s."""
    clouds: list[Cloud] = []
    for number, kind in enumerate((Cloud, Skewed)):
        directory = tmp_path / str(number)
        directory.mkdir()
        if clouds:
            (directory / "keys").write_text((clouds[0].directory / "keys").read_text())
        clouds.append(kind(directory, database, "--host-timeout-s", "6"))
        clouds[-1].start()
    plain, skewed = clouds
    assert isinstance(skewed, Skewed)
    hosts = [FakeHost(cloud, name).start() for cloud, name in zip(clouds, ("host-a", "host-b"), strict=True)]
    mine = balancer(plain, subnet(plain))
    wait_for(lambda: all(host.instances(mine) for host in hosts))
    built = {host.instances(mine)[0]["id"] for host in hosts}

    def silences() -> list[Json]:
        path = "/load-balancer/v2.0/vrata/transitions"
        return [one for one in ask(plain, "GET", path)[1]["transitions"] if one["after"] == "SILENT"]

    for skew in ("-3", "+3600", "-3600", "+0"):
        skewed.clock.write_text(skew)
        wait_long_enough()
        assert silences() == [], skew
        told = ask(skewed, "POST", f"{NETWORK}/networks", {"network": {}})[1]["network"]["created_at"]
        away_s = datetime.fromisoformat(told).timestamp() - time.time()
        assert abs(away_s - int(skew)) < 60, "the clock is not what the file says"
    assert {host.instances(mine)[0]["id"] for host in hosts} == built
    skewed.clock.write_text("-3600")
    hosts[0].stop()
    wait_for(lambda: [one["host"] for one in silences()] == ["host-a"])
    hosts[1].stop()
    for cloud in clouds:
        cloud.stop()
