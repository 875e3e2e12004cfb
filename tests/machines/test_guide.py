"""docs/operate/install-machines.md and backup.md on machines that boot: each command is the page's, and runs where it says.

Then the faults that the page speaks of, with the commands that it gives: no power, a lost primary, all machines rebooted.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.machines.load import WEB, Load, wait_for, web_servers
from tests.support.machines import ROOT, Machine, known_hosts, machines
from tests.support.pages import Block, missing_lines, parse_blocks

PAGE = ROOT / "docs/operate/install-machines.md"
BACKUP = ROOT / "docs/operate/backup.md"
COMPUTER = "your computer"
REPLICAS = "runuser -u postgres -- psql --tuples-only --command 'SELECT state FROM pg_stat_replication'"
# New connections that fail twice within the second or so in which a standby takes over.
FAILOVER_MAX = 20
NAMES = ("vrata-1", "vrata-2", "vrata-3")


class Computer:
    """The administrator's: this checkout's command line, ssh to the machines, a directory of its own."""

    def __init__(self, directory: Path, cluster: list[Machine]) -> None:
        self.directory = directory
        programs = directory / "bin"
        programs.mkdir()
        (directory / "dist").symlink_to(ROOT / "dist")
        (directory / "known_hosts").write_text(known_hosts(cluster))
        config = f"IdentityFile {directory.parent / 'id_ed25519'}\nUserKnownHostsFile {directory / 'known_hosts'}\n"
        config += "".join(f"Host {one.name}\n  HostName {one.address}\n" for one in cluster)
        (directory / "ssh_config").write_text(config)
        (programs / "scp").write_text(f'#!/bin/sh\nexec /usr/bin/scp -q -F {directory / "ssh_config"} "$@"\n')
        (programs / "scp").chmod(0o755)
        path = f"{programs}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "OS_CLOUD": "machines", "HOME": str(directory)}

    def run(self, script: str) -> str:
        """What commands print; AssertionError if one fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"exit status {done.returncode} of:\n{script}\n{done.stdout}"
        return done.stdout


