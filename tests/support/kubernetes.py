"""A Kubernetes API for tests: the cluster that VRATA_TEST_KUBECONFIG names, otherwise the sandbox's own server."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.pauses import pause_s

START_S = 90.0
WAIT_S = 90.0
KUBECTL_S = 180.0
SERVICE_CIDRS = "10.96.0.0/16,fd00:96::/112"


@dataclass(frozen=True)
class Said:
    """What a kubectl command answered."""

    status: int
    out: str
    err: str


class KubectlFailed(AssertionError):
    """kubectl ended with a non-zero status."""


@dataclass(frozen=True)
class Cluster:
    """A cluster to talk to through kubectl."""

    kubeconfig: Path
    cache: Path

    def environment(self) -> dict[str, str]:
        """The environment in which kubectl finds this cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.cache), "EDITOR": "true"}

    def run(self, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> Said:
        """Run kubectl, whatever it ends with."""
        done = subprocess.run(
            [_kubectl(), *args],
            input=stdin,
            env=self.environment() | (env or {}),
            capture_output=True,
            text=True,
            timeout=KUBECTL_S,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def kubectl(self, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        """Run kubectl and return what it printed; KubectlFailed if it failed."""
        said = self.run(*args, stdin=stdin, env=env)
        if said.status:
            raise KubectlFailed(f"kubectl {' '.join(args)} ended with {said.status}: {said.err or said.out}")
        return said.out

    def set_status(self, manifests: str) -> None:
        """Make the statuses of cluster-wide objects as in their manifests, also while a controller writes to them.

        `kubectl replace` would be refused if that happens between its reading and its writing.
        """
        for body in yaml.safe_load_all(manifests):
            patch = json.dumps({"status": body["status"]})
            target = (body["kind"], body["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)
            self.kubectl("patch", *target)

    def get(self, *args: str) -> Any:
        """`kubectl get … -o json`, decoded."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def refused(self, *args: str, stdin: str = "") -> str:
        """Run kubectl expecting a failure; returns what it said about it."""
        said = self.run(*args, stdin=stdin)
        assert said.status, f"kubectl {' '.join(args)} was expected to fail, but said {said.out}"
        return said.err

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """A plain HTTP address of the API (`kubectl proxy`), for what kubectl itself does not show."""
        with self.started("proxy", "--port=0") as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"(127\.0\.0\.1:\d+)", said)
            assert found, said
            yield f"http://{found[1]}"

    @contextmanager
    def started(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """A kubectl that goes on running (`get -w`, `logs -f`), with its output piped; killed at the end."""
        process = subprocess.Popen(
            [_kubectl(), *args], env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else "kubectl"


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Ask until the condition is true; AssertionError after the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        assert now < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(pause_s(now - began, 0.02))


class OwnServer:
    """The sandbox's API server as a process of the test."""

    def __init__(self, directory: Path, file_bytes_max: int | None = None) -> None:
        self.directory = directory
        self._file_bytes_max = file_bytes_max  # no file may grow beyond this: a disk that is full
        self.kubeconfig = directory / "kubeconfig"
        self.log = directory / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that serves now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start (again on the same port) and wait until it accepts connections."""
        argv = [sys.executable, "-c", "from vrata.cli.main import main; main()", "apiserver"]
        argv += ["--data-dir", str(self.directory / "data"), "--kubeconfig", str(self.kubeconfig)]
        argv += ["--listen", f"127.0.0.1:{self.port}", "--service-cidr", SERVICE_CIDRS]
        with self.log.open("ab") as log:
            offset = log.tell()
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            if self._file_bytes_max is not None:
                bound = (self._file_bytes_max, self._file_bytes_max)
                resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, bound)
        wait_for(lambda: self._ready(offset), "the API server is ready", START_S)
        server = yaml.safe_load(self.kubeconfig.read_text())
        self.port = int(server["clusters"][0]["cluster"]["server"].rpartition(":")[2])

    def _ready(self, offset: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        if b"apiserver.ready" not in self.log.read_bytes()[offset:]:
            return False
        port = int(self.kubeconfig.read_text().split("server: https://127.0.0.1:")[1].split()[0])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout=60)


@contextmanager
def own_cluster(directory: Path, file_bytes_max: int | None = None) -> Iterator[tuple[Cluster, OwnServer]]:
    """A fresh server of the sandbox with an empty store."""
    server = OwnServer(directory, file_bytes_max)
    server.start()
    try:
        yield Cluster(server.kubeconfig, directory / "cache"), server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster under test, shared by a session: every test works in its own `namespace`."""
    directory = tmp_path_factory.mktemp("kubernetes")
    given = os.environ.get("VRATA_TEST_KUBECONFIG")
    if given:
        yield Cluster(Path(given), directory / "cache")
        return
    with own_cluster(directory) as (own, _server):
        yield own


_counter = iter(range(1_000_000))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, with its default ServiceAccount; deleted afterwards without waiting."""
    name = f"vr-test-{os.getpid()}-{next(_counter)}"
    cluster.kubectl("create", "namespace", name)
    wait_for(lambda: cluster.run("-n", name, "get", "sa", "default").status == 0, "the default ServiceAccount")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
