"""`vrata doctor` on machines where something is really wrong: each is named with its remedy, and the exit status is 1."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.api.cloud.test_host_access import Running, run

from vrata.base import pki

DOCTOR = [sys.executable, "-c", "from vrata.cli.main import main; main()", "doctor", "--output", "json"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("doctor"))
    text = made.config.read_text().replace("https://127.0.0.1:8780", f"https://127.0.0.1:{made.port}")
    made.config.write_text(text)
    yield made
    made.stop()


def doctor(*words: object, before: tuple[str, ...] = (), status: int = 0) -> dict[str, dict[str, Any]]:
    """Every check by its name."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    command = [*before, *DOCTOR, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


def wrong(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    assert all(one["remedy"] for one in checks.values() if one["verdict"] != "ok")
    return {name: one["found"] for name, one in checks.items() if one["verdict"] == "wrong"}


@pytest.fixture
def host(cloud: Running, tmp_path: Path) -> Path:
    """The configuration of a host that has joined."""
    cloud.join("doctor", tmp_path / "certificates")
    config = tmp_path / "host.toml"
    config.write_text(
        f'[host]\nname = "doctor"\ncloud-url = ["{cloud.url}"]\ncertificates = "{tmp_path}/certificates"\n'
        f'state-dir = "{tmp_path}/state"\n'
    )
    return config


def test_nothing_is_wrong_with_a_cloud_that_serves(cloud: Running) -> None:
    found = doctor("--config", cloud.config)
    assert wrong(found) == {}
    assert found[f"port 127.0.0.1:{cloud.port}"]["found"].startswith("in use by vrata")
    versions = found[f"cloud https://127.0.0.1:{cloud.port}"]["found"]
    assert [one.rpartition(" v")[0] for one in versions.split(", ")] == ["identity", "network", "load-balancer"]
    assert found["clock"]["verdict"] == "ok"


def test_a_clock_that_is_off_by_an_hour(cloud: Running) -> None:
    for shift, says in (("+1h", "ahead of"), ("-2h", "behind")):
        found = wrong(doctor("--config", cloud.config, before=("faketime", "-f", shift), status=1))
        assert says in found["clock"]


def test_an_expired_certificate_and_one_of_another_key(cloud: Running, tmp_path: Path) -> None:
    authority = pki.Pair(*((cloud.directory / f"pki/ca.{end}").read_bytes() for end in ("crt", "key")))
    server = pki.new_server(authority, ["127.0.0.1"], timedelta(minutes=-1))
    other = pki.new_server(pki.new_authority("other"), ["cloud.example"])
    config = tmp_path / "cloud.toml"
    public = f'public-url = "https://127.0.0.1:{cloud.port}"\n'
    config.write_text(cloud.config.read_text().replace(f"{cloud.directory}/pki/server", f"{tmp_path}/server") + public)
    (tmp_path / "server.crt").write_bytes(server.certificate)
    (tmp_path / "server.key").write_bytes(server.key)
    name = f"certificate {tmp_path}/server.crt"
    assert "it has ended on" in wrong(doctor("--config", config, status=1))[name]
    (tmp_path / "server.crt").write_bytes(other.certificate)
    said = wrong(doctor("--config", config, status=1))[name]
    for problem in (
        "the key is another certificate's",
        "another authority has signed it",
        "it lacks the name 127.0.0.1",
    ):
        assert problem in said
    (tmp_path / "server.crt").unlink()
    assert "No such file" in wrong(doctor("--config", config, status=1))[name]


def test_a_port_that_another_program_has(cloud: Running, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = tmp_path / "cloud.toml"
        config.write_text(cloud.config.read_text().replace(f"127.0.0.1:{cloud.agent_port}", address))
        found = wrong(doctor("--config", config, status=1))
    assert found == {f"port {address}": f"--agent-listen: taken by {Path(sys.executable).name} (process {os.getpid()})"}


def test_a_key_of_the_configuration_that_no_option_has(cloud: Running, tmp_path: Path) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(cloud.config.read_text().replace("tls-cert", "tls-crt"))
    assert "did you mean tls-cert?" in wrong(doctor("--config", config, status=1))[f"configuration {config}"]
    config.write_text("[cloud\n")
    assert "write TOML" in wrong(doctor("--config", config, status=1))[f"configuration {config}"]


def test_a_database_of_a_newer_version_and_one_that_is_not_there(tmp_path: Path) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(f'[cloud]\ndata-dir = "{tmp_path}"\n[cloud.serve]\nlisten = ["127.0.0.1:0"]\n')
    assert wrong(doctor("--config", config)) == {}
    run("cloud", "migrate", "--data-dir", tmp_path)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/cloud.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
        connection.execute(sa.text("UPDATE databases SET least = '0099'"))
    engine.dispose()
    (problem,) = wrong(doctor("--config", config, status=1)).values()
    assert "newer than this version knows" in problem
    config.write_text('[cloud]\ndatabase = "postgresql+psycopg://vrata@127.0.0.1:1/vrata"\n[cloud.serve]\n')
    (problem,) = wrong(doctor("--config", config, status=1)).values()
    assert "refused" in problem


def test_a_host_that_has_joined_and_one_that_was_revoked(cloud: Running, host: Path) -> None:
    assert not [name for name in wrong(doctor("--config", host)) if name.startswith(("cloud", "certificate", "clock"))]
    run("--config", cloud.config, "cloud", "revoke-host", "doctor")
    found = doctor("--config", host, status=1)
    assert wrong(found)[f"cloud {cloud.url}"] == "403: this certificate has been revoked"
    assert "join again" in found[f"cloud {cloud.url}"]["remedy"]


def test_a_program_that_is_not_there(host: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.touch(mode=0o600)
    hide = f'mount --bind {nothing} $(PATH=$PATH:/usr/sbin command -v keepalived) && exec "$@"'
    found = doctor("--config", host, before=("unshare", "--mount", "sh", "-c", hide, "sh"), status=1)
    assert wrong(found) == {"program keepalived": "not installed"}
    assert found["program keepalived"]["remedy"] == "apt-get install keepalived"


def test_a_report_for_people_has_a_line_a_check_and_the_remedy_below(tmp_path: Path) -> None:
    command = [*DOCTOR[:-2], "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"KUBECONFIG": ""})
    assert done.returncode == 1
    line, remedy, *_ = done.stdout.splitlines()
    assert line.startswith(f"wrong    configuration {tmp_path}/none.toml: name a file that can be read")
    assert remedy.startswith("         correct the file")