class Guide:
    """The page's blocks, and the places that they name."""

    def __init__(self, computer: Computer, cluster: list[Machine]) -> None:
        self.computer, self.machines = computer, {one.name: one for one in cluster}
        self.blocks = parse_blocks(PAGE.read_text()) + parse_blocks(BACKUP.read_text())
        self.began = time.monotonic()

    def install(self) -> None:
        """Everything up to the first load balancers, in the order of the page."""
        for block in self.blocks:
            if ", to " not in block.where:
                self.follow(block)

    def purpose(self, purpose: str) -> str:
        """Run the one block for a purpose that its place names, as in «your computer, to drain»."""
        (block,) = (one for one in self.blocks if one.where.endswith(f", to {purpose}"))
        return self.follow(block)

    def try_run(self, script: str) -> str:
        """What the administrator's commands print; nothing if one fails."""
        try:
            return self.computer.run(script)
        except AssertionError:
            return ""

    def follow(self, block: Block) -> str:
        where = block.where.partition(", ")[0]
        printed = ""
        for place in [COMPUTER] if where == COMPUTER else self._names(where):
            began = time.monotonic()
            run = self.computer.run if place == COMPUTER else self.machines[place].run
            printed = run(block.commands)
            missing = missing_lines(block.shown, printed)
            assert not missing, (
                f"on {place}:\n{block.commands}\nshows on the page:\n{missing[0]}\nand printed:\n{printed}"
            )
            print(f"{time.monotonic() - self.began:5.0f} s  {place}: {block.commands.splitlines()[0][:70]} …"
                  f" ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
        return printed

    def _names(self, where: str) -> list[str]:
        names = list(self.machines) if where == "every machine" else re.findall(r"vrata-\d", where)
        assert names, f"«{where}» is no place"
        return names


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    directory = tmp_path_factory.mktemp("machines")
    home = directory / "computer"
    home.mkdir()
    with machines(directory, "trixie", NAMES) as cluster, web_servers():
        yield Guide(Computer(home, cluster), cluster)


@pytest.fixture(scope="module")
def installed(guide: Guide) -> Guide:
    """The page has been followed; told apart from the test, so that each of the faults may run alone."""
    guide.install()
    print(f"       first load balancers answer after {time.monotonic() - guide.began:.0f} s", flush=True)
    return guide


def api(_guide: Guide) -> Load:
    return Load("https://203.0.113.10:8780/healthcheck", ("--cacert", str(_guide.computer.directory / "ca.crt")))


def web() -> Load:
    return Load("http://203.0.113.20/")


def hosts_in_use(guide: Guide) -> bool:
    return guide.computer.run("vrata hosts").count(" in use ") == len(NAMES)


def test_the_page_leads_to_balancers_that_answer(installed: Guide) -> None:
    answers = {installed.computer.run("curl --silent --fail http://203.0.113.20/").strip() for _ in range(4)}
    assert answers == set(WEB)
    assert "api" in installed.computer.run("openstack loadbalancer list --column name")


def test_a_machine_without_power_takes_neither_api_nor_traffic_along(installed: Guide) -> None:
    lost = installed.machines["vrata-3"]
    with web() as traffic, api(installed) as calls:
        time.sleep(2)
        lost.power_off()
        wait_for(lambda: "dead" in installed.computer.run("vrata hosts"), "the cloud notices")
        installed.computer.run("openstack loadbalancer set --description changed web --wait")
        lost.boot()
        wait_for(lambda: hosts_in_use(installed), "the machine is back")
    settled(installed)
    assert traffic.seen > 100
    assert traffic.failed_again <= FAILOVER_MAX
    assert calls.failed < calls.seen / 2


def test_all_machines_reboot_one_by_one_and_drained_first_no_connection_fails(installed: Guide) -> None:
    (drain,) = (block for block in installed.blocks if block.where == f"{COMPUTER}, to drain")
    (undrain,) = (block for block in installed.blocks if block.where == f"{COMPUTER}, to undrain")
    with web() as traffic:
        for name, machine in installed.machines.items():
            installed.computer.run(drain.commands.replace("vrata-3", name))
            machine.reboot()
            wait_for(partial(api_answers, installed, name), "the API is back")
            installed.computer.run(undrain.commands.replace("vrata-3", name))
            wait_for(lambda: hosts_in_use(installed), "all hosts are in use")
            settled(installed)
    assert traffic.seen > 100
    assert (traffic.failed, traffic.failed_again) == (0, 0)


def test_all_machines_reboot_one_by_one_as_they_are(installed: Guide) -> None:
    with web() as traffic:
        for name, machine in installed.machines.items():
            machine.reboot()
            wait_for(partial(api_answers, installed, name), "the API is back")
            wait_for(lambda: hosts_in_use(installed), "all hosts are in use")
            settled(installed)
    assert traffic.seen > 100
    assert traffic.failed_again == 0


def test_a_lost_primary_is_replaced_by_its_replica(installed: Guide) -> None:
    lost, replica = installed.machines["vrata-1"], installed.machines["vrata-2"]
    wait_for(lambda: "streaming" in lost.run(REPLICAS), "the replica follows")
    with web() as traffic:
        lost.power_off()
        installed.purpose("promote")
        wait_for(lambda: api_answers(installed, "vrata-2"), "the API finds the new primary")
        wait_for(lambda: "dead" in installed.try_run("vrata hosts"), "the cloud notices")
        installed.computer.run("openstack loadbalancer set --description promoted web --wait")
        lost.boot(wait=False)
        installed.purpose("follow")
        wait_for(lambda: "streaming" in replica.run(REPLICAS), "the old primary follows")
        lost.run("systemctl restart vrata-cloud")
        wait_for(lambda: hosts_in_use(installed), "all hosts are in use")
    settled(installed)
    assert traffic.seen > 100
    assert traffic.failed_again <= FAILOVER_MAX


def test_a_restored_cloud_builds_nothing_anew(installed: Guide) -> None:
    before = {name: instances(machine) for name, machine in installed.machines.items()}
    with web() as traffic:
        installed.purpose("back up")
        for machine in installed.machines.values():
            machine.run("systemctl stop vrata-cloud")
        installed.machines["vrata-2"].run(
            "runuser -u postgres -- psql --quiet --command 'DROP DATABASE vrata WITH (FORCE)'\n"
            "runuser -u postgres -- psql --quiet --command 'CREATE DATABASE vrata OWNER vrata'"
        )
        installed.purpose("restore")
        for machine in installed.machines.values():
            machine.run("systemctl start vrata-cloud")
        wait_for(lambda: hosts_in_use(installed), "all hosts are in use, and none refuses")
        settled(installed)
    assert {name: instances(machine) for name, machine in installed.machines.items()} == before
    assert any(before.values())
    assert (traffic.failed, traffic.failed_again) == (0, 0)
    installed.computer.run("openstack loadbalancer set --description restored web --wait")


def api_answers(guide: Guide, name: str) -> bool:
    """Whether this machine's own API reads the database."""
    url = f"https://{guide.machines[name].address}:8780/identity/v3/auth/tokens"
    words = f"curl --silent --max-time 10 --output /dev/null --write-out %{{http_code}} --cacert ca.crt {url}"
    return guide.try_run(words).strip() == "401"


def settled(guide: Guide) -> None:
    """Until each load balancer has its pair again."""
    active = "openstack loadbalancer list --column provisioning_status --column operating_status --format value"
    pairs = "vrata hosts | awk 'NR > 1 && $3 + 0 == $3 {n += $3} NR > 1 && $3 + 0 != $3 {n += $4} END {print n}'"
    wait_for(lambda: guide.try_run(active).split() == ["ACTIVE", "ONLINE"] * 2, "load balancers are ACTIVE")
    wait_for(lambda: guide.try_run(pairs).strip() == "4", "each load balancer has a pair")


def instances(machine: Machine) -> list[str]:
    """Process ids and start times of the daemons that serve."""
    return sorted(
        " ".join(line.split()[:6]) for line in machine.run("ps -e -o pid=,lstart=,args=").splitlines()
        if "/var/lib/vrata/host" in line
    )  # fmt: skip
