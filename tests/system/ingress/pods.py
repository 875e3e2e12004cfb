"""Pods that end TLS themselves."""

import contextlib
import http.server
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.pki import Identity


@dataclass
class Pod:
    """An HTTPS server on loopback, and what it was called in handshakes."""

    port: int
    names: list[str | None] = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        cipher, version, _ = self.connection.cipher() or ("", "", 0)
        body = json.dumps({"pod": "encrypted", "cipher": cipher, "version": version}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def encrypted_pod(shown: Identity, asked: Identity | None = None, handshake_s: float = 0) -> Iterator[Pod]:
    """It shows one certificate, after a while, and may ask for another that an authority has signed."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made = Pod(server.server_port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(shown.cert_pem + shown.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    if asked:
        context.load_verify_locations(cadata=asked.cert_pem)
        context.verify_mode = ssl.CERT_REQUIRED

    def called(_socket: object, name: str | None, _context: object) -> None:
        time.sleep(handshake_s)
        made.names.append(name)

    context.sni_callback = called
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
