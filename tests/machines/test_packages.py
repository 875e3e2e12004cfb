"""The Debian packages on Debian 12 and 13 machines that boot: install, serve, watchdog, upgrade under traffic, remove, purge."""

import http.client
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machines.load import WEB, Load, wait_for, web_servers
from tests.support.machines import Machine, debs, machines

CLOUD, HOST = "vrata-cloud", "vrata-host"
EXPOSURE_MAX = {CLOUD: 3.0, HOST: 7.0}
BRIDGE = """
cat >/etc/systemd/network/20-br-provider.netdev <<END
[NetDev]
Name=br-provider
Kind=bridge
END
printf '[Match]\\nName=br-provider\\n[Network]\\nAddress=203.0.113.11/24\\n' >/etc/systemd/network/20-br-provider.network
printf '[Match]\\nName=provider0\\n[Network]\\nBridge=br-provider\\n' >/etc/systemd/network/20-provider0.network
networkctl reload
"""
START = """
vrata cloud init --name 10.20.0.11
vrata --config /etc/vrata/cloud.toml cloud check-config
test -z "$(ls -A /var/lib/vrata/cloud)"
systemctl start vrata-cloud
vrata --config /etc/vrata/cloud.toml cloud host-token one >token
vrata host join --name one --cloud-url https://10.20.0.11:8781 --token-file token
sed 's/host-1/one/; s/192.0.2.10/10.20.0.11/' /etc/vrata/host.toml.example >/etc/vrata/host.toml
systemctl start vrata-host
"""
TREE = {
    "name": "web",
    "vip_address": "203.0.113.20",
    "listeners": [
        {
            "name": "web",
            "protocol": "TCP",
            "protocol_port": 80,
            "default_pool": {
                "name": "web",
                "protocol": "TCP",
                "lb_algorithm": "ROUND_ROBIN",
                "members": [{"address": one, "protocol_port": 80} for one in WEB],
            },
        }
    ],
}
NETWORK = {"name": "p", "shared": True, "provider:network_type": "flat", "provider:physical_network": "provider"}
SUBNET = {"name": "p", "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": False}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With the packages installed, both units running, and one load balancer that answers at 203.0.113.20."""
    with machines(tmp_path_factory.mktemp("packages"), request.param, ["one"]) as (one,), web_servers():
        one.copy(*debs())
        print(one.run("apt-get install --yes --quiet ./vrata*.deb")[-400:])
        one.run(BRIDGE + START)
        ask = Api(one)
        network_id = ask("POST", "/network/v2.0/networks", {"network": NETWORK})["network"]["id"]
        subnet = SUBNET | {"network_id": network_id}
        subnet_id = ask("POST", "/network/v2.0/subnets", {"subnet": subnet})["subnet"]["id"]
        ask("POST", "/load-balancer/v2.0/lbaas/loadbalancers", {"loadbalancer": TREE | {"vip_subnet_id": subnet_id}})
        wait_for(lambda: Load("http://203.0.113.20/").get(), "the load balancer answers")
        yield one


class Api:
    """The cloud's API, as admin."""

    def __init__(self, machine: Machine) -> None:
        self._context = ssl.create_default_context(cafile=str(machine.root / "etc/vrata/pki/ca.crt"))
        password = (machine.root / "etc/vrata/admin-password").read_text().strip()
        domain = {"id": "default"}
        user = {"name": "admin", "domain": domain, "password": password}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": "admin", "domain": domain}}
        auth = {"auth": {"identity": identity, "scope": scope}}
        self._token = self._ask("POST", "/identity/v3/auth/tokens", auth, {})[1]["x-subject-token"]

    def __call__(self, method: str, path: str, body: object) -> Any:
        return self._ask(method, path, body, {"X-Auth-Token": self._token})[0]

    def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[Any, dict[str, str]]:
        connection = http.client.HTTPSConnection("10.20.0.11", 8780, context=self._context, timeout=60)
        try:
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 300, content
            return json.loads(content), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()


def pid(machine: Machine, unit: str) -> int:
    """Of the unit's main process, as the machine numbers it."""
    return int(machine.run(f"systemctl show --property MainPID --value {unit}"))


