"""A cloud with load balancers on hosts that only say so, its backup, and the cloud that is restored from it."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.support.cloud import SECRET, Cloud, FakeHost

from vrata.base.wire import DesiredSet, Refusal
from vrata.host import trust

LBAAS, NETWORK, HOSTS = "/load-balancer/v2.0/lbaas", "/network/v2.0", "/load-balancer/v2.0/vrata/hosts"
AGENT = {"Authorization": f"Bearer {SECRET}"}
Json = dict[str, Any]


class WaryHost(FakeHost):
    """A host that judges each set as the agent does, and reports what it refuses."""

    refusal: Refusal | None = None

    def take(self) -> Json:
        """Ask once; take the set or refuse it; report. What it carries now."""
        path = f"/agent/v1/hosts/{self.name}/desired?since=0&wait_s=0"
        status, body, _ = self.cloud.request("GET", path, None, AGENT)
        if status == 200:
            received = msgspec.convert(body, DesiredSet)
            last = msgspec.convert(self.desired, DesiredSet) if self.desired["revision"] else None
            carried = {one["id"] for one in self.desired["instances"]}
            self.refusal = trust.refuse(last, carried, received, self.refusal, "r1")
            if self.refusal is None:
                self.desired = body
        self.report()
        return self.desired

    def carries(self, owner_id: str) -> bool:
        """Whether it carries the owner, after it has asked once more."""
        self.take()
        return bool(self.instances(owner_id))

    def accepts(self) -> bool:
        """Whether it takes what the cloud says, after it has asked once more."""
        self.take()
        return self.refusal is None

    def report_body(self) -> Json:
        body = super().report_body()
        return body | ({"refusal": msgspec.to_builtins(self.refusal)} if self.refusal else {})


def vrata(*arguments: object) -> tuple[int, str]:
    """Exit status and output of a command, errors too."""
    command = [sys.executable, "-c", "from vrata.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def ask(cloud: Cloud, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
    """As admin: status and body."""
    return cloud.request(method, path, body, {"X-Auth-Token": cloud.token("admin")}, timeout_s=60.0)[:2]


def subnet(cloud: Cloud, cidr: str = "10.10.0.0/16") -> str:
    """A subnet of the network that hosts have; its id."""
    values: Json = {"provider:physical_network": "tenant", "provider:network_type": "flat"}
    network = ask(cloud, "POST", f"{NETWORK}/networks", {"network": values})[1]["network"]
    values = {"network_id": network["id"], "ip_version": 4, "cidr": cidr}
    return str(ask(cloud, "POST", f"{NETWORK}/subnets", {"subnet": values})[1]["subnet"]["id"])


def balancer(cloud: Cloud, subnet_id: str) -> str:
    """A load balancer with a listener, a pool and two members; its id."""
    members = [{"address": f"10.10.0.{n}", "protocol_port": 80} for n in (5, 6)]
    pool = {"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    tree = {"vip_subnet_id": subnet_id, "listeners": [listener], "tags": ["a"]}
    status, said = ask(cloud, "POST", f"{LBAAS}/loadbalancers", {"loadbalancer": tree})
    assert status == 201, said
    return str(said["loadbalancer"]["id"])


def carried(hosts: list[WaryHost]) -> dict[str, tuple[str, int]]:
    """Which host carries each instance, and its generation: what would change if it were rebuilt."""
    return {one["id"]: (host.name, one["generation"]) for host in hosts for one in host.desired["instances"]}


@contextmanager
def restored(cloud: Cloud, directory: Path, database: str | None) -> Iterator[tuple[Cloud, float]]:
    """Back the running cloud up, restore it elsewhere (None: SQLite), serve it; seconds that `restore` took."""
    where = ("--database", cloud.database) if cloud.database else ("--data-dir", cloud.directory)
    keys = ("--secret-key-file", cloud.directory / "keys", "--directory", directory / "etc")
    status, said = vrata("cloud", "backup", *where, *keys, directory / "backup")
    assert status == 0, said
    assert (directory / "backup").stat().st_mode & 0o777 == 0o600
    cloud.stop()
    (directory / "new").mkdir()
    there = ("--database", database) if database else ("--data-dir", directory / "new")
    keys = ("--secret-key-file", directory / "keys", "--directory", directory / "etc")
    began = time.monotonic()
    status, said = vrata("cloud", "restore", *there, *keys, directory / "backup")
    took_s = time.monotonic() - began
    assert status == 0, said
    shutil.move(directory / "keys", directory / "new/keys")
    new = Cloud(directory / "new", database, *cloud.extra)
    new.start()
    try:
        yield new, took_s
    finally:
        new.stop()
