"""Puts the API server together and runs it until it is told to stop."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from vrata.base import clock
from vrata.base.asgi import serve_http
from vrata.base.signals import until_signalled
from vrata.sandbox.apiserver.access import Access
from vrata.sandbox.apiserver.collector import Collector
from vrata.sandbox.apiserver.crd import resources_of
from vrata.sandbox.apiserver.deletion import CRDS, Deleter
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.http import App
from vrata.sandbox.apiserver.objects import NAMESPACES, Objects, Options
from vrata.sandbox.apiserver.pki import Credentials
from vrata.sandbox.apiserver.reading import Reader
from vrata.sandbox.apiserver.resources import Registry, Resource
from vrata.sandbox.apiserver.services import Allocator
from vrata.sandbox.apiserver.store import Event, Record, Store, decode

log = structlog.get_logger()
FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
STOP_S = 2  # for requests that are under way


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    data_dir: Path
    service_cidr: ipaddress.IPv4Network
    node_ports: range
    service_cidr_6: ipaddress.IPv6Network | None = None


class Server:
    """Store, controllers and HTTP application of one API server."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self.store = Store(settings.data_dir / "objects.sqlite")
        self.registry = Registry()
        self.allocator = Allocator(settings.service_cidr, settings.node_ports, settings.service_cidr_6)
        self.objects = Objects(self.store, self.registry, self.allocator, clock.now, credentials.ca_file.read_text())
        deleter = Deleter(self.objects)
        self._load()
        self.store.on_write.append(self._follow)
        self.collector = Collector(self.objects, deleter)
        self.reader = Reader(self.store, clock.now)
        self.app = App(self.objects, deleter, self.reader, Access(self.store, credentials.token))

    def _load(self) -> None:
        for record in self.store.scan("services"):
            self.allocator.hold(record.load())
        for record in self.store.scan(CRDS):
            self._serve_crd(record.load())

    def _serve_crd(self, crd: Obj) -> None:
        established = any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in crd.get("status", {}).get("conditions", ())
        )
        self.registry.drop_crd(crd["metadata"]["name"])
        if established:
            for resource in resources_of(crd):
                self.registry.add(resource)

    def _follow(self, event: Event, record: Record, old: Record | None) -> None:
        """Keep allocations and served resources in step with what is stored."""
        if event.resource == "services":
            if old is not None:
                self.allocator.release(old.load())
            if event.type != "DELETED":
                self.allocator.hold(decode(event.raw))
        elif event.resource == CRDS:
            if event.type == "DELETED":
                self.registry.drop_crd(record.key[1])
            elif old is None or _spec(old.load()) != _spec(record.load()):
                self._serve_crd(record.load())

    def bootstrap(self, port: int) -> None:
        """Create what every cluster has from the start, as far as it is not there."""
        namespaces = self._resource("namespaces")
        for name in FIRST_NAMESPACES:
            if self.store.get(NAMESPACES, "", name) is None:
                self.objects.create(namespaces, "", {"metadata": {"name": name}}, Options(manager="kube-apiserver"))
        for namespace in [record.load() for record in self.store.scan(NAMESPACES)]:
            if namespace["status"]["phase"] == "Active":  # one that an older version made may lack something
                self.objects.fill_namespace(namespace["metadata"]["name"])
        data = {"client-ca-file": self.objects.authority}
        authentication = {"metadata": {"name": "extension-apiserver-authentication"}, "data": data}
        self.objects.ensure("configmaps", "kube-system", authentication)  # controllers that serve HTTPS wait for it
        if self.store.get("services", "default", "kubernetes") is None:
            service = {
                "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
                "spec": {
                    "clusterIP": str(self._settings.service_cidr[1]),
                    "ports": [{"name": "https", "port": 443, "targetPort": port}],
                },
            }
            self.objects.create(self._resource("services"), "default", service, Options(manager="kube-apiserver"))
        self.collector.adopt()

    def _resource(self, plural: str) -> Resource:
        found = self.registry.find("", "v1", plural)
        assert found is not None
        return found

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until SIGTERM or SIGINT, then end the watches and close the store."""
        self.bootstrap(sockets[0].getsockname()[1])
        collecting = asyncio.gather(self.collector.run(), self.collector.expire_events())
        log.info("apiserver.ready", listen=[str(s.getsockname()) for s in sockets], resource_version=self.store.rv)
        try:
            serving = serve_http(
                self.app,
                sockets,
                certificate=str(self._credentials.certificate_file),
                key=str(self._credentials.key_file),
                lifespan="off",
                grace_s=STOP_S,
                stopping=self.reader.stop,
            )
            await until_signalled(serving)
        finally:
            collecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await collecting
            self.store.close()


def _spec(crd: Obj) -> Any:
    return crd["spec"], crd.get("status", {}).get("conditions"), crd.get("status", {}).get("acceptedNames")