def daemons(machine: Machine) -> set[int]:
    """Process ids of HAProxy and keepalived that serve the load balancer (Debian's own haproxy.service is no part of it)."""
    group = machine.run(f"systemctl show --property ControlGroup --value {HOST}").strip()
    found = machine.run("ps -e -o pid=,comm=,cgroup=").splitlines()
    words = [line.split(maxsplit=2) for line in found if f"{group}" in line]
    return {int(one[0]) for one in words if one[1] in {"haproxy", "keepalived"}}


class Kept:
    """One connection through the load balancer that stays open, with a request now and then."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("203.0.113.20", 80, timeout=30)
        self.ask()
        self._socket = self._connection.sock

    def ask(self) -> None:
        """OSError if the connection is broken; it is never opened anew."""
        self._connection.request("GET", "/")
        assert self._connection.getresponse().read().decode().strip() in WEB

    def still_the_same(self) -> bool:
        """Ask once more on the connection, and close it."""
        try:
            self.ask()
            return self._connection.sock is self._socket
        finally:
            self._connection.close()


def next_version(directory: Path) -> list[Path]:
    """The same packages with a higher version."""
    made = []
    for deb in debs():
        unpacked = directory / deb.stem
        subprocess.run(["dpkg-deb", "--raw-extract", deb, unpacked], check=True)
        control = unpacked / "DEBIAN/control"
        text = re.sub(r"^Version: (.*)$", r"Version: \1+next", control.read_text(), flags=re.MULTILINE)
        control.write_text(re.sub(r"vrata \(= (.*?)\)", r"vrata (= \1+next)", text))
        made.append(directory / f"next-{deb.name}")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, made[-1]], check=True)
        shutil.rmtree(unpacked)
    return made


def test_units_are_as_closed_as_their_work_allows(machine: Machine) -> None:
    for unit, most in EXPOSURE_MAX.items():
        line = machine.run(f"systemd-analyze security --no-pager {unit} | tail -1").strip()
        print(f"{machine.suite}: {line}")
        found = re.search(r": ([0-9.]+)", line)
        assert found is not None
        assert float(found[1]) <= most


def test_both_units_say_when_they_are_ready(machine: Machine) -> None:
    for unit in (CLOUD, HOST):
        shown = machine.run(f"systemctl show --property Type,ActiveState,NRestarts,WatchdogUSec {unit}")
        assert {"Type=notify", "ActiveState=active", "NRestarts=0"} <= set(shown.split()), shown


def test_command_manual_and_completion_are_there(machine: Machine) -> None:
    assert machine.run("vrata --version").startswith("vrata, version")
    for page in ("vrata", "vrata-cloud", "vrata-cloud-init", "vrata-host", "vrata-host-join"):
        assert "NAME" in machine.run(f"man --pager=cat {page} | head -5")
    said = machine.run(
        "source /usr/share/bash-completion/bash_completion; source /usr/share/bash-completion/completions/vrata\n"
        "COMP_WORDS=(vrata cloud ini); COMP_CWORD=2; _vrata_completion vrata ini cloud; echo ${COMPREPLY[*]}"
    )
    assert said.split() == ["init"]
    assert machine.run("dpkg --verify vrata vrata-cloud vrata-host") == ""


def test_files_of_the_service_are_its_own(machine: Machine) -> None:
    """Commands of root leave nothing behind that the service cannot read."""
    machine.run("vrata --config /etc/vrata/cloud.toml cloud backup /root/backup")
    for name in ("cloud.db", "cloud.db-wal"):
        assert machine.run(f"stat --format '%U %a' /var/lib/vrata/cloud/{name}").split() == [CLOUD, "600"]
    assert machine.run("stat --format '%U %a' /var/lib/vrata /var/lib/vrata/cloud").split() == [
        "root", "755", CLOUD, "700"
    ]  # fmt: skip


def test_a_wrong_configuration_is_refused_before_the_restart(machine: Machine) -> None:
    before = pid(machine, CLOUD)
    machine.run("cp /etc/vrata/cloud.toml cloud.toml; echo 'lissten = \"x\"' >>/etc/vrata/cloud.toml")
    assert machine.run("systemctl reload vrata-cloud && echo taken", check=False).strip().endswith("taken") is False
    assert "lissten" in machine.run("journalctl --unit vrata-cloud --no-pager --lines 20")
    assert pid(machine, CLOUD) == before
    machine.run("cp cloud.toml /etc/vrata/cloud.toml; systemctl reload vrata-cloud")
    wait_for(lambda: pid(machine, CLOUD) not in {0, before}, "the service begins anew")
    wait_for(lambda: machine.run("systemctl is-active vrata-cloud", check=False).strip() == "active", "it is ready")


@pytest.mark.parametrize("unit", [CLOUD, HOST])
def test_the_watchdog_ends_a_service_that_stands_still(machine: Machine, unit: str) -> None:
    machine.run(f"mkdir -p /run/systemd/system/{unit}.service.d")
    machine.run(f"printf '[Service]\\nWatchdogSec=4\\n' >/run/systemd/system/{unit}.service.d/watchdog.conf")
    machine.run(f"systemctl daemon-reload; systemctl restart {unit}")
    before, serving = pid(machine, unit), daemons(machine)
    kept = Kept()
    machine.run(f"kill -STOP {before}")
    wait_for(lambda: pid(machine, unit) not in {0, before}, "systemd starts another")
    assert "watchdog" in machine.run(f"journalctl --unit {unit} --boot --no-pager").lower()
    machine.run(f"rm -r /run/systemd/system/{unit}.service.d; systemctl daemon-reload; systemctl restart {unit}")
    assert kept.still_the_same()
    assert daemons(machine) == serving != set()


def test_an_agent_that_restarts_and_packages_that_are_upgraded_break_no_connection(
    machine: Machine, tmp_path: Path
) -> None:
    kept, serving = Kept(), daemons(machine)
    with Load("http://203.0.113.20/") as load:
        machine.run("systemctl restart vrata-host")
        machine.run("apt-get install --yes --quiet --reinstall ./vrata*.deb")
        files = next_version(tmp_path)
        machine.copy(*files)
        for file in files:
            file.unlink()
        machine.run("apt-get install --yes --quiet ./next-vrata*.deb; rm next-vrata*.deb")
        wait_for(lambda: "active" in machine.run(f"systemctl is-active {HOST}", check=False), "the agent is back")
    assert "+next" in machine.run("dpkg-query --show --showformat '${Version}' vrata-host")
    assert load.seen > 10
    assert load.failed == 0
    assert kept.still_the_same()
    assert daemons(machine) == serving != set()


def test_packages_are_as_lintian_wants_them(machine: Machine) -> None:
    """Of Debian 13: an older lintian knows newer things not yet."""
    if machine.suite != "trixie":
        pytest.skip("once is enough")
    said = machine.run("lintian --allow-root --info --display-info --fail-on error,warning vrata*.deb", check=False)
    worse = [line for line in said.splitlines() if line[:3] in {"E: ", "W: "} or "unused-override" in line]
    assert worse == []


def test_removal_leaves_traffic_and_purge_leaves_nothing(machine: Machine) -> None:
    kept = Kept()
    with Load("http://203.0.113.20/") as load:
        machine.run("apt-get remove --yes --quiet vrata-host vrata-cloud vrata")
    assert kept.still_the_same()
    assert load.failed == 0
    assert daemons_left(machine)
    machine.run("apt-get purge --yes --quiet vrata-host vrata-cloud vrata")
    assert not Load("http://203.0.113.20/").get()
    wait_for(lambda: not daemons_left(machine), "what served has ended")
    left = machine.run(
        "ls -d /etc/vrata /var/lib/vrata /usr/lib/vrata /usr/bin/vrata 2>/dev/null; ip netns list", check=False
    )
    assert left == ""
    assert machine.run("systemctl --failed --no-legend") == ""
    assert machine.run("dpkg -l 'vrata*' 2>/dev/null | grep -c ^[ir]", check=False).strip() == "0"


def daemons_left(machine: Machine) -> list[str]:
    """Daemons that use files of the host's instances."""
    lines = machine.run("ps -e -o args=").splitlines()
    return [line for line in lines if "/var/lib/vrata/host" in line]
