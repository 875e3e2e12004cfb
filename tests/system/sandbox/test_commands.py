"""`vrata up` and its kin as a person meets them: wrong input, repairs, two sandboxes side by side, a full disk."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.fabric import listen_in
from tests.support.kubernetes import Cluster, wait_for

from vrata.net import daemon, ip
from vrata.net.command import inside
from vrata.sandbox import model, network
from vrata.sandbox.lifecycle import Sandbox
from vrata.sandbox.model import Options

VRATA = (sys.executable, "-m", "vrata")
DISK_BYTES = 96 * 2**20
UP_S = 60.0


@dataclass(frozen=True)
class Place:
    """One sandbox and where it lives."""

    name: str
    home: Path

    def vrata(self, *args: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command on this sandbox."""
        return subprocess.run(
            [*before, *VRATA, *args, "--name", self.name],
            env=os.environ | {"VRATA_HOME": str(self.home)},
            capture_output=True, text=True, check=False, timeout=UP_S,
        )  # fmt: skip

    def up(self) -> subprocess.Popen[str]:
        """Begin to bring it up, as small as it can be."""
        return subprocess.Popen(
            [*VRATA, "up", "--name", self.name, "--hosts", "1", "--workers", "1"],
            env=os.environ | {"VRATA_HOME": str(self.home)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def bring_up(self) -> str:
        """Bring it up (again) and return what was said."""
        process = self.up()
        said, _ = process.communicate(timeout=UP_S)
        assert process.returncode == 0, said
        return said

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox as the commands see it."""
        os.environ["VRATA_HOME"] = str(self.home)
        try:
            return Sandbox.existing(self.name)
        finally:
            del os.environ["VRATA_HOME"]

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.home / self.name / "kubeconfig", self.home / "cache")

    def processes(self) -> dict[str, daemon.DaemonId]:
        """Every part that was started."""
        parts = self.sandbox.parts
        records = {part.name: parts.record(part.name) for part in self.sandbox.all_parts()}
        return {name: record.process for name, record in records.items() if record}

    def netns(self, machine: str) -> str:
        return str(model.topology(Options(self.name, 1, 1)).machine(machine).netns)


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, Place]]:
    """Two sandboxes brought up at the same time, the second on a small disk of its own."""
    with tempfile.TemporaryDirectory(prefix="vr-") as one, tempfile.TemporaryDirectory(prefix="vr-") as two:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", two], check=True)
        made = Place(f"a{os.getpid()}", Path(one)), Place(f"b{os.getpid()}", Path(two))
        try:
            for process in [place.up() for place in made]:
                said, _ = process.communicate(timeout=UP_S)
                assert process.returncode == 0, said
            yield made
        finally:
            for place in made:
                place.vrata("down")
            subprocess.run(["umount", two], check=True)


@pytest.fixture
def first(places: tuple[Place, Place]) -> Place:
    return places[0]


@pytest.fixture
def second(places: tuple[Place, Place]) -> Place:
    return places[1]


def the_line(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """What a command that failed said: one line, no traceback."""
    assert done.returncode == status, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def steps_of(said: str) -> list[str]:
    """The steps that a command has announced, also without a terminal."""
    return re.findall(r"^  \d\d:\d\d:\d\d  (.*)$", said, re.MULTILINE)


def test_without_root_one_line_says_so(tmp_path: Path) -> None:
    done = Place("none", tmp_path).vrata("up", before=("unshare", "--user"))
    assert the_line(done) == "vrata: the sandbox needs root (network namespaces, nftables); run it with sudo"
    assert not list(tmp_path.iterdir())


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    hide = 'mount --bind /dev/null "$(command -v haproxy)" && exec "$@"'
    done = Place("none", tmp_path).vrata("up", before=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert the_line(done) == "vrata: not installed: haproxy; apt-get install haproxy"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--workers", "0"), "'--workers': 0 is not in the range 1<=x<=50"),
        (("--hosts", "99"), "'--hosts': 99 is not in the range 1<=x<=20"),
        (("--name", "../x"), "'--name': '../x' is not valid; use 1 to 32 letters, digits and dashes"),
    ],
)
def test_options_out_of_range_name_the_range(args: tuple[str, ...], expected: str) -> None:
    done = subprocess.run([*VRATA, "up", *args], capture_output=True, text=True, check=False, timeout=UP_S)
    assert the_line(done, 2) == f"vrata up: Invalid value for {expected} (see `vrata up --help`)"


@pytest.mark.parametrize("command", ["down", "status", "kubeconfig"])
def test_a_sandbox_that_does_not_exist_is_told_how_to_get_one(tmp_path: Path, command: str) -> None:
    done = Place("nowhere", tmp_path).vrata(command)
    assert the_line(done) == "vrata: there is no sandbox 'nowhere'; bring it up with `vrata up --name nowhere`"


def test_an_unknown_part_names_those_there_are(first: Place) -> None:
    said = the_line(first.vrata("logs", "nobody"))
    assert said.startswith("vrata: PART: 'nobody' is not valid; use one of cloud, apiserver, host-a,")
    assert first.vrata("logs", "apiserver", "--tail", "1").stdout


def test_two_sandboxes_live_side_by_side(first: Place, second: Place) -> None:
    for place in (first, second):
        nodes = place.cluster.get("nodes")["items"]
        assert {node["metadata"]["name"] for node in nodes} == {"master-0", "worker-0"}
    first.cluster.kubectl("create", "configmap", "mine")
    assert "not found" in second.cluster.refused("get", "configmap", "mine")


def test_up_again_changes_nothing(first: Place) -> None:
    before, created = first.processes(), first.sandbox.paths.record.read_bytes()
    said = first.bring_up()
    assert "waiting for nodes to be ready and a gateway to be active" in steps_of(said)
    assert first.processes() == before
    assert first.sandbox.paths.record.read_bytes() == created


def test_up_again_repairs_a_killed_part_and_a_lost_machine(first: Place) -> None:
    before = first.processes()
    os.kill(before["provider"].pid, signal.SIGKILL)
    wait_for(lambda: not daemon.is_alive(before["provider"]), "it is dead")
    subprocess.run(["ip", "netns", "delete", first.netns("client")], check=True)
    first.bring_up()
    after = first.processes()
    assert daemon.is_alive(after["provider"])
    assert {name: process for name, process in after.items() if before[name] != process}.keys() == {"provider"}
    assert first.netns("client") in ip.list_namespaces()
    url = f"http://{model.CLOUD_EXTERNAL}:{model.CLOUD_PORT}/healthcheck"
    answer = subprocess.run(
        inside(first.netns("client"), "curl", "-s", "-m", "2", url), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_up_again_repairs_a_lost_node_with_what_runs_on_it(first: Place) -> None:
    before = first.processes()
    subprocess.run(["ip", "netns", "delete", first.netns("worker-0")], check=True)
    first.bring_up()
    address = model.topology(Options(first.name, 1, 1)).machine("worker-0").address
    curl = inside(first.netns("master-0"), "curl", "-s", "-m", "1", f"http://{address}:10250/healthz")
    wait_for(
        lambda: subprocess.run(curl, capture_output=True, check=False).stdout == b"ok",
        "the kubelet listens in the new namespace",
    )
    changed = {name for name, process in first.processes().items() if before[name] != process}
    assert changed == {"kubelet-worker-0", "node-worker-0"}
    assert not [name for name in changed if daemon.is_alive(before[name])]


def test_a_health_check_port_that_is_taken_is_told_on_the_service(first: Place) -> None:
    port = 32555
    with listen_in(first.netns("worker-0"), "0.0.0.0", port):
        spec = {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port,
            "selector": {"app": "none"},
            "ports": [{"port": 80}],
        }
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken"}, "spec": spec}
        first.cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
        query = ("get", "events", "--field-selector=reason=HealthCheckPortTaken", "-o", "jsonpath={.items[*].message}")
        said = wait_for(lambda: first.cluster.kubectl(*query), "the event is written")
    assert f"spec.healthCheckNodePort: {port} cannot be opened on node worker-0 (" in said
    assert "free the port on the node or recreate the Service with another one" in said
    first.cluster.kubectl("delete", "service", "taken", "--wait=false")


def fill(folder: Path) -> Path:
    """A file that takes the last byte of this disk."""
    made = folder / "fill"
    with made.open("wb", buffering=0) as stream:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue
    return made


def dead(processes: dict[str, daemon.DaemonId]) -> list[str]:
    """Names of the parts that run no more."""
    return [name for name, process in processes.items() if not daemon.is_alive(process)]


def test_a_full_disk_is_said_in_one_line_and_what_runs_goes_on(second: Place) -> None:
    before = second.processes()
    filling = fill(second.home)
    try:
        said = the_line(second.vrata("up", "--hosts", "1", "--workers", "1"))
        assert "No space left on device" in said
        assert said.endswith("free some space there")
        assert second.cluster.get("nodes")["items"]
        big = f"--from-literal=a={'x' * 100_000}"
        assert "the store could not be written" in second.cluster.refused("create", "configmap", "more", big)
        assert dead(before) == []
    finally:
        filling.unlink()
    wait_for(lambda: second.cluster.run("create", "configmap", "later").status == 0, "it writes again")
    second.bring_up()
    assert second.processes() == before


def test_z_down_leaves_nothing_and_the_other_sandbox_alone(first: Place, second: Place) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "left"},
        "spec": {"nodeName": "worker-0", "containers": [{"name": "main", "image": "x", "command": ["sleep", "1000"]}]},
    }
    first.cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    first.cluster.kubectl("wait", "pod/left", "--for=condition=Ready", "--timeout=90s")
    sandbox, processes = first.sandbox, first.processes()
    recorded = {*network.recorded_namespaces(sandbox.paths), *(name for _, name in sandbox.instance_namespaces())}
    recorded |= set(sandbox._pod_namespaces())
    folders = sandbox._pod_folders()
    inside = [daemon.identify(pid) for name in recorded for pid in ip.processes_in(name)]
    assert len(recorded) > 5
    assert folders
    done = first.vrata("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert steps_of(done.stdout) == ["stopping every part", "removing machines and networks", "removing files"]
    assert not recorded & ip.list_namespaces()
    assert not [found for found in (*processes.values(), *inside) if found and daemon.is_alive(found)]
    assert not (first.home / first.name).exists()
    assert not [folder for folder in folders if Path(folder).exists()]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in recorded if name in links]
    assert the_line(first.vrata("down")).startswith(f"vrata: there is no sandbox '{first.name}'")
    assert dead(second.processes()) == []
    assert second.cluster.get("nodes")["items"]
