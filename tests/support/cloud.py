"""A cloud for tests: our own service in a subprocess, or the one that VRATA_TEST_CLOUD names in clouds.yaml.

Also hosts that speak the agent API without doing anything, and a PostgreSQL cluster of our own.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack
from tests.support.pauses import pause_s

from vrata.cloud.clouds import write_clouds_yaml

SECRET = "host-secret"
ADMIN, DEMO = "admin-password", "demo-password"
NETWORKS = ("external", "tenant")


def wait_for(what: Callable[[], Any], timeout_s: float = 90.0) -> Any:
    """The first true value of `what`; AssertionError when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        value = what()
        if value:
            return value
        now = time.monotonic()
        assert now < deadline, f"not true within {timeout_s} s"
        time.sleep(pause_s(now - began, 0.01))


class Cloud:
    """One running cloud service with its files in `directory`."""

    def __init__(
        self, directory: Path, database: str | None = None, *extra: str, mortal: bool = False,
        agents: socket.socket | None = None,
    ) -> None:  # fmt: skip
        self.agents = agents  # where hosts are served, if not with everybody else
        self.death = directory / "death"  # says when a mortal one dies (`tests.support.mortal`)
        self.mortal = mortal
        self.directory, self.database, self.extra = directory, database, extra
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.agent_port = agents.getsockname()[1] if agents else self.port
        self.url = f"http://127.0.0.1:{self.port}"
        for name, text in (("admin", ADMIN), ("demo", DEMO), ("secret", SECRET)):
            (directory / name).write_text(text)
        self.config = directory / "clouds.yaml"
        write_clouds_yaml(self.config, self.url, admin_password=ADMIN, demo_password=DEMO)
        self.process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}
        self.masters: dict[str, str] = {}  # owner -> its active instance, among the fake hosts

    def start(self) -> None:
        """Start (again); the socket stays open across restarts, so nobody is refused."""
        where = ["--database", self.database] if self.database else ["--data-dir", str(self.directory)]
        command = [sys.executable, "-c", "from vrata.cli.main import main; main()", "cloud"]
        if self.database:
            subprocess.run([*command, "migrate", *where], check=True, capture_output=True)
        files = (
            ("admin-password", "admin"),
            ("demo-password", "demo"),
            ("host-secret", "secret"),
            ("secret-key", "keys"),
        )
        options = [part for name, file in files for part in (f"--{name}-file", str(self.directory / file))]
        options += ["--password-cost", "4"]  # 16 iterations instead of 16,384: tests log in all the time
        descriptors = [self.socket.fileno()]
        if self.agents is not None:
            options += ["--agent-listen-fd", str(self.agents.fileno())]
            descriptors.append(self.agents.fileno())
        if self.mortal:
            command = [sys.executable, "-m", "tests.support.mortal", str(self.death), "cloud"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "serve", *where, "--listen-fd", str(self.socket.fileno()), *options, *self.extra],
                pass_fds=descriptors, stdout=log, stderr=log,
                env=os.environ | {"PYTHONWARNINGS": "always::ResourceWarning"},
            )  # fmt: skip
        wait_for(self._healthy)

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/healthcheck")[0] == 200
        return False

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status. It leaves no connection open, neither then nor while it served."""
        assert self.process is not None
        self.process.terminate()
        try:
            status = self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.socket.close()
        unclosed = [line for line in (self.directory / "log").read_text().splitlines() if "ResourceWarning" in line]
        assert not unclosed, unclosed
        return status

    def connect(self, user: str = "demo") -> Any:
        """An openstacksdk connection as demo or admin."""
        name = "vrata" if user == "demo" else f"vrata-{user}"
        region = openstack.config.OpenStackConfig(config_files=[str(self.config)]).get_one(name)
        return openstack.connection.Connection(config=region)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 60.0,
        port: int | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """One plain HTTP request: status, decoded body, headers."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout_s)
        try:
            raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            connection.request(method, path, raw, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers.get("content-type", "")
            decoded = json.loads(data) if data and "json" in kind else data.decode()
            return answer.status, decoded, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def token(self, user: str = "demo") -> str:
        """A token of demo or admin in the project of that name, made once: hashing a password takes a while."""
        if user in self._tokens:
            return self._tokens[user]
        domain = {"id": "default"}
        password = {"admin": ADMIN, "demo": DEMO}[user]
        auth = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": domain, "password": password}},
            },
            "scope": {"project": {"name": user, "domain": domain}},
        }
        status, body, headers = self.request("POST", "/identity/v3/auth/tokens", {"auth": auth})
        assert status == 201, body
        self._tokens[user] = headers["x-subject-token"]
        return self._tokens[user]


