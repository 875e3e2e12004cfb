"""The Ingress controller as a process, its HAProxy on loopback, echo servers for pods, objects through kubectl."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.support.haproxy import SYSTEM, environment
from tests.support.kubernetes import Cluster, wait_for
from tests.support.pki import Identity
from tests.support.ports import free_port

from vrata.haproxy.process import HaproxyProcess
from vrata.net.daemon import DaemonId

CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "vrata"},
    "spec": {"controller": "vrata.dev/ingress-controller"},
}
LOAD_PAUSE_S = 0.004  # between two requests of one client
PUBLISHED = "203.0.113.77"
Json = dict[str, Any]


@dataclass
class Echoes:
    """Echo servers, each on a port of its own: the pods of these tests."""

    _running: dict[str, tuple[int, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def port(self, pod: str) -> int:
        """The port of a pod's server, started when first asked for."""
        if pod not in self._running:
            number = free_port()
            argv = [sys.executable, "-m", "vrata.sandbox.echo", "--port", str(number)]
            process = subprocess.Popen(argv, env=os.environ | {"POD_NAME": pod}, stderr=subprocess.DEVNULL)
            self._running[pod] = number, process
            wait_for(lambda: reachable(number), f"{pod} listens")
        return self._running[pod][0]

    def stop(self) -> None:
        """End them all."""
        for _, process in self._running.values():
            process.kill()
            process.wait()


def reachable(port: int) -> bool:
    """Whether somebody listens on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def service(name: str) -> Json:
    """A Service whose slices the test writes itself."""
    spec = {"ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoint(name: str, pod: str, port: int, *, ready: bool = True) -> Json:
    """A slice with one endpoint on loopback."""
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{pod}", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def secret(name: str, identity: Identity, *, key: str = "") -> Json:
    """A Secret of a certificate, with another key if one is given."""
    data = {"tls.crt": identity.cert_pem, "tls.key": key or identity.key_pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": data,
    }


def ingress(
    name: str,
    *paths: tuple[str, str, str, str],
    default: str = "",
    tls: dict[str, list[str]] | None = None,
    annotations: dict[str, str] | None = None,
) -> Json:
    """Paths are (host, pathType, path, Service); `tls` are hosts by Secret; annotations are ingress-nginx's."""

    def backend(target: str) -> Json:
        return {"service": {"name": target, "port": {"number": 80}}}

    rules = [
        ({"host": host} if host else {})
        | {"http": {"paths": [{"pathType": kind, "path": path, "backend": backend(target)}]}}
        for host, kind, path, target in paths
    ]
    spec: Json = {"ingressClassName": "vrata", "rules": rules}
    if tls:
        spec["tls"] = [{"secretName": secret, "hosts": hosts} for secret, hosts in tls.items()]
    if default:
        spec["defaultBackend"] = backend(default)
    words = {f"nginx.ingress.kubernetes.io/{key}": value for key, value in (annotations or {}).items()}
    metadata = {"name": name, "annotations": words}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


# As in the manifest, where it may do nothing that needs root. Its user is who runs the tests: nobody else need be able to
# read this interpreter.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


@dataclass
class Seen:
    """What a load of requests met."""

    good: int = 0
    bad: list[str] = field(default_factory=list)


