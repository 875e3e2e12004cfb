"""Kubeconfig files: every way to prove who we are, and clear words for what is wrong."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.front import server_tls
from tests.support.pki import issue

from vrata.base.errors import InvalidInput, VrataError
from vrata.kube import config


def write(folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


async def test_a_token_is_sent_as_it_is(tmp_path: Path) -> None:
    found = config.load(write(tmp_path, {"token": "secret"}))
    assert await found.credentials.bearer() == "secret"
    assert (found.server, found.namespace, found.tls) == ("http://127.0.0.1:1", "team", None)


async def test_a_token_file_is_read_again_after_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = config.load(write(tmp_path, {"tokenFile": "token"}))
    assert await found.credentials.bearer() == "first"
    (tmp_path / "token").write_text("second\n")
    assert await found.credentials.bearer() == "first"
    assert await found.credentials.bearer(renew=True) == "second"


def exec_user(script: str) -> dict[str, Any]:
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", script]}
    }


async def test_a_plugin_is_run_and_its_token_kept(tmp_path: Path) -> None:
    status = json.dumps({"status": {"token": "from-plugin"}})
    counter = tmp_path / "runs"
    script = f"open({str(counter)!r}, 'a').write('x'); print({status!r})"
    found = config.load(write(tmp_path, exec_user(script)))
    assert await found.credentials.bearer() == "from-plugin"
    assert await found.credentials.bearer() == "from-plugin"
    assert counter.read_text() == "x"
    await found.credentials.bearer(renew=True)
    assert counter.read_text() == "xx"


async def test_a_failing_plugin_is_named_with_its_words(tmp_path: Path) -> None:
    script = "import sys; sys.exit('log in first')"
    found = config.load(write(tmp_path, exec_user(script)))
    with pytest.raises(VrataError, match="log in first"):
        await found.credentials.bearer()


def test_a_server_that_is_no_url_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="server"):
        config.load(write(tmp_path, {}, {"server": "example"}))


def test_a_missing_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'other'"):
        config.load(write(tmp_path, {}), context="other")


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        config.load(tmp_path / "nowhere")


def test_several_files_are_one_and_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", {"tokenFile": "token"}, {"server": "http://b"})
    (tmp_path / "a/kubeconfig").write_text(
        yaml.safe_dump({"users": [], "clusters": [{"name": "k", "cluster": {"server": "http://a"}}]})
    )
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{tmp_path}/a/kubeconfig:{tmp_path}/b/kubeconfig")
    found = config.load()
    assert found.server == "http://a"
    assert found.credentials.token_file == tmp_path / "b/token"


async def test_a_plugin_beside_the_kubeconfig_is_found(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text('#!/bin/sh\necho \'{"status": {"token": "near"}}\'\n')
    plugin.chmod(0o755)
    found = config.load(write(tmp_path, {"exec": {"command": "./plugin"}}))
    assert await found.credentials.bearer() == "near"


async def test_requests_that_come_together_run_a_plugin_once(tmp_path: Path) -> None:
    counter = tmp_path / "runs"
    script = f"open({str(counter)!r}, 'a').write('x'); print({json.dumps({'status': {'token': 't'}})!r})"
    found = config.load(write(tmp_path, exec_user(script)))
    assert await asyncio.gather(*(found.credentials.bearer() for _ in range(3))) == ["t"] * 3
    assert counter.read_text() == "x"


async def test_a_plugin_that_is_not_there_is_named_with_its_hint(tmp_path: Path) -> None:
    found = config.load(write(tmp_path, {"exec": {"command": "no-such-plugin", "installHint": "get it from example"}}))
    with pytest.raises(VrataError, match=r"'no-such-plugin'.*get it from example"):
        await found.credentials.bearer()


async def test_a_plugin_that_prints_something_else_is_named(tmp_path: Path) -> None:
    found = config.load(write(tmp_path, exec_user("print('[]')")))
    with pytest.raises(VrataError, match="did not print an ExecCredential"):
        await found.credentials.bearer()


async def test_a_certificate_of_a_plugin_is_shown_to_the_server(tmp_path: Path) -> None:
    authority = issue("authority", authority=True)
    (tmp_path / "ca.pem").write_text(authority.cert_pem)
    one = issue("client", by=authority)
    status = {"status": {"clientCertificateData": one.cert_pem, "clientKeyData": one.key_pem}}
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": "ca.pem"}
    found = config.load(write(tmp_path, exec_user(f"print({json.dumps(status)!r})"), cluster))
    tls = server_tls(tmp_path, authority, issue("localhost", "localhost", by=authority), ask_client=True)
    assert await found.credentials.bearer() == ""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=found.tls)
        assert await reader.read() == b"welcome"
        writer.close()


async def test_a_pods_token_is_read_again_after_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("token", "first"), ("namespace", "team"), ("ca.crt", issue("a", authority=True).cert_pem)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(config, "SERVICE_ACCOUNT_DIR", tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = config.load()
    assert (found.server, found.namespace) == ("https://[fd00::1]:6443", "team")
    assert await found.credentials.bearer() == "first"
    (tmp_path / "token").write_text("second")
    assert await found.credentials.bearer(renew=True) == "second"


@pytest.mark.parametrize("text", ["a: [\n", "{{{", "\t- x", "\x00", "just words"])
def test_what_is_no_kubeconfig_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    """The parser's eight lines were shown."""
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        config.load(tmp_path / "kubeconfig")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "kubeconfig") in str(refused.value)
