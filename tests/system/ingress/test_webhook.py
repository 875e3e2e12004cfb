"""The admission webhook as a process, asked over HTTPS as an API server asks it."""

import contextlib
import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.pki import issue
from tests.support.ports import free_port
from tests.system.ingress.site import CLASS, Site, ingress, reachable


@pytest.fixture
def webhook(kubernetes: Cluster, site: Site, tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """Its port, and whom its clients trust."""
    site.apply(CLASS)
    authority = issue("authority", authority=True)
    leaf, port = issue("webhook", "localhost", by=authority), free_port()
    (tmp_path / "tls.crt").write_text(leaf.cert_pem)
    (tmp_path / "tls.key").write_text(leaf.key_pem)
    argv = ["ingress", "webhook", "--port", str(port), "--kubeconfig", str(kubernetes.kubeconfig)]
    argv += ["--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-key-file", str(tmp_path / "tls.key")]
    process = subprocess.Popen([sys.executable, "-m", "vrata", *argv], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: reachable(port), "the webhook listens")
        yield port, ssl.create_default_context(cadata=authority.cert_pem)
    finally:
        process.terminate()
        assert process.wait(90) == 0


def test_a_host_of_another_namespace_is_refused(webhook: tuple[int, ssl.SSLContext], site: Site) -> None:
    site.apply(ingress("owner", ("owned.example", "Prefix", "/", "web")))
    other = ingress("thief", ("owned.example", "Prefix", "/x", "web"))
    other["metadata"]["namespace"] = "other"
    wait_for(lambda: not ask(webhook, other)["allowed"], "the webhook has heard of the owner")
    other["metadata"]["namespace"] = "default"
    assert ask(webhook, other)["allowed"]


def ask(webhook: tuple[int, ssl.SSLContext], entry: dict[str, Any]) -> dict[str, Any]:
    port, trust = webhook
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    body["request"] = {"uid": "1", "operation": "CREATE", "object": entry}  # type: ignore[assignment]
    request = urllib.request.Request(
        f"https://localhost:{port}/validate", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with contextlib.closing(urllib.request.urlopen(request, context=trust, timeout=60)) as answer:
        found = json.load(answer)["response"]
    return dict(found)


def test_it_says_what_is_wrong_before_it_is_taken_in(webhook: tuple[int, ssl.SSLContext]) -> None:
    good = ingress("good", ("good.example", "Prefix", "/", "web"))
    assert wait_for(lambda: ask(webhook, good)["allowed"], "it answers")
    bad = ingress("bad", ("bad.example", "Prefix", "/", "web"), annotations={"whitelist-source-range": "anybody"})
    answer = ask(webhook, bad)
    assert not answer["allowed"]
    assert "whitelist-source-range: 'anybody' is not valid" in answer["status"]["message"]
