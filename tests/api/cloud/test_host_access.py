"""TLS of the cloud, and who may speak for a host: real processes, files of `vrata cloud init`, certificates of `host join`."""

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.support.kubernetes import wait_for
from tests.support.ports import free_port

from vrata.base import pki
from vrata.base.asgi import serve_http
from vrata.base.errors import VrataError
from vrata.base.tls import ServerTls
from vrata.base.wire import HostReport, read_token
from vrata.cli.cloud_data import require_tls
from vrata.cloud import host_access
from vrata.cloud.store import Store
from vrata.host.api import CloudClient
from vrata.host.credentials import Certificates
from vrata.host.join import join as join_host

VRATA = [sys.executable, "-c", "from vrata.cli.main import main; main()"]
REPORT = json.dumps({"physical_networks": [], "instances": []}).encode()


def run(*argv: object, status: int = 0, text: str = "") -> str:
    """Run `vrata`; what it prints, the last line of what is wrong if it must fail."""
    done = subprocess.run([*VRATA, *map(str, argv)], capture_output=True, text=True, input=text, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return (done.stdout if status == 0 else done.stderr.splitlines()[-1]).strip()


class Running:
    """A cloud on loopback with the configuration file of `vrata cloud init`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "etc"
        self.port, self.agent_port = free_port(), free_port()
        run("cloud", "init", "--directory", self.directory, "--name", "127.0.0.1")
        self.config = self.directory / "cloud.toml"
        text = self.config.read_text().replace("/var/lib/vrata/cloud", str(directory / "data"))
        text = text.replace("0.0.0.0:8780", f"127.0.0.1:{self.port}").replace(
            "0.0.0.0:8781", f"127.0.0.1:{self.agent_port}"
        )
        self.config.write_text(text + "password-cost = 4\n")
        self.log = directory / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*VRATA, "--config", str(self.config), "cloud", "serve"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, "the cloud answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/healthcheck", port=self.port)[0] == 200
        except OSError:
            return False

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.agent_port}"

    def context(self, host: Path | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.directory / "pki/ca.crt"))
        if host is not None:
            made.load_cert_chain(host / "host.crt", host / "host.key")
        return made

    def ask(
        self, method: str, path: str, host: Path | None = None, *, port: int = 0, body: bytes = b"", token: str = ""
    ) -> tuple[int, str]:
        """Status and text of one request, as this host."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port or self.agent_port, context=self.context(host), timeout=20
        )
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def token(self, host: str, *options: str) -> str:
        return run("--config", self.config, "cloud", "host-token", *options, host)

    def join(self, host: str, directory: Path, token: str = "", status: int = 0) -> str:
        where = ("--cloud-url", self.url, "--certificates", directory, "--token-file", "-")
        return run("host", "join", "--name", host, *where, status=status, text=token or self.token(host))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("access"))
    yield made
    assert made.stop() == 0


def desired(host: str) -> str:
    return f"/agent/v1/hosts/{host}/desired"


def test_a_host_that_has_joined_reports_and_reads_its_own_set_alone(cloud: Running, tmp_path: Path) -> None:
    assert "a-1 has joined" in cloud.join("a-1", tmp_path)
    assert (tmp_path / "host.key").stat().st_mode & 0o077 == 0
    assert cloud.ask("PUT", "/agent/v1/hosts/a-1/report", tmp_path, body=REPORT)[0] == 204
    assert cloud.ask("GET", desired("a-1"), tmp_path)[0] == 200
    for method, path in (
        ("GET", desired("a-2")),
        ("PUT", "/agent/v1/hosts/a-2/report"),
        ("POST", "/agent/v1/hosts/a-2/certificate"),
    ):
        status, said = cloud.ask(method, path, tmp_path, body=REPORT if method != "GET" else b"")
        assert (status, "of host a-1, not of a-2" in said) == (403, True), path


@pytest.mark.parametrize("path", [desired("b"), "/agent/v1/hosts/b/report", "/agent/v1/hosts/b/certificate"])
def test_without_a_certificate_nothing_of_a_host_is_told(cloud: Running, path: str) -> None:
    method = "GET" if path.endswith("desired") else "PUT" if path.endswith("report") else "POST"
    for token in ("", "x" * 32, "\xff"):
        status, said = cloud.ask(method, path, token=token, body=REPORT if method != "GET" else b"")
        assert (status, "vrata host join" in said) == (401, True)


