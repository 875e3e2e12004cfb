"""Kubeconfig files: every way to prove who we are, and clear words for what is wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
