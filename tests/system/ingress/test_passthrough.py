"""Hosts whose pods end TLS, beside hosts of which HAProxy does."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.pki import issue
from tests.system.ingress.pods import Pod, encrypted_pod
from tests.system.ingress.site import Json, Site, endpoint, ingress, secret, service

ASKED = {"ssl-passthrough": "true"}


@pytest.fixture
def pod() -> Iterator[Pod]:
    with encrypted_pod(issue("pods", "through.example")) as made:
        yield made


@pytest.fixture
def passing(kubernetes: Cluster, site: Site, pod: Pod) -> Iterator[Site]:
    assert site.process  # it has made `web`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Site(kubernetes, Path(folder), "--ssl-passthrough", "--spare-backends", "4")
        made.apply(service("through"), endpoint("through", "pod", pod.port))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def through(*hosts: str) -> Json:
    return ingress("through", *((host, "Prefix", "/", "through") for host in hosts), annotations=ASKED)


def misdirected(site: Site, version: str, path: str) -> str:
    """Status of a request for the host on a connection that was made for another name."""
    argv = ["curl", "-sk", f"--http{version}", "--resolve", f"ended.example:{site.https}:127.0.0.1", "-o", "/dev/null"]
    argv += ["-w", "%{http_code}", "-H", "Host: through.example", f"https://ended.example:{site.https}{path}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_tls_of_some_hosts_is_their_pods_own_affair(passing: Site, site: Site) -> None:
    worker = passing.worker()
    passing.apply(
        secret("ended", issue("ended", "ended.example")),
        ingress("ended", ("ended.example", "Prefix", "/", "web"), tls={"ended": ["ended.example"]}),
        through("through.example"),
    )
    wait_for(lambda: passing.certificate("through.example") == "pods", "the pod answers the handshake")
    assert passing.encrypted("through.example")[1]["pod"] == "encrypted"
    assert passing.pod("through.example") == "308"
    wait_for(lambda: passing.certificate("ended.example") == "ended", "of the other HAProxy does")
    status, answer = passing.encrypted("ended.example")
    assert status == 200
    assert answer["headers"]["X-Forwarded-For"] == ["127.0.0.1"]
    assert answer["headers"]["X-Forwarded-Port"] == [str(passing.https)]

    # On a connection that is ended here, for a name of the same certificate or a false Host: never a redirect to itself.
    status, _ = passing.encrypted("through.example", name="ended.example")
    assert status == 421
    # Over plain HTTP there is no TLS to pass through: an authority's question is answered by whoever claims its path.
    proof = "/.well-known/acme-challenge/token"
    passing.apply(ingress("solver", ("through.example", "Exact", proof, "web")))
    passing.until("through.example", proof, "one")
    assert passing.pod("through.example", "/other") == "308"
    assert passing.encrypted("through.example", proof)[1]["pod"] == "encrypted"
    assert passing.encrypted("through.example", proof, name="ended.example")[0] == 421

    # Whatever its path, also one that no rule names: a browser reuses connections for names of one certificate.
    passing.apply(
        ingress("through", ("through.example", "Prefix", "/app", "through"), annotations=ASKED),
        ingress("younger", ("through.example", "Prefix", "/api", "web")),
    )
    passing.until("through.example", "/api", "one")
    wait_for(lambda: passing.pod("through.example", "/") == "404", "over plain HTTP no rule is for it")
    for path in ("/", "/app", "/api"):
        assert misdirected(passing, "1.1", path) == misdirected(passing, "2", path) == "421", path

    passing.apply(through("other.example"))
    wait_for(lambda: passing.certificate("through.example") != "pods", "the host is no more")
    assert passing.encrypted("other.example")[1]["pod"] == "encrypted"
    assert passing.worker() == worker
    assert "start the controller with --ssl-passthrough" in site.events(), "who was started without says so"