class Site:
    """One controller with its HAProxy."""

    def __init__(self, cluster: Cluster, directory: Path, *options: str, haproxy: str = SYSTEM) -> None:
        self.cluster, self.directory = cluster, directory / "haproxy"
        self.log = directory / "log"
        self.http, self.https, self.health = free_port(), free_port(), free_port()
        self.program = ["vrata"]
        self.options = ("--no-proxy-protocol", *options)
        self._environment = environment(haproxy)
        self._haproxy = HaproxyProcess(self.directory)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start (again) and wait until HAProxy says that it is well."""
        argv = [*UNPRIVILEGED, sys.executable, "-m", *self.program, "ingress"]
        argv += ["--kubeconfig", str(self.cluster.kubeconfig)]
        argv += ["--publish-service", "default/front", "--http-port", str(self.http), "--health-port", str(self.health)]
        argv += ["--https-port", str(self.https), *self.options, "--directory", str(self.directory)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=self._environment)
        wait_for(self.is_healthy, "HAProxy answers /healthz")

    def is_healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return self.ask("", "/healthz", port=self.health)[0] == 200
        return False

    def stop(self) -> None:
        """End whatever runs, however."""
        if self.process:
            self.process.kill()
            self.process.wait()
        asyncio.run(self._haproxy.stop())

    def apply(self, *objects: Json) -> None:
        """Write objects."""
        self.cluster.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        )

    def ask(self, host: str, path: str, *, port: int = 0) -> tuple[int, Any]:
        """Status and body (decoded, if JSON) of one GET on a connection of its own."""
        status, _, body = self.request("GET", host, path, port=port)
        return status, body

    def request(
        self, method: str, host: str, path: str, headers: dict[str, str] | None = None, *, port: int = 0
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (names in lower case) and body (decoded, if JSON) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=60)
        try:
            connection.request(method, path, headers=({"Host": host} if host else {}) | (headers or {}))
            answer = connection.getresponse()
            body = answer.read().decode()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, json.loads(body) if body.startswith("{") else body
        finally:
            connection.close()

    def certificate(self, host: str) -> str:
        """The common name of the certificate that a host is served with."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.https), 60) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            found = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def encrypted(
        self, host: str, path: str = "/", *, name: str = "", shown: Identity | None = None, headers: str = ""
    ) -> tuple[int, Any]:
        """Status and body of one GET over HTTPS, whoever answers; `name` in the handshake, `shown` is our certificate."""
        status, _, body = self.request_encrypted(host, path, name=name, shown=shown, headers=headers)
        return status, body

    def request_encrypted(
        self, host: str, path: str = "/", *, name: str = "", shown: Identity | None = None, headers: str = ""
    ) -> tuple[int, dict[str, str], Any]:
        """The same with the answer's headers (names in lower case)."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if shown:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(shown.cert_pem + shown.key_pem)
                file.flush()
                context.load_cert_chain(file.name)
        with (
            socket.create_connection(("127.0.0.1", self.https), 60) as raw,
            context.wrap_socket(raw, server_hostname=name or host) as connection,
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = answer.read().decode()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, json.loads(body) if body.startswith("{") else body

    def pod(self, host: str, path: str = "/", *, port: int = 0) -> str:
        """The pod that answers, or the status if none does."""
        status, body = self.ask(host, path, port=port)
        return str(body["pod"]) if status == 200 else str(status)

    def until(self, host: str, path: str, expected: str) -> None:
        """Wait until this pod (or status) answers."""
        wait_for(lambda: self.pod(host, path) == expected, f"{expected} answers {host}{path}")

    def haproxy(self) -> DaemonId | None:
        """The master, if it runs."""
        return self._haproxy.running()

    def worker(self) -> str:
        """The worker's pid: another one after each reload."""
        return asyncio.run(self._haproxy.runtime.information())["Pid"]

    def owner(self, slot: str) -> str:
        """The backend that a prepared place serves; empty if none."""
        return str(self.ask("", f"/backends/{slot}", port=self.health)[1])

    def owner_of(self, backend: str) -> str:
        """The place that serves a backend; empty if none does."""
        places = (f"b-{number:06d}" for number in range(300))
        return next((place for place in places if self.owner(place) == backend), "")

    def tell(self, command: str) -> None:
        """Change the running HAProxy behind the controller's back."""
        asyncio.run(self._haproxy.runtime.tell(command))

    def answer(self, command: str) -> str:
        """What the running HAProxy says to a command."""
        return asyncio.run(self._haproxy.runtime.ask(command))

    def adds_places(self) -> bool:
        """Whether the running HAProxy can add backends, as from 3.4 on."""
        return "add backend " in self.answer("help")

    def places(self) -> dict[str, str]:
        """What serves what: the backends by their places."""
        return self.rows("owners")

    def rows(self, name: str) -> dict[str, str]:
        """The rows of one of HAProxy's maps, as they are now."""
        text = self.answer(f"show map {self.directory}/{name}.map")
        found = (line.split(" ", 2) for line in text.splitlines())
        return {row[1]: row[2] for row in found if len(row) == 3}

    def vrata(self, *argv: str) -> str:
        """What a command of `vrata ingress` prints of this cluster."""
        command = [sys.executable, "-m", "vrata", "ingress", *argv, "--kubeconfig", str(self.cluster.kubeconfig)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def events(self) -> str:
        """All events that were written, as they are."""
        return self.cluster.kubectl("get", "events", "-A", "-o", "json")

    def reloads(self) -> int:
        """How often this controller has reloaded HAProxy, its start included."""
        return self.log.read_text().count("haproxy reload")

    @contextlib.contextmanager
    def load(self, host: str, *, port: int = 0) -> Iterator[Seen]:
        """Ask all the time, each time on a new connection, and leave the processors to what is tested in between."""
        seen, stop = Seen(), threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    status, _ = self.ask(host, "/", port=port)
                except (OSError, http.client.HTTPException) as error:
                    status, reason = 0, f"{type(error).__name__}: {error}"
                else:
                    reason = str(status)
                if status == 200:
                    seen.good += 1
                else:
                    seen.bad.append(f"{time.monotonic():.3f} {reason}")
                stop.wait(LOAD_PAUSE_S)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join()
