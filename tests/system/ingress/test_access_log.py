"""A line for each request, which no request can forge."""

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster
from tests.system.ingress.site import Json, Site, ingress


@pytest.fixture
def logged(kubernetes: Cluster, site: Site) -> Iterator[tuple[Site, socket.socket]]:
    assert site.process  # it has made `web`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lines:
        lines.bind(f"{folder}/requests")
        lines.settimeout(10)
        made = Site(kubernetes, Path(folder), "--access-log", f"{folder}/requests", "--spare-backends", "4")
        try:
            made.apply(ingress("logged", ("logged.example", "Prefix", "/", "web")))
            made.start()
            yield made, lines
        finally:
            made.stop()


def line_of(lines: socket.socket, host: str) -> Json:
    while True:
        found: Json = json.loads(lines.recv(65536))
        if found["host"] == host:
            return found


def test_a_line_tells_the_request_and_who_served_it(logged: tuple[Site, socket.socket]) -> None:
    site, lines = logged
    site.until("logged.example", "/a?b=c", "one")
    line = line_of(lines, "logged.example")
    while line["status"] != 200:
        line = line_of(lines, "logged.example")
    assert (line["method"], line["uri"], line["client"]) == ("GET", "/a?b=c", "127.0.0.1")
    assert line["service"] == "default/web:80"
    assert line["place"].startswith("b-")
    assert line["total_ms"] >= 0


def test_no_request_can_forge_a_line(logged: tuple[Site, socket.socket]) -> None:
    site, lines = logged
    hostile = '/"},{"status":200,"x":"\\\\%[src]%ci\''
    with socket.create_connection(("127.0.0.1", site.http), 5) as connection:
        request = f'GET {hostile} HTTP/1.1\r\nHost: forged.example\r\nUser-Agent: a"b\\c\r\nConnection: close\r\n\r\n'
        connection.sendall(request.encode())
        connection.recv(4096)
    line = line_of(lines, "forged.example")
    assert line["uri"] == hostile
    assert line["agent"] == 'a"b\\c'
    assert line["status"] == 404


def test_an_ingress_may_leave_no_lines(logged: tuple[Site, socket.socket]) -> None:
    site, lines = logged
    site.apply(
        ingress("quiet", ("quiet.example", "Prefix", "/", "web"), annotations={"enable-access-log": "false"}),
        ingress(
            "quiet-refused",
            ("refused.example", "Prefix", "/", "web"),
            annotations={"enable-access-log": "false", "denylist-source-range": "127.0.0.1"},
        ),
    )
    site.until("quiet.example", "/", "one")
    site.until("refused.example", "/", "403")
    site.until("logged.example", "/last", "one")
    seen = []
    while (line := json.loads(lines.recv(65536)))["uri"] != "/last" or line["status"] != 200:
        seen.append(line)
    statuses = {line["status"] for line in seen if line["host"] in ("quiet.example", "refused.example")}
    assert statuses <= {404}, "only of requests that found no route yet"
