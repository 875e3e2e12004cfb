"""Several controllers, each with its HAProxy, which share what they count; controllers of their own."""

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Site, ingress, service

ONE, TWO, NOBODY = "192.0.2.81", "192.0.2.82", "192.0.2.83"


def front(*addresses: str) -> dict[str, object]:
    """The slice of the Service in front, whose pods are the replicas."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "replicas-1", "labels": {"kubernetes.io/service-name": "replicas"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


@pytest.fixture(scope="module")
def addresses() -> Iterator[None]:
    """Two of this machine, each of which speaks to the other one as itself."""
    for own in (ONE, TWO):
        subprocess.run(["ip", "address", "add", f"{own}/32", "dev", "lo"], check=True)
    for own, other in ((ONE, TWO), (TWO, ONE)):
        subprocess.run(
            ["ip", "route", "replace", "local", own, "dev", "lo", "table", "local", "src", other], check=True
        )
    yield
    for own in (ONE, TWO):
        subprocess.run(["ip", "address", "del", f"{own}/32", "dev", "lo"], check=True)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def replicas(kubernetes: Cluster, site: Site, addresses: None, port: int) -> Iterator[list[Site]]:
    assert site.process  # it has made `web`
    with tempfile.TemporaryDirectory(prefix="vr-") as one, tempfile.TemporaryDirectory(prefix="vr-") as two:
        words = ("--publish-service", "default/replicas", "--replicas-port", str(port), "--spare-backends", "4")
        made = [Site(kubernetes, Path(folder), *words, "--replica", own) for folder, own in ((one, ONE), (two, TWO))]
        site.apply(service("replicas"), front(ONE, TWO))
        try:
            for each in made:
                each.start()
            yield made
        finally:
            for each in made:
                each.stop()


def wait_until_ready(one: Site) -> None:
    wait_for(lambda: "shared-limit.example/" in one.rows("routes-http"), "the route is there")
    wait_for(lambda: ",active) addr" in one.answer("show peers"), "they have found each other")
    # Only a worker that no longer waits to be told what there was tells the next one.
    wait_for(lambda: "resync_timeout=<PAST>" in one.answer("show peers"), "they have told each other")


def test_a_rate_is_of_all_replicas_together_and_outlives_a_reload(replicas: list[Site]) -> None:
    one, two = replicas
    path = ("shared-limit.example", "Prefix", "/", "web")
    one.apply(ingress("shared-limit", path, annotations={"limit-rpm": "10", "limit-burst-multiplier": "1"}))
    for each in replicas:
        wait_until_ready(each)
    assert [one.ask("shared-limit.example", "/")[0] for _ in range(7)] == [200] * 7
    wait_for(lambda: "gpc1_rate(60000)=7" in two.answer("show table limits-1"), "the other one hears of them")
    assert [two.ask("shared-limit.example", "/")[0] for _ in range(5)] == [200] * 3 + [429] * 2
    wait_for(lambda: one.ask("shared-limit.example", "/")[0] == 429, "and so does the first one")
    reloads, worker = one.reloads(), one.worker()
    one.apply(front(ONE, TWO, NOBODY))
    wait_for(lambda: one.worker() != worker, "a new replica is a reload")
    assert 'reason="a new replica" detail=192.0.2.83' in one.log.read_text()
    wait_for(lambda: one.answer("show table limits-1").count("gpc1_rate(60000)=") == 2, "nothing counted is lost")
    assert one.ask("shared-limit.example", "/")[0] == 429
    one.apply(front(ONE, TWO))
    two.stop()  # whoever has gone is no reason for anything
    assert one.ask("shared-limit.example", "/")[0] == 429
    assert one.reloads() == reloads + 1
    two.start()
    wait_for(lambda: f"id={ONE}(remote,active)" in two.answer("show peers"), "one that comes back is found again")


def test_nobody_else_is_heard(replicas: list[Site], port: int) -> None:
    assert replicas
    heard = b""
    with (
        contextlib.suppress(ConnectionResetError),
        socket.create_connection((ONE, port), 5, source_address=("127.0.0.1", 0)) as stranger,
    ):
        stranger.sendall(f"HAProxyS 2.1\n{ONE}\n{TWO} 1 1\n".encode())
        heard = stranger.recv(16)
    assert heard == b""