class FakeHost:
    """A host that carries nothing but says it does: applies each desired set at once unless told otherwise."""

    def __init__(self, cloud: Cloud, name: str, networks: tuple[str, ...] = NETWORKS) -> None:
        self.cloud, self.name, self.networks = cloud, name, networks
        self.applying = True
        self.error: str | None = None
        self.member_status: dict[str, str] = {}
        self.stats: dict[str, dict[str, int]] = {}
        self.transitions: dict[str, list[dict[str, Any]]] = {}  # by instance; told again and again
        self.desired: dict[str, Any] = {"revision": 0, "instances": []}
        self._applied: list[dict[str, Any]] = []
        self._wishes: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self) -> "FakeHost":
        """Report once, so that the host exists, then live in a thread."""
        self.report()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Fall silent."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(60)
        self._let_go(set())

    def report(self) -> None:
        """PUT what it carries."""
        body = self.report_body()
        path, port = f"/agent/v1/hosts/{self.name}/report", self.cloud.agent_port

        def put() -> tuple[int, Any] | None:
            status, said, _ = self.cloud.request("PUT", path, body, self._headers, port=port)
            # A report that takes long is answered before it is taken in: hosts send the next one then.
            return None if status == 503 and "being taken in" in said else (status, said)

        status, said = wait_for(put)
        if status == 503:
            raise ConnectionError(said)
        assert status == 204, said

    def report_body(self) -> dict[str, Any]:
        """What it says, after it has applied what is desired."""
        if self.applying:
            self._let_go({one["id"] for one in self.desired["instances"]})
            self._applied = self.desired["instances"]
        instances = [
            {
                "id": one["id"],
                "observed_generation": one["generation"],
                "state": self._elect(one),
                "error": self.error,
                "members": {
                    member["id"]: self.member_status.get(member["address"], "ONLINE")
                    for pool in one.get("pools", ())
                    for member in pool.get("members", ())
                },
                "listeners": {
                    listener["id"]: self.stats[one["id"]]
                    for listener in one.get("listeners", ())
                    if one["id"] in self.stats
                },
                "transitions": self.transitions.get(one["id"], []),
            }
            for one in self._applied
        ]
        return {"physical_networks": self.networks, "instances": instances}

    def _elect(self, one: dict[str, Any]) -> str:
        """VRRP's part: who is active stays so until it yields to its peer, leaves, or falls silent."""
        masters, owner, wish = self.cloud.masters, one["owner_id"], one.get("yields", 0)
        masters.setdefault(owner, one["id"])
        peers = one["vrrp"].get("peer_instances")
        if masters.get(owner) == one["id"] and wish > self._wishes.get(one["id"], 0) and peers:
            masters[owner] = peers[0]
        self._wishes[one["id"]] = wish
        return "MASTER" if masters.get(owner) == one["id"] else "BACKUP"

    def _let_go(self, kept: set[str]) -> None:
        for one in self._applied:
            if one["id"] not in kept and self.cloud.masters.get(one["owner_id"]) == one["id"]:
                del self.cloud.masters[one["owner_id"]]

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}"}

    def poll(self, wait_s: float = 0.0) -> bool:
        """GET the desired set; True if there was news."""
        path = f"/agent/v1/hosts/{self.name}/desired?since={self.desired['revision']}&wait_s={wait_s}"
        status, body, _ = self.cloud.request("GET", path, None, self._headers, port=self.cloud.agent_port)
        assert status in (200, 204, 503), body
        if status == 200:
            self.desired = body
        return status == 200

    def _live(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll(0.3)
                self.report()
            except (OSError, http.client.HTTPException):  # the cloud is being restarted
                self._stop.wait(0.05)

    def instances(self, owner_id: str) -> list[dict[str, Any]]:
        """What it shall carry for an owner."""
        return [one for one in self.desired["instances"] if one["owner_id"] == owner_id]


class Postgresql:
    """A PostgreSQL cluster of our own; called with a name it makes a database and returns its URL.

    `port`: it is reached over TCP on the loopback, as if it were another machine; 0: over its Unix socket.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory, self.port = directory, port
        self._binaries = max(Path("/usr/lib/postgresql").iterdir()) / "bin"

    def __call__(self, name: str) -> str:
        port = ("-p", str(self.port)) if self.port else ()
        self._tool("createdb", "-h", str(self.directory), *port, "-U", "vrata", name)
        if self.port:
            return f"postgresql+psycopg://vrata@127.0.0.1:{self.port}/{name}"
        return f"postgresql+psycopg://vrata@/{name}?host={self.directory}"

    def create(self) -> None:
        """Make the cluster."""
        self._tool("initdb", "-D", self._data, "-A", "trust", "-U", "vrata", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = f"-c listen_addresses=127.0.0.1 -c port={self.port}" if self.port else "-c listen_addresses=''"
        options = f"{where} -k {self.directory} -c fsync=off -c max_connections=60"
        self._tool("pg_ctl", "-D", self._data, "-o", options, "-l", f"{self.directory}/log", "-w", "start")

    def stop(self) -> None:
        """End it as a kill would: what follows is a recovery."""
        self._tool("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def processes(self) -> list[int]:
        """Process ids, the postmaster's first."""
        parent = int(Path(self._data, "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _tool(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries / name), *arguments]
        become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*become, *command], check=True, capture_output=True, cwd="/", timeout=60)


@contextlib.contextmanager
def postgresql(port: int = 0) -> Iterator[Postgresql]:
    """A running PostgreSQL cluster in a temporary directory; over TCP if a port is given."""
    directory = Path(tempfile.mkdtemp(prefix="vrata-pg-"))
    shutil.chown(directory, "postgres")
    cluster = Postgresql(directory, port)
    try:
        cluster.create()
        cluster.start()
        yield cluster
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
