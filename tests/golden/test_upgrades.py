"""A server that speaks HTTP/2 gets the request, whatever its client offers to change to; a WebSocket is one."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.cloud import wait_for
from tests.support.haproxy import BINARIES, present
from tests.support.pki import issue
from tests.support.ports import free_port

from vrata.haproxy.model import Backend, Balance, Config, Frontend, Mode, Server, ServerTls
from vrata.haproxy.render import render_config

# `:method` and what a WebSocket over HTTP/2 is known by (RFC 8441).
SERVER = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend server
    bind 127.0.0.1:{port} ssl crt {pem} alpn h2
    http-request return status 200 content-type text/plain lf-string "%[method] %[req.ver] upgrade=%[req.hdr(upgrade)]"
"""


@dataclass(frozen=True)
class Road:
    """Where a balancer listens."""

    port: int

    def ask(self, method: str, upgrade: str) -> tuple[int, str]:
        """Status and body of a request that offers an upgrade."""
        head = f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n"
        head += "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(head.encode())
            answer = connection.recv(65536).decode()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]

    def is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=BINARIES.values(), ids=list(BINARIES))
def road(request: pytest.FixtureRequest) -> Iterator[Road]:
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        pem, server, balancer = (Path(folder) / name for name in ("pem", "server.cfg", "balancer.cfg"))
        identity = issue("server")
        pem.write_text(identity.cert_pem + identity.key_pem)
        road, port = Road(free_port()), free_port()
        server.write_text(SERVER.format(port=port, pem=pem))
        backend = Backend(
            "b", Mode.HTTP, Balance.ROUNDROBIN, (Server("s", "127.0.0.1", port),), tls=ServerTls(alpn=("h2",))
        )
        frontend = Frontend("f", Mode.HTTP, ("127.0.0.1",), road.port, backend="b")
        balancer.write_text(render_config(Config(f"{folder}/s", 1000, frontends=(frontend,), backends=(backend,))))
        argv = (present(request.param), "-db", "-f")
        running = [subprocess.Popen([*argv, str(file)]) for file in (server, balancer)]
        try:
            wait_for(lambda: road.is_open() and Road(port).is_open())
            yield road
        finally:
            for one in running:
                one.kill()
                one.wait()


BESIDE = "websocket\r\nUpgrade: h2c"  # the second one is looked for by servers that read all of them


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2", "h2c, x", "websocket, h2c", BESIDE, "h2c\r\nUpgrade: websocket"])
def test_an_offer_of_another_protocol_makes_no_tunnel(road: Road, upgrade: str) -> None:
    # HAProxy 3.4 takes h2c out of several offers itself; what is left may be a WebSocket.
    alone = (101, "GET 2.0 upgrade=websocket") if "websocket" in upgrade else None
    assert road.ask("GET", upgrade) in ((200, "GET 2.0 upgrade="), alone)
    if road.ask("GET", upgrade)[0] == 200:
        assert road.ask("POST", upgrade) == (200, "POST 2.0 upgrade=")
        assert road.ask("HEAD", upgrade) == (200, "")
