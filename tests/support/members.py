"""Members of a pool for tests: threads that answer HTTP with what reached them, behind TLS or a PROXY header if asked."""

import contextlib
import json
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fabric import Machine, listen_in
from tests.support.pki import Identity

from vrata.net.netns import in_namespace

WAIT_S = 30.0
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@dataclass
class Answer:
    """What came back, chunks not put together. `tls`: version, cipher, ALPN and name of the certificate, where there was TLS."""

    status: int
    headers: dict[str, str]
    body: str
    tls: dict[str, str | None] = field(default_factory=dict)

    @property
    def seen(self) -> dict[str, str]:
        """What the member says it saw."""
        return dict(json.loads(self.body))


@contextlib.contextmanager
def member(
    machine: Machine, address: str, port: int, name: str, *, tls: ssl.SSLContext | None = None, proxy: bool = False
) -> Iterator[None]:
    """A member until the end of `with`."""
    listening = listen_in(machine.netns, address, port)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listening.accept()
                threading.Thread(target=serve, args=(connection, peer[0]), daemon=True).start()

    def serve(connection: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError, ValueError, ssl.SSLError), connection:
            said = _proxy_header(connection) if proxy else ""
            stream = tls.wrap_socket(connection, server_side=True) if tls else connection
            with stream:
                _answer_all(stream, {"name": name, "peer": peer, "proxy": said})

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _answer_all(stream: socket.socket, about: dict[str, str]) -> None:
    if isinstance(stream, ssl.SSLSocket):
        found = stream.getpeercert()
        about = about | {"client": str(found["subject"]) if found else "", "version": str(stream.version())}
    while True:
        request = b""
        while b"\r\n\r\n" not in request:
            part = stream.recv(4096)
            if not part:
                return
            request += part
        lines = request.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:]) if key}
        body = json.dumps(about | {"request": lines[0], **headers}).encode()
        cookie = "Set-Cookie: JSESSIONID=" + about["name"] + "-session\r\n"
        stream.sendall(f"HTTP/1.1 200 OK\r\n{cookie}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _proxy_header(connection: socket.socket) -> str:
    """`v1 SOURCE` or `v2 SOURCE` of a PROXY header, which must be there."""
    start = connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
    if start == _SIGNATURE:
        _, _, family, length = struct.unpack("!12sBBH", connection.recv(16, socket.MSG_WAITALL))
        block = connection.recv(length, socket.MSG_WAITALL) if length else b""
        return f"v2 {socket.inet_ntoa(block[:4])}" if family == 0x11 else "v2 local"
    line = b""
    while not line.endswith(b"\r\n"):
        line += connection.recv(1)
    words = line.decode().split()
    if words[0] != "PROXY":
        raise ValueError(words)
    return f"v1 {words[2]}"


def context(identity: Identity | None, *, server: bool = False, trust: Identity | None = None) -> ssl.SSLContext:
    """One end of TLS: with a certificate, verifying the other's where there is somebody to trust."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if trust else ssl.CERT_NONE
    if trust:
        made.load_verify_locations(cadata=trust.cert_pem)
    if identity:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(identity.cert_pem + identity.key_pem)
            file.flush()
            made.load_cert_chain(Path(file.name))
    return made


@dataclass(frozen=True)
class Client:
    """Where and how requests go: OSError (ssl.SSLError is one) for what is refused."""

    machine: Machine
    address: str
    port: int
    tls: ssl.SSLContext | None = None
    sni: str | None = None
    source: str | None = None

    def connect(self) -> socket.socket:
        """An open connection, after its handshake."""
        source = (self.source, 0) if self.source else None
        raw = in_namespace(
            self.machine.netns, lambda: socket.create_connection((self.address, self.port), WAIT_S, source)
        )
        return self.tls.wrap_socket(raw, server_hostname=self.sni) if self.tls else raw

    def get(self, path: str = "/", **headers: str) -> Answer:
        """One request on a connection of its own. Underscores in names of headers stand for dashes."""
        with self.connect() as connection:
            return exchange(connection, path, **headers)


def exchange(connection: socket.socket, path: str = "/", **headers: str) -> Answer:
    """One request on an open connection; OSError if it is closed without an answer."""
    lines = [f"GET {path} HTTP/1.1", *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items())]
    if "Host" not in headers:
        lines.append("Host: www.example.org")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError("closed without an answer")
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    found = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)}
    while len(body) < int(found.get("content-length", 0)):
        body += connection.recv(65536)
    while found.get("transfer-encoding") == "chunked" and not body.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError("closed in the middle of an answer")
        body += part
    tls = {}
    if isinstance(connection, ssl.SSLSocket):
        cipher = connection.cipher()
        tls = {"version": connection.version(), "cipher": cipher[0] if cipher else None}
        tls["alpn"] = connection.selected_alpn_protocol()
    return Answer(int(status.split()[1]), found, body.decode(errors="replace"), tls)
