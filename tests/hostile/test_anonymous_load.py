"""What callers without a token may cost: memory of bodies, connections, time of hashing, guesses of passwords."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.cloud import ADMIN, SECRET, Cloud, FakeHost, wait_for

MIB = 1024 * 1024
TOKENS = "/identity/v3/auth/tokens"
HOST = {"Authorization": f"Bearer {SECRET}"}


REAL_COST = ("--password-cost", "14")  # what the service takes by itself


@pytest.fixture(scope="module")
def agents() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def apart(agents: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud whose hosts have a listener of their own."""
    running = Cloud(tmp_path_factory.mktemp("apart"), None, *REAL_COST, agents=agents)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    running = Cloud(tmp_path, None, *REAL_COST)
    running.start()
    yield running
    assert running.stop() == 0


def memory_mib(cloud: Cloud) -> float:
    """The most that the service ever held."""
    assert cloud.process is not None
    lines = Path(f"/proc/{cloud.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def pour(port: int, method: str, path: str, headers: dict[str, str], mib: int) -> tuple[int, int]:
    """Send a chunked body until the other side has enough; the status, and how many MiB went out."""
    chunk = b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked",
                 *(f"{name}: {value}" for name, value in headers.items())]  # fmt: skip
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        sent = 0
        with contextlib.suppress(OSError):
            while sent < mib:
                stream.sendall(chunk)
                sent += 1
        with contextlib.suppress(OSError):
            answer = http.client.HTTPResponse(stream)
            answer.begin()
            return answer.status, sent
    return 0, sent


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", TOKENS, {}),
        ("POST", "/identity/v3/users/x/password", {}),
        ("POST", "/network/v2.0/networks", {}),
        ("POST", "/network/v2.0/networks", {"X-Auth-Token": "demo"}),
        ("PUT", "/key-manager/v1/secrets/00000000-0000-0000-0000-000000000000", {"X-Auth-Token": "demo"}),
        ("PUT", "/agent/v1/hosts/host-a/report", HOST),
        ("PUT", "/agent/v1/hosts/host-a/report", {}),
    ],
    ids=["login", "password", "nobody", "tenant", "secret", "host", "no host"],
)
def test_a_body_without_end_costs_no_memory(apart: Cloud, method: str, path: str, headers: dict[str, str]) -> None:
    if "X-Auth-Token" in headers:
        headers = {"X-Auth-Token": apart.token()}
    before = memory_mib(apart)
    port = apart.agent_port if path.startswith("/agent/") else apart.port
    status, sent = pour(port, method, path, headers, 200)
    assert status in (0, 401, 413)  # 0: it was closed while more came
    assert sent < 100, "the service has read on"
    assert memory_mib(apart) - before < 60
    assert apart.request("GET", "/healthcheck")[0] == 200


def half_open(port: int) -> socket.socket | None:
    """A connection that has sent a part of a request."""
    with contextlib.suppress(OSError):
        stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        stream.sendall(b"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\n")
        return stream
    return None


def test_half_open_connections_keep_nobody_else_out(apart: Cloud) -> None:
    host = FakeHost(apart, "host-a").start()
    streams = [half_open(apart.port) for _ in range(1100)]
    try:
        refused = http.client.HTTPConnection("127.0.0.1", apart.port, timeout=10)
        with contextlib.suppress(ConnectionError):  # its answer may be lost: it has not been asked anything
            refused.request("GET", "/healthcheck")
            answer = refused.getresponse()
            assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True)
        refused.close()
        other = http.client.HTTPConnection("127.0.0.1", apart.port, timeout=10, source_address=("127.0.0.2", 0))
        other.request("GET", "/healthcheck")
        assert other.getresponse().status == 200  # another address has room
        other.close()
        host.report()  # and hosts have a listener of their own
        # Nobody waits for the rest of a request for ever.
        wait_for(lambda: apart.request("GET", "/healthcheck")[0] == 200, 30.0)
    finally:
        host.stop()
        for stream in streams:
            if stream is not None:
                stream.close()


def test_a_host_without_the_secret_is_written_down(apart: Cloud) -> None:
    answer = apart.request("PUT", "/agent/v1/hosts/stranger/report", {}, port=apart.agent_port)
    assert answer[0] == 401
    found = [
        (line["status"], line["api"]) for line in audit(apart) if line["path"] == "/agent/v1/hosts/stranger/report"
    ]
    assert found == [(401, "agent")]


def test_hosts_have_a_listener_that_tenants_do_not_reach(apart: Cloud) -> None:
    assert apart.request("PUT", "/agent/v1/hosts/host-b/report", {"physical_networks": []}, HOST)[0] == 404
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", apart.agent_port, timeout=10)) as host:
        host.request("GET", "/network/v2.0/networks", headers={"X-Auth-Token": apart.token()})
        assert host.getresponse().status == 404


def login(cloud: Cloud, user: str, password: str) -> tuple[int, dict[str, str]]:
    who = {"name": user, "domain": {"id": "default"}, "password": password}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}
    status, _, headers = cloud.request("POST", TOKENS, body, timeout_s=60.0)
    return status, headers


def audit(cloud: Cloud) -> list[dict[str, Any]]:
    lines = (cloud.directory / "log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_guesses_of_a_password_are_slowed_down_and_written_down(cloud: Cloud) -> None:
    answers = [login(cloud, "admin", f"guess-{number}") for number in range(8)]
    assert [status for status, _ in answers[:6]] == [401] * 6
    assert 429 in [status for status, _ in answers]
    assert all(int(headers["retry-after"]) > 0 for status, headers in answers if status == 429)
    assert login(cloud, "demo", "demo-password")[0] == 201  # somebody else at the same address is not kept out
    failures = [line for line in audit(cloud) if line["status"] == 401]
    assert [(line["claimed_user"], line["client"], line["result"]) for line in failures] == [
        ("admin", "127.0.0.1", "refused")
    ] * len(failures)
    assert len(failures) >= 6
    text = (cloud.directory / "log").read_text()
    assert "guess-" not in text
    assert ADMIN not in text


def test_a_password_in_the_field_of_the_name_is_not_written_down(cloud: Cloud) -> None:
    assert login(cloud, "my-secret-passphrase", "admin")[0] == 401
    assert audit(cloud)[-1]["claimed_user"] == "(no such user)"
    assert "my-secret-passphrase" not in (cloud.directory / "log").read_text()


def test_a_flood_of_password_changes_holds_up_no_write_and_no_host(cloud: Cloud) -> None:
    host = FakeHost(cloud, "host-a").start()
    token = {"X-Auth-Token": cloud.token()}
    body = {"user": {"original_password": "x", "password": "y"}}
    flooding = True

    def flood(number: int) -> None:
        while flooding:
            with contextlib.suppress(OSError, http.client.HTTPException):
                cloud.request("POST", f"/identity/v3/users/{number}/password", body, timeout_s=60.0)

    with ThreadPoolExecutor(20) as crowd:
        floods = [crowd.submit(flood, number) for number in range(20)]
        try:
            wait_for(lambda: any(line["path"].endswith("/password") for line in audit(cloud)))
            for _ in range(30):
                assert cloud.request("POST", "/network/v2.0/networks", {"network": {"name": "x"}}, token)[0] == 201
        finally:
            flooding = False
        for one in floods:
            one.result()
    hosts = cloud.request("GET", "/load-balancer/v2.0/vrata/transitions", None, {"X-Auth-Token": cloud.token("admin")})[
        1
    ]
    assert [one for one in hosts["transitions"] if one["after"] == "SILENT"] == []
    host.stop()
