"""Copies of requests, sent by HAProxy itself."""

import http.server
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Site, ingress


@dataclass
class Heard:
    """A server outside, and the requests that it was sent."""

    url: str
    requests: list[tuple[str, str, str | None, str]]  # method, path, host, body


@pytest.fixture
def outside() -> Iterator[Heard]:
    address = "192.0.2.79"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    heard: list[tuple[str, str, str | None, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = ""
            while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size + 2).decode().removesuffix("\r\n")
            heard.append((self.command, self.path, self.headers["Host"], body))
            self.send_response(500)
            self.end_headers()

        do_GET = do_POST = do_PATCH = do_OPTIONS = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Heard(f"http://{address}:{server.server_port}", heard)
    server.shutdown()
    thread.join()
    server.server_close()
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def test_a_mirror_gets_a_copy_of_each_request_and_nobody_its_answer(site: Site, outside: Heard) -> None:
    path = ("mirrored.example", "Prefix", "/", "web")
    words = {"mirror-target": f"{outside.url}$request_uri", "mirror-host": "copies.example"}
    site.apply(ingress("mirrored", path, annotations=words))
    site.until("mirrored.example", "/a?b=c", "one")
    wait_for(lambda: ("GET", "/a?b=c", "copies.example", "") in outside.requests, "the copy arrives")
    connection = HTTPConnection("127.0.0.1", site.http, timeout=60)
    connection.request("POST", "/write", body="some words", headers={"Host": "mirrored.example"})
    assert connection.getresponse().status == 200
    connection.close()
    wait_for(lambda: ("POST", "/write", "copies.example", "some words") in outside.requests, "its body, too")
    for method in ("PATCH", "OPTIONS"):
        site.request(method, "mirrored.example", "/other")
        wait_for(lambda: (method, "/other", "copies.example", "") in outside.requests, method)  # noqa: B023
    words["mirror-target"] = "http://127.0.0.1:8081/"
    site.apply(ingress("mirrored", path, annotations=words))
    wait_for(
        lambda: "mirror-target: 'http://127.0.0.1:8081/' is not" in site.events(), "not to the proxy's own machine"
    )
