"""The admission webhook as a process, asked over HTTPS as an API server asks it."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from functools import partial
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


NAME = "own-webhook"
OWN = f"""
apiVersion: v1
kind: Secret
metadata: {{name: {NAME}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {NAME}}}
webhooks:
  - name: ingress.vrata.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    clientConfig: {{service: {{namespace: default, name: {NAME}, path: /validate}}}}
"""


def _bundle(kubernetes: Cluster) -> str:
    found = kubernetes.get("validatingwebhookconfiguration", NAME)["webhooks"][0]["clientConfig"]
    return b64decode(found.get("caBundle", "")).decode()


def _own(kubernetes: Cluster, port: int) -> subprocess.Popen[bytes]:
    argv = ["ingress", "webhook", "--port", str(port), "--kubeconfig", str(kubernetes.kubeconfig)]
    argv += ["--tls-secret", f"default/{NAME}", "--webhook-configuration", NAME]
    program = "from vrata.ingress import webhook_certificate as own; own.LOOK_S = 0.3; from vrata.cli.main import main; main()"
    return subprocess.Popen([sys.executable, "-c", program, *argv], stderr=subprocess.DEVNULL)


def test_two_replicas_make_one_certificate_that_the_configuration_trusts(kubernetes: Cluster, site: Site) -> None:
    """Also where both start before Secret and configuration are there, and again after a restart."""
    site.apply(CLASS)
    ports = [free_port(), free_port()]
    replicas = [_own(kubernetes, port) for port in ports]
    try:
        kubernetes.kubectl("apply", "-f", "-", stdin=OWN)
        for port in ports:
            wait_for(partial(_trusted, kubernetes, port), "it serves what the configuration trusts")
        before = _bundle(kubernetes)
        replicas[0].terminate()
        assert replicas[0].wait(90) == 0
        replicas[0] = _own(kubernetes, ports[0])
        wait_for(lambda: _trusted(kubernetes, ports[0]), "so it does after a restart")
        assert _bundle(kubernetes) == before
        # One that is lost is made again; who served the one before ends, to serve it after the restart.
        kubernetes.kubectl("patch", "secret", NAME, "--type=merge", "-p", '{"data": null}')
        for replica in replicas:
            assert replica.wait(90) == 0
        assert _bundle(kubernetes) not in ("", before)
        replicas = [_own(kubernetes, ports[0])]
        wait_for(lambda: _trusted(kubernetes, ports[0]), "it serves the new one")
    finally:
        for replica in replicas:
            replica.terminate()
            assert replica.wait(90) == 0
        kubernetes.kubectl("delete", "validatingwebhookconfiguration", NAME)
        kubernetes.kubectl("delete", "secret", NAME)


def _trusted(kubernetes: Cluster, port: int) -> bool:
    """Whether who trusts the configuration's authorities shakes hands with it by the Service's name."""
    authorities = _bundle(kubernetes)
    if not authorities or not reachable(port):
        return False
    trust = ssl.create_default_context(cadata=authorities)
    with (
        contextlib.suppress(ssl.SSLError),
        socket.create_connection(("localhost", port), 60) as plain,
        trust.wrap_socket(plain, server_hostname=f"{NAME}.default.svc"),
    ):
        return True
    return False
