"""What a tenant's URL names is judged by its address when it is asked (`auth-url`, `mirror-target`), by HAProxy itself."""

import http.client
import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Site, endpoint, ingress

ELSEWHERE = "192.0.2.79"
NEAR = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"]
STRANGE = ["2130706433", "127.1", "0177.0.0.1", "0x7f000001", "0x7f.0.0.1", "127.0.0.1.", "::1", "[::1]"]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        names = [name for name in self.headers if name.lower().startswith("x-vrata")]
        self.send_response(500 if names else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def service_port() -> Iterator[int]:
    """A service on every address of this machine, and on one that is not its own to HAProxy."""
    subprocess.run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo"], check=True)
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
    subprocess.run(["ip", "address", "del", f"{ELSEWHERE}/32", "dev", "lo"], check=True)


def status(directory: Path, name: str, port: int) -> int:
    """As `policy.lua` asks; the address is what a name was resolved to, or one itself."""
    connection = http.client.HTTPConnection("outbound", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(directory / "outbound.sock"))
        headers = {"x-vrata-name": name, "x-vrata-port": str(port), "x-vrata-tls": "0"}
        connection.request("GET", "/", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_no_url_leads_to_the_proxys_own_machine_or_links(site: Site, service_port: int) -> None:
    assert status(site.directory, ELSEWHERE, service_port) == 200
    assert {name: status(site.directory, name, service_port) for name in NEAR} == dict.fromkeys(NEAR, 403)
    assert {name: status(site.directory, name, service_port) for name in STRANGE} == dict.fromkeys(STRANGE, 503)


def test_no_url_leads_to_the_api_server(site: Site, service_port: int) -> None:
    """Its own addresses are those behind the Service `kubernetes`; they change while the proxy runs."""
    name = site.cluster.kubectl("get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}")
    assert status(site.directory, name, 443) == 403
    assert status(site.directory, ELSEWHERE, service_port) == 200
    behind = endpoint("kubernetes", "another", service_port)
    behind["endpoints"][0]["addresses"] = [ELSEWHERE]
    site.apply(behind)
    wait_for(lambda: status(site.directory, ELSEWHERE, service_port) == 403, "it is refused")
    words = {"auth-url": f"http://{ELSEWHERE}:{service_port}/"}
    site.apply(ingress("asking", ("asking.test", "Prefix", "/", "web"), annotations=words))
    site.until("asking.test", "/", "403")
    site.cluster.kubectl("delete", "endpointslice", "kubernetes-another")
    wait_for(lambda: status(site.directory, ELSEWHERE, service_port) == 200, "it is somebody else's now")


def test_who_cannot_be_asked_lets_nobody_in(site: Site, service_port: int) -> None:
    words = {"auth-url": f"http://{ELSEWHERE}:{service_port}/"}
    site.apply(ingress("asked", ("asked.test", "Prefix", "/", "web"), annotations=words))
    site.until("asked.test", "/", "one")
    site.apply(
        ingress("asked", ("asked.test", "Prefix", "/", "web"), annotations={"auth-url": "http://nobody.invalid/"})
    )
    site.until("asked.test", "/", "503")
