"""What the operator's own acts may not do by accident: passwords, tokens, keys, files, the audit log, migrations."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_shapes import Ground
from tests.support.cloud import ADMIN, DEMO, Cloud, FakeHost, wait_for
from tests.support.pki import issue

from vrata.cloud.audit import ANONYMOUS_PER_S, PATH_MAX
from vrata.cloud.keymanager.vault import new_key

TOKENS = "/identity/v3/auth/tokens"
COMMAND = [sys.executable, "-c", "from vrata.cli.main import main; main()", "cloud"]


def run(*arguments: str | Path, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A `vrata cloud` command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], input=answer, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    running = Cloud(tmp_path, None, "--audit-log", str(tmp_path / "audit"), "--network-quota", "none")
    running.start()
    yield running
    running.stop()


def login(cloud: Cloud, password: str, user: str = "admin") -> tuple[int, str]:
    who = {"name": user, "domain": {"id": "default"}, "password": password}
    scope = {"project": {"name": user, "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
    status, _, headers = cloud.request("POST", TOKENS, body, timeout_s=30.0)
    return status, headers.get("x-subject-token", "")


def restart(cloud: Cloud) -> None:
    cloud.kill()
    cloud.start()


# Passwords -------------------------------------------------------------------------------------------------------------


def test_a_password_that_was_changed_stays_changed_over_a_restart(cloud: Cloud) -> None:
    token = login(cloud, ADMIN)[1]
    users = cloud.request("GET", "/identity/v3/users?name=admin", None, {"X-Auth-Token": token})[1]["users"]
    path = f"/identity/v3/users/{users[0]['id']}/password"
    body = {"user": {"original_password": ADMIN, "password": "changed"}}
    assert cloud.request("POST", path, body, timeout_s=30.0)[0] == 204
    restart(cloud)
    assert [login(cloud, password)[0] for password in ("changed", ADMIN)] == [201, 401]


def test_a_reset_password_ends_every_token(cloud: Cloud, tmp_path: Path) -> None:
    token = {"X-Auth-Token": login(cloud, ADMIN)[1]}
    assert cloud.request("GET", "/network/v2.0/networks", None, token)[0] == 200
    done = run("reset-password", "--data-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    password = done.stdout.splitlines()[-1]
    assert cloud.request("GET", "/network/v2.0/networks", None, token)[0] == 401
    assert [login(cloud, one)[0] for one in (password, ADMIN)] == [201, 401]
    assert login(cloud, DEMO, "demo")[0] == 201  # nobody else's


def test_a_reset_of_nobody_says_so(cloud: Cloud, tmp_path: Path) -> None:
    _ = cloud
    done = run("reset-password", "--data-dir", tmp_path, "--user", "nobody")
    assert (done.returncode != 0, "there is no user nobody in domain default" in done.stderr) == (True, True)


# The audit log ---------------------------------------------------------------------------------------------------------


def lines(cloud: Cloud) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cloud.directory / "audit").read_text().splitlines()]


def test_every_write_of_every_api_has_its_line(cloud: Cloud) -> None:
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    demo = {"X-Auth-Token": cloud.token()}
    asked: dict[str, tuple[int, str, str]] = {}
    for place in ground.places():
        method = place.endpoint.method
        if method == "GET":
            continue
        status, _, headers = cloud.request(method, place.path, {"x": 1}, demo, timeout_s=30.0)
        asked[headers["x-openstack-request-id"]] = (status, method, place.path)
    ground.close()
    for host in hosts:
        host.stop()
    found = {line["request_id"]: line for line in lines(cloud)}
    assert len(asked) > 140
    for request_id, what in asked.items():
        line = found[request_id]
        assert (line["status"], line["method"], line["path"]) == what
        assert line["event"] == "audit"
        assert line["client"] == "127.0.0.1"
        assert line["user_id"], line
        assert line["project_id"], line
        assert line["result"] == ("success" if line["status"] < 400 else "refused"), line
        assert "reason" in line or line["status"] <= 400


def test_a_refusal_without_a_route_has_its_line_within_bounds(cloud: Cloud) -> None:
    asked = [("GET", "/no/such/path", 404), ("POST", "/compute/v9/x", 404), ("DELETE", "/metrics", 405),
             ("GET", TOKENS + "/x", 404), ("PUT", TOKENS, 405), ("POST", "/agent/v1/hosts/h/desired", 405),
             ("PATCH", "/network/v2.0/networks", 405), ("GET", "/" + "x" * 3000, 404)]  # fmt: skip
    for method, path, status in asked:
        assert cloud.request(method, path, None)[0] == status, (method, path)
    found = [(line["method"], line["path"], line["status"]) for line in lines(cloud) if line["result"] == "refused"]
    assert found == [(method, path[:PATH_MAX], status) for method, path, status in asked]
    before = len(lines(cloud))
    for _ in range(4 * ANONYMOUS_PER_S):
        cloud.request("GET", "/no/such/path", None)
    flood = lines(cloud)[before:]
    assert len(flood) + sum(line.get("left_out", 0) for line in flood) <= 4 * ANONYMOUS_PER_S


def test_no_line_has_a_secret_in_it(cloud: Cloud) -> None:
    token = {"X-Auth-Token": cloud.token("admin")}
    marks = ["mark-password", "mark-payload", "mark-query", "mark-body", ADMIN, token["X-Auth-Token"]]
    ask = cloud.request
    user = {"user": {"name": "u", "password": "mark-password"}}
    assert ask("POST", "/identity/v3/users", user, token, timeout_s=30.0)[0] == 201
    secret = {"payload": "mark-payload", "payload_content_type": "text/plain"}
    assert ask("POST", "/key-manager/v1/secrets", secret, token)[0] == 201
    assert ask("POST", "/key-manager/v1/secrets", secret | {"mode": 7, "payload": "mark-payload\0"}, token)[0] == 400
    assert ask("PUT", "/network/v2.0/networks/x?token=mark-query", {"network": {"name": "mark-body"}}, token)[0] == 404
    assert ask("GET", f"/network/v2.0/networks?x={token['X-Auth-Token']}", None, {"X-Auth-Token": "bad"})[0] == 401
    assert login(cloud, "mark-password")[0] == 401
    for name in ("audit", "log"):
        text = (cloud.directory / name).read_text()
        assert [mark for mark in marks if mark in text] == []


# Files and keys --------------------------------------------------------------------------------------------------------


def test_the_database_and_its_keys_are_their_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o755)
    (directory / "cloud.db").touch(mode=0o644)
    cloud = Cloud(directory)
    (directory / "keys").write_text(new_key())
    (directory / "keys").chmod(0o644)
    cloud.start()
    try:
        cloud.token()
        for name in ("cloud.db", "cloud.db-wal", "cloud.db-shm", "keys"):
            assert (directory / name).stat().st_mode & 0o777 == 0o600, name
    finally:
        assert cloud.stop() == 0


def test_by_default_the_keys_are_not_in_the_directory_that_is_copied(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    done = run("serve", "--data-dir", directory, "--listen-fd", "999")
    assert "--listen-fd: 999" in done.stderr  # it came so far
    assert (tmp_path / "data.key").stat().st_mode & 0o777 == 0o600
    assert not [path for path in directory.iterdir() if "key" in path.name]


def test_keys_of_an_older_version_stay_in_use(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_text(new_key())
    done = run("serve", "--data-dir", tmp_path / "data", "--listen-fd", "999")
    assert "secret_key_beside_database" in done.stderr
    assert not (tmp_path / "data.key").exists()


def test_a_key_is_retired_without_a_secret_being_lost(cloud: Cloud, tmp_path: Path) -> None:
    token = {"X-Auth-Token": cloud.token()}
    made = []
    for number in range(205):  # more than two batches
        body = {"payload": f"payload-{number}", "payload_content_type": "text/plain"}
        said = cloud.request("POST", "/key-manager/v1/secrets", body, token)[1]
        made.append(said["secret_ref"].rsplit("/", 1)[-1])
    keys, old = tmp_path / "keys", (tmp_path / "keys").read_text()
    keys.write_text(new_key() + "\n" + old)
    cloud.stop()
    done = run("reseal", "--data-dir", tmp_path, "--secret-key-file", keys)
    assert (done.returncode, done.stdout.split()[0]) == (0, "205"), done.stderr
    keys.write_text(keys.read_text().splitlines()[0])
    again = Cloud(tmp_path, None, "--network-quota", "none")
    again.start()
    try:
        for number, secret in enumerate(made):
            path = f"/key-manager/v1/secrets/{secret}/payload"
            status, text, _ = again.request("GET", path, None, {"X-Auth-Token": again.token()})
            assert (status, text) == (200, f"payload-{number}")
    finally:
        again.stop()


def test_a_reseal_without_the_old_key_changes_nothing(cloud: Cloud, tmp_path: Path) -> None:
    body = {"payload": "text", "payload_content_type": "text/plain"}
    token = {"X-Auth-Token": cloud.token()}
    secret = cloud.request("POST", "/key-manager/v1/secrets", body, token)[1]["secret_ref"].rsplit("/", 1)[-1]
    (tmp_path / "other").write_text(new_key())
    done = run("reseal", "--data-dir", tmp_path, "--secret-key-file", tmp_path / "other")
    assert (done.returncode != 0, "no key opens secret" in done.stderr) == (True, True)
    assert cloud.request("GET", f"/key-manager/v1/secrets/{secret}/payload", None, token)[1] == "text"


# The database's address ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "commands"),
    [
        ("postgresql+psycopg://u:hunter2@127.0.0.1:1/x", ("serve", "migrate", "reset-password", "reseal")),
        ("postgresql+psycopg://u@/x?password=hunter2", ("migrate",)),
    ],
)
def test_a_password_on_the_command_line_is_refused(url: str, commands: tuple[str, ...]) -> None:
    for command in commands:
        more = ["--secret-key-file", "/dev/null"] if command == "reseal" else []
        done = run(command, "--database", url, *more)
        assert done.returncode != 0
        assert "VRATA_DATABASE or --database-file" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


def test_the_address_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cloud.db'}"
    assert run("migrate", VRATA_DATABASE=url).returncode == 0
    (tmp_path / "url").write_text(url + "\n")
    assert "database is at 0" in run("migrate", "--database-file", tmp_path / "url").stdout
    assert (tmp_path / "cloud.db").stat().st_mode & 0o777 == 0o600
    wrong = run("migrate", VRATA_DATABASE="postgresql+psycopg://u:hunter2@127.0.0.1:1/x")
    assert (wrong.returncode != 0, "hunter2" in wrong.stderr) == (True, False)


def test_going_back_asks_first(tmp_path: Path) -> None:
    assert run("migrate", "--data-dir", tmp_path).returncode == 0
    for older, answer in (("base", "n\n"), ("0001", "")):
        done = run("migrate", "--data-dir", tmp_path, older, answer=answer)
        assert (done.returncode != 0, "nothing was changed" in done.stderr) == (True, True)
    assert "database is at 0" in run("migrate", "--data-dir", tmp_path).stdout  # the newest is not older
    assert run("migrate", "--data-dir", tmp_path, "0001", answer="y\n").stdout.endswith("database is at 0001\n")
    assert run("migrate", "--data-dir", tmp_path, "base", "--yes").stdout == "database is at base\n"


def test_a_listener_keeps_its_certificate_when_keys_change(tmp_path: Path) -> None:
    """What was made of a PKCS #12 file is sealed, too, and goes along."""
    cloud = Cloud(tmp_path, None, "--network-quota", "none")
    cloud.start()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    body = {
        "payload": base64.b64encode(issue("one.example").pkcs12()).decode(),
        "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
    }  # fmt: skip
    reference = ground.ask("POST", "/key-manager/v1/secrets", body)[1]["secret_ref"]
    listener = {
        "loadbalancer_id": ground.ids["loadbalancers"], "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
        "default_tls_container_ref": reference,
    }  # fmt: skip
    path = "/load-balancer/v2.0/lbaas/listeners"
    wait_for(lambda: ground.ask("POST", path, {"listener": listener})[0] == 201)

    def pems() -> set[str]:
        found = [one for host in hosts for one in host.desired["instances"]]
        tls = [each["tls"] for one in found for each in one.get("listeners", ()) if "tls" in each]
        return {one["default_certificate"].get("pem", "") for one in tls}

    before = wait_for(pems)
    assert all("PRIVATE KEY" in pem for pem in before)
    keys = tmp_path / "keys"
    keys.write_text(new_key() + "\n" + keys.read_text())
    cloud.kill()
    assert run("reseal", "--data-dir", tmp_path, "--secret-key-file", keys).returncode == 0
    keys.write_text(keys.read_text().splitlines()[0])
    for host in hosts:
        host.desired = {"revision": 0, "instances": []}
    cloud.start()
    assert wait_for(pems) == before
    ground.close()
    for host in hosts:
        host.stop()
    assert cloud.stop() == 0