def test_certificates_of_others_are_refused_in_the_handshake(cloud: Running, tmp_path: Path) -> None:
    """Of another authority, and of this one but not for clients."""
    other = pki.new_authority("other")
    key = pki.new_key()
    made = pki.sign_request(other, pki.new_request(key, "c"), "c", datetime.now(UTC), timedelta(days=1))
    (tmp_path / "host.crt").write_bytes(made)
    (tmp_path / "host.key").write_bytes(key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        cloud.ask("GET", desired("c"), tmp_path)
    shutil.copy(cloud.directory / "pki/server.crt", tmp_path / "host.crt")
    shutil.copy(cloud.directory / "pki/server.key", tmp_path / "host.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        cloud.ask("GET", desired("c"), tmp_path)


def test_tenants_listener_knows_no_hosts(cloud: Running, tmp_path: Path) -> None:
    cloud.join("d", tmp_path)
    for path in (desired("d"), "/agent/v1/authority"):
        assert cloud.ask("GET", path, tmp_path, port=cloud.port)[0] == 404


def test_a_token_is_good_once_for_its_host_and_until_it_ends(cloud: Running, tmp_path: Path) -> None:
    token = cloud.token("e")
    assert "for another host than f" in cloud.join("f", tmp_path / "f", token, status=1)
    cloud.join("e", tmp_path / "e", token)
    assert "has been used" in cloud.join("e", tmp_path / "e", token, status=1)
    assert "not a token" in cloud.join("e", tmp_path / "e", "nonsense", status=1)
    wrong = f"{token.partition('.')[0]}.{'0' * 64}"
    assert "another authority answers" in cloud.join("e", tmp_path / "e", wrong, status=2)
    assert not (tmp_path / "f" / "host.crt").exists()


def test_what_a_joining_host_asks_for_beside_its_name_does_not_count(cloud: Running, tmp_path: Path) -> None:
    token = read_token(cloud.token("g"))
    asked = pki.new_request(pki.new_key(), "h")
    status, said = cloud.ask("POST", "/agent/v1/hosts/g/join", body=asked, token=token.secret)
    found = pki.read_host_certificate(said.encode())
    assert status == 200
    assert found is not None
    assert found.host == "g"
    for body in (b"", b"-----BEGIN", b"x" * 20_000):
        assert (
            cloud.ask("POST", "/agent/v1/hosts/g/join", body=body, token=read_token(cloud.token("g")).secret)[0] == 400
        )
    assert tmp_path.exists()


def test_a_host_that_was_revoked_is_refused_at_once_and_may_join_again(cloud: Running, tmp_path: Path) -> None:
    cloud.join("i", tmp_path)
    unused = cloud.token("i")
    assert cloud.ask("PUT", "/agent/v1/hosts/i/report", tmp_path, body=REPORT)[0] == 204
    run("--config", cloud.config, "cloud", "revoke-host", "i")
    time.sleep(host_access_accepted_s())  # what was accepted a moment ago
    status, said = cloud.ask("GET", desired("i"), tmp_path)
    assert (status, "has been revoked" in said) == (403, True)
    assert (
        cloud.ask("POST", "/agent/v1/hosts/i/certificate", tmp_path, body=pki.new_request(pki.new_key(), "i"))[0] == 403
    )
    assert "has been used, or has ended" in cloud.join("i", tmp_path, unused, status=1)
    cloud.join("i", tmp_path)
    assert cloud.ask("GET", desired("i"), tmp_path)[0] == 200


def test_a_host_that_renews_while_it_is_revoked_is_refused(cloud: Running, tmp_path: Path) -> None:
    for number in range(3):
        cloud.join(f"race-{number}", tmp_path)
        path, key = f"/agent/v1/hosts/race-{number}", (tmp_path / "host.key").read_bytes()
        revoking = subprocess.Popen(
            [*VRATA, "--config", str(cloud.config), "cloud", "revoke-host", f"race-{number}"], stdout=subprocess.DEVNULL
        )
        while revoking.poll() is None:
            status, said = cloud.ask("POST", f"{path}/certificate", tmp_path, body=pki.new_request(key, "x"))
            if status == 200:
                (tmp_path / "host.crt").write_text(said)
        time.sleep(host_access_accepted_s())
        assert cloud.ask("PUT", f"{path}/report", tmp_path, body=REPORT)[0] == 403


def test_no_clock_decides_which_certificates_are_revoked(cloud: Running) -> None:
    """One that was issued while the clock was ahead is refused, too."""
    authority = pki.Pair((cloud.directory / "pki/ca.crt").read_bytes(), (cloud.directory / "pki/ca.key").read_bytes())
    asked = pki.new_request(pki.new_key(), "ahead")
    store = Store(f"sqlite:///{cloud.directory.parent}/data/cloud.db")
    try:
        for hours in (-2, 0, 2, 48):
            later = datetime.now(UTC) + timedelta(hours=hours)
            epoch = store.write_now(lambda tx: host_access._epoch(tx, "ahead"))
            pem = pki.sign_request(authority, asked, "ahead", later, timedelta(days=30), epoch)
            shown = pki.read_host_certificate(pem)
            assert store.write_now(lambda tx: host_access.refusal(tx, "ahead", shown)) is None  # noqa: B023
            store.write_now(lambda tx: host_access.revoke(tx, "ahead"))
            refused = store.write_now(lambda tx: host_access.refusal(tx, "ahead", shown))  # noqa: B023
            assert refused is not None
            assert refused.status == 403
    finally:
        store.close()


async def test_whoever_stands_in_between_gets_no_token(cloud: Running, tmp_path: Path) -> None:
    """Another authority behind the right one in the first, unproved answer."""
    right = (cloud.directory / "pki/ca.crt").read_bytes()
    own = pki.new_authority("in between")
    pair = pki.new_server(own, ["127.0.0.1"])
    (tmp_path / "crt").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    asked: list[str] = []
    answers = {"both": right + own.certificate, "other first": own.certificate + right, "nothing": b"", "right": right}
    saying = ["both"]

    async def answer(request: Request) -> Response:
        asked.append(request.method)
        return Response(answers[saying[0]])

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    serving = asyncio.ensure_future(
        serve_http(app, [listening], tls=ServerTls(tmp_path / "crt", tmp_path / "key").context)
    )
    try:
        for what in answers:
            saying[0] = what
            with pytest.raises(VrataError):
                await join_host(url, "m", "secret", pki.fingerprint(right), tmp_path / "host")
            assert not (tmp_path / "host").exists() or not list((tmp_path / "host").iterdir())
        assert "POST" not in asked  # the token was sent to nobody
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def test_a_failed_join_leaves_a_host_as_it_was(cloud: Running, tmp_path: Path) -> None:
    cloud.join("n-1", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    used = cloud.token("n-1")
    cloud.join("n-1", tmp_path / "elsewhere", used)
    cloud.join("n-1", tmp_path, used, status=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def host_access_accepted_s() -> float:
    from vrata.cloud.agent import ACCEPTED_S

    return ACCEPTED_S + 0.1


async def test_the_agent_renews_its_certificate_and_uses_the_new_one(
    cloud: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(cloud.join, "j", tmp_path)
    before = (tmp_path / "host.crt").read_bytes()
    credentials = Certificates(tmp_path, "j")
    assert 19 * 86400 < credentials.due_s() < 21 * 86400  # two thirds of thirty days
    async with CloudClient(["https://127.0.0.1:1", cloud.url], "j", credentials) as client:
        with pytest.raises(VrataError, match="does not answer"):
            await client.send_report(HostReport(physical_networks=(), instances=()))
        await client.send_report(HostReport(physical_networks=(), instances=()))  # at the next address
        first = credentials.tls
        monkeypatch.setattr(Certificates, "due_s", lambda self: -1.0 if self.tls is first else 1e6)
        renewing = asyncio.create_task(client.renew())
        while credentials.tls is first:
            await asyncio.sleep(0.01)
        renewing.cancel()
        await client.send_report(HostReport(physical_networks=(), instances=()))
        assert (await client.poll_desired(0)) is not None
    assert (tmp_path / "host.crt").read_bytes() != before


def test_files_that_cannot_be_used_are_named_with_what_to_do(cloud: Running, tmp_path: Path) -> None:
    with pytest.raises(VrataError, match=r"host.key: No such file.*vrata host join"):
        Certificates(tmp_path, "k")
    cloud.join("k", tmp_path)
    with pytest.raises(VrataError, match="is of host k, not of l"):
        Certificates(tmp_path, "l")
    authority = pki.Pair((cloud.directory / "pki/ca.crt").read_bytes(), (cloud.directory / "pki/ca.key").read_bytes())
    asked = pki.new_request((tmp_path / "host.key").read_bytes(), "k")
    for hours, words in ((-48, "has ended.*compare the clock"), (2, "not valid before.*set this machine's clock")):
        made = pki.sign_request(authority, asked, "k", datetime.now(UTC) + timedelta(hours=hours), timedelta(hours=1))
        (tmp_path / "host.crt").write_bytes(made)
        with pytest.raises(VrataError, match=words):
            Certificates(tmp_path, "k")
    (tmp_path / "host.crt").write_bytes(made.replace(b"A", b"B"))
    with pytest.raises(VrataError, match="not the certificate of a host"):
        Certificates(tmp_path, "k")


def test_new_certificate_files_are_used_without_a_restart(cloud: Running) -> None:
    def serial() -> int:
        with (
            socket.create_connection(("127.0.0.1", cloud.port)) as plain,
            cloud.context().wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            return int(str((tls.getpeercert() or {})["serialNumber"]), 16)

    before, pid = serial(), cloud.process.pid
    certificate = cloud.directory / "pki/server.crt"
    good = certificate.read_bytes()
    certificate.write_bytes(b"nothing")
    wait_for(
        lambda: "certificate_not_used" in cloud.log.read_text(), "a certificate that is none is noticed", timeout_s=40
    )
    assert serial() == before
    certificate.unlink()
    run("cloud", "init", "--directory", cloud.directory, "--name", "127.0.0.1")
    wait_for(lambda: serial() != before, "the new one is used", timeout_s=40)
    assert cloud.process.pid == pid
    assert cloud.process.poll() is None
    assert certificate.read_bytes() != good


def test_metrics_ask_for_their_token_and_say_when_certificates_end(cloud: Running, tmp_path: Path) -> None:
    token = (cloud.directory / "metrics-token").read_text().strip()
    assert cloud.ask("GET", "/metrics", port=cloud.port)[0] == 401
    assert cloud.ask("GET", "/metrics", port=cloud.port, token="x")[0] == 401
    cloud.join("figures", tmp_path)
    assert cloud.ask("PUT", "/agent/v1/hosts/figures/report", tmp_path, body=REPORT)[0] == 204
    status, said = cloud.ask("GET", "/metrics", port=cloud.port, token=token)
    assert (status, "vrata_cloud_hosts" in said) == (200, True)
    ends = dict(re.findall(r'^vrata_cloud_certificate_end_timestamp_seconds{of="(\w+)"} (\S+)$', said, re.MULTILINE))
    for of, name in (("server", "server"), ("authority", "ca")):
        end = pki.validity((cloud.directory / f"pki/{name}.crt").read_bytes())[1]
        assert float(ends[of]) == end.timestamp()
    assert float(ends["host"]) <= pki.validity((tmp_path / "host.crt").read_bytes())[1].timestamp()


@pytest.mark.parametrize("missing", ["pki/ca.key", "pki/ca.crt"])
def test_half_an_authority_is_not_replaced(tmp_path: Path, missing: str) -> None:
    run("cloud", "init", "--directory", tmp_path, "--name", "a.test")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != tmp_path / missing}
    for damage in ("removed", "empty"):
        (tmp_path / missing).unlink(missing_ok=True)
        if damage == "empty":
            (tmp_path / missing).touch()
        said = run("cloud", "init", "--directory", tmp_path, "--name", "a.test", status=1)
        assert "pki/ca" in said
        assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_server_certificate_of_ones_own_is_kept_and_hosts_have_another(cloud: Running, tmp_path: Path) -> None:
    other = pki.new_authority("of the company")
    own = pki.new_server(other, ["127.0.0.1"])
    run("cloud", "init", "--directory", tmp_path, "--name", "127.0.0.1")
    (tmp_path / "pki/server.crt").write_bytes(own.certificate)
    (tmp_path / "pki/server.key").write_bytes(own.key)
    assert "kept" in run("cloud", "init", "--directory", tmp_path, "--name", "127.0.0.1")
    assert (tmp_path / "pki/server.crt").read_bytes() == own.certificate
    (tmp_path / "own.crt").write_bytes(own.certificate)
    (tmp_path / "own.key").write_bytes(own.key)
    words: tuple[object, ...] = ("--config", cloud.config, "cloud", "serve", "--check")
    words += ("--tls-cert", tmp_path / "own.crt")
    words += ("--tls-key", tmp_path / "own.key")
    assert "not signed by --host-ca" in run(*words, status=1)
    pair = (
        "--agent-tls-cert",
        cloud.directory / "pki/server.crt",
        "--agent-tls-key",
        cloud.directory / "pki/server.key",
    )
    assert run(*words, *pair).endswith("the settings are valid")


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("postgresql+psycopg:///v", False),
        ("postgresql+psycopg://u@localhost/v", False),
        ("postgresql+psycopg://u@/v?host=/run/postgresql", False),
        ("postgresql+psycopg://u@192.0.2.1/v", True),
        ("postgresql+psycopg://u@localhost/v?hostaddr=192.0.2.1", True),
        ("postgresql+psycopg:///v?hostaddr=192.0.2.1", True),
        ("postgresql+psycopg:///v?host=/run/pg,192.0.2.1", True),
        ("postgresql+psycopg:///v?host=127.0.0.1&host=192.0.2.1", True),
        ("postgresql+psycopg:///v?service=x", True),
        ("postgresql+psycopg://u@192.0.2.1/v?sslmode=prefer", True),
        ("postgresql+psycopg://u@192.0.2.1/v?sslmode=verify-full", False),
        ("sqlite:////tmp/x", False),
    ],
)
def test_what_asks_postgresql_in_plain_text(url: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    if plain:
        with pytest.raises(VrataError, match="asked without TLS"):
            require_tls(url)
    else:
        require_tls(url)
        if url.startswith("postgresql") and "sslmode" not in url and "host" not in url and "@" not in url:
            monkeypatch.setenv("PGHOST", "192.0.2.1")
            with pytest.raises(VrataError, match="asked without TLS"):
                require_tls(url)


def test_another_machine_of_the_cloud_takes_its_files(cloud: Running, tmp_path: Path) -> None:
    bundle, there = tmp_path / "files.tar", tmp_path / "there"
    run("cloud", "init", "--directory", cloud.directory, "--name", "127.0.0.1", "--export", bundle)
    run("cloud", "init", "--directory", there, "--from", bundle, "--name", "192.0.2.7")
    for name in ("pki/ca.crt", "pki/ca.key", "secret.key", "metrics-token"):
        assert (there / name).read_bytes() == (cloud.directory / name).read_bytes()
    assert not (there / "admin-password").exists()
    assert {"192.0.2.7", "localhost"} <= pki.names_of((there / "pki/server.crt").read_bytes())
    run("cloud", "init", "--directory", tmp_path / "other", "--name", "x")
    assert "is of another cloud" in run("cloud", "init", "--directory", tmp_path / "other", "--from", bundle, status=1)
    bundle.write_bytes(b"x" * 2000)
    assert "name a file of" in run("cloud", "init", "--directory", tmp_path / "third", "--from", bundle, status=1)
    assert not (tmp_path / "third" / "pki/ca.key").exists()


WRONG: dict[str, tuple[str, str]] = {  # what becomes of the configuration file, and what is said
    "an option that is misspelt": (
        "tls-crt = 'x'",
        "cloud.serve.tls-crt: there is no such option; did you mean tls-cert?",
    ),
    "a section that is none": (
        "[cloud.sreve]\nlisten = 'x'",
        "cloud.sreve: there is no such option; did you mean serve?",
    ),
    "a flag that is none": ("noop = 'yes'", "cloud.serve.noop: write true or false"),
    "a list where one is asked": ("region = ['a', 'b']", "cloud.serve.region: write one text"),
    "a value that is none": ("token-life-s = 'long'", "'long' is not a valid integer range"),
    "no TOML": ("region = ", "write TOML"),
    "a missing certificate": ("tls-cert = '/nowhere.crt'", "/nowhere.crt: No such file"),
    "a key of another": ("host-ca-key = 'DIR/pki/server.key'", "not the key of"),
    "a key with a password": ("tls-key = 'SEALED'", "PEM, without a password"),
    "PostgreSQL in plain text": ("", "is asked without TLS (sslmode=prefer); add ?sslmode=verify-full"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_configuration_that_is_wrong_is_one_line_that_names_it(cloud: Running, tmp_path: Path, what: str) -> None:
    line, said = WRONG[what]
    text = cloud.config.read_text()
    if not line:
        (tmp_path / "url").write_text("postgresql+psycopg://vrata@192.0.2.1/vrata\n")
        text = "\n".join(
            f"database-file = '{tmp_path}/url'" if one.startswith("data-dir") else one for one in text.splitlines()
        )
    key = line.partition(" ")[0]
    kept = [one for one in text.splitlines() if not (key and one.startswith(f"{key} "))]
    (tmp_path / "wrong.toml").write_text(
        "\n".join([*kept, line.replace("DIR", str(cloud.directory)).replace("SEALED", str(tmp_path / "sealed"))])
    )
    key_pem = (cloud.directory / "pki/server.key").read_bytes()
    own = serialization.load_pem_private_key(key_pem, None)
    sealed = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "sealed").write_bytes(sealed)
    status = (
        2
        if what
        not in {"a missing certificate", "a key of another", "a key with a password", "PostgreSQL in plain text"}
        else 1
    )
    assert said in run("--config", tmp_path / "wrong.toml", "cloud", "check-config", status=status)


def test_the_configuration_of_init_is_valid_and_the_command_line_wins(cloud: Running, tmp_path: Path) -> None:
    assert run("--config", cloud.config, "cloud", "check-config").endswith("the settings are valid")
    there = "--config", cloud.config, "cloud", "serve", "--check", "--tls-cert", tmp_path / "none"
    assert f"{tmp_path}/none: No such file" in run(*there, status=1)


@pytest.mark.parametrize(
    "options", [("--listen", "0.0.0.0:0"), ("--listen", "127.0.0.1:0", "--agent-listen", "[::]:0")]
)
def test_plain_http_beyond_loopback_must_be_asked_for(tmp_path: Path, options: tuple[str, ...]) -> None:
    said = run("cloud", "serve", "--data-dir", tmp_path / "data", *options, status=1)
    assert "plain HTTP; give --tls-cert and --tls-key" in said


def test_a_host_sends_nothing_over_plain_http_beyond_loopback(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    base = ("host", "--name", "m", "--cloud-url", "http://192.0.2.1:8781", "--state-dir", "/var/lib/vrata/host")
    assert "plain HTTP; give an https:// address" in run(*base, "--secret-file", tmp_path / "secret", status=1)
    assert "plain HTTP; give an https:// address" in run(*base, "--certificates", tmp_path, "--insecure", status=1)


def test_shared_secrets_are_exchanged_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("new\nold\n")
    port = free_port()
    command = [*VRATA, "cloud", "serve", "--data-dir", str(tmp_path / "data"), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen([*command, "--host-secret-file", str(tmp_path / "secrets")], stderr=subprocess.DEVNULL)

    def status(secret: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            connection.request("PUT", "/agent/v1/hosts/n/report", REPORT, {"Authorization": f"Bearer {secret}"})
            return connection.getresponse().status

    def answers() -> bool:
        try:
            return status("new") == 204
        except OSError:
            return False

    try:
        wait_for(answers, "the cloud answers")
        assert [status(secret) for secret in ("new", "old", "other", "new old", "")] == [204, 204, 401, 401, 401]
    finally:
        process.terminate()
        process.wait(30)


@given(st.text(max_size=80))
def test_no_text_but_a_token_is_read_as_one(text: str) -> None:
    try:
        token = read_token(text)
    except ValueError:
        return
    assert str(token) == text.strip()


def test_the_name_of_a_certificate_is_of_one_host_only() -> None:
    """A certificate for two hosts, or for none, speaks for nobody."""
    authority = pki.new_authority("a")
    assert pki.read_host_certificate(pki.new_server(authority, ["a"]).certificate) is None
    assert pki.read_host_certificate(authority.certificate) is None
    assert timedelta(days=7) < host_access.CERTIFICATE_LIFE
