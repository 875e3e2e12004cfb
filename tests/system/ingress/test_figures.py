"""Figures by host; a controller of its own, for they are counted only where that was asked for."""

import re
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.support.figures import HAPROXY, WATCHED
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Site, endpoint, ingress, service

from vrata.ingress.served import DEFAULT

MOST = 3


@pytest.fixture(scope="module")
def operations() -> int:
    return free_port()


@pytest.fixture(scope="module")
def counting(kubernetes: Cluster, site: Site, operations: int) -> Iterator[Site]:
    assert site.process  # it has made `web`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        words = ("--host-metrics", str(MOST), "--operations-port", str(operations), "--spare-backends", "4")
        made = Site(kubernetes, Path(folder), *words)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def figures(site: Site, port: int, name: str) -> dict[str, float]:
    """One counter, by host."""
    _, text = site.ask("", "/metrics", port=port)
    found = re.findall(rf'^vrata_ingress_host_{name}_total{{host="([^"]*)"}} (\S+)$', str(text), re.MULTILINE)
    return {host: float(value) for host, value in found}


def test_requests_are_counted_by_known_host_and_of_so_many_at_most(counting: Site, operations: int) -> None:
    words = {"limit-rpm": "1000"}  # of which the request takes the longer way
    counting.apply(
        ingress("counted-1", ("one.counted.example", "Prefix", "/", "web")),
        ingress("counted-2", ("two.counted.example", "Prefix", "/", "web"), annotations=words),
        ingress("counted-3", ("*.many-counted.example", "Prefix", "/", "web")),
        ingress("counted-4", ("last.counted.example", "Prefix", "/", "web")),
    )
    rows = {"one.counted.example/", "two.counted.example/", "*.many-counted.example/", "last.counted.example/"}
    wait_for(lambda: rows <= counting.rows("routes-http").keys(), "all are served")
    counting.tell("clear table hosts")
    asked = {"one.counted.example": 3, "two.counted.example": 2, "ONE.counted.example:80": 1}
    asked |= {f"{number}.many-counted.example": 1 for number in range(4)} | {"nobody.invalid": 2}
    for host, times in asked.items():
        for _ in range(times):
            counting.ask(host, "/status/500" if host == "two.counted.example" else "/")
    expected = {"one.counted.example": 4, "two.counted.example": 2, "*.many-counted.example": 4}
    wait_for(lambda: figures(counting, operations, "requests") == expected, "requests by host")
    assert figures(counting, operations, "server_errors")["two.counted.example"] == 2
    assert figures(counting, operations, "server_errors")["one.counted.example"] == 0
    assert figures(counting, operations, "sent_bytes")["one.counted.example"] > 100
    assert figures(counting, operations, "received_bytes")["one.counted.example"] > 100
    assert counting.ask("last.counted.example", "/")[0] == 200  # one too many: it is served, not counted
    assert figures(counting, operations, "requests") == expected


def test_haproxy_and_the_controller_have_the_figures_that_boards_show(counting: Site, operations: int) -> None:
    wait_for(lambda: counting.ask("", "/metrics", port=counting.health)[0] == 200, "HAProxy's figures")
    theirs = str(counting.ask("", "/metrics", port=counting.health)[1])
    for name, labels in HAPROXY.items():
        found = re.search(rf"^{name}(?:\{{(.*?)\}})? ", theirs, re.MULTILINE)
        assert found, name
        assert labels == set(re.findall(r"(\w+)=", found[1] or "")), name
    ours = str(counting.ask("", "/metrics", port=operations)[1])
    for line in (
        'vrata_ready{part="ingress"} 1.0', "vrata_ingress_leader 1.0", "vrata_haproxy_reloads_refused_total 0.0",
        'vrata_watch_failing{resource="ingresses"} 0.0', 'vrata_unreadable_objects{resource="secrets"} 0.0',
    ):  # fmt: skip
        assert line in ours.splitlines()
    for name in WATCHED:
        assert f"\nvrata_ingress_{name} " in ours


def test_a_configuration_that_haproxy_refuses_is_counted(counting: Site, operations: int, echoes: Echoes) -> None:
    """Here for a certificate that is none, when backends have run out."""
    file = counting.directory / "tls" / DEFAULT
    kept = file.read_bytes()
    file.write_text("no certificate\n")

    def refused(number: int) -> bool:
        """Another Service; those with cookies no HAProxy adds live."""
        name = f"refused-{number}"
        counting.apply(
            service(name),
            endpoint(name, "two", echoes.port("two")),
            ingress(name, (f"{name}.counted.example", "Prefix", "/", name), annotations={"affinity": "cookie"}),
        )
        said = str(counting.ask("", "/metrics", port=operations)[1])
        found = re.search(r"^vrata_haproxy_reloads_refused_total (\S+)$", said, re.MULTILINE)
        return found is not None and float(found[1]) > 0

    made = count()
    try:
        wait_for(lambda: refused(next(made)), "it is counted")
    finally:
        file.write_bytes(kept)
    counting.until(f"refused-{next(made) - 1}.counted.example", "/", "two")
