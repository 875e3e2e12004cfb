"""The Ingress controller's loop: what changed is compiled, planned against the running HAProxy, applied."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from vrata.base.errors import VrataError
from vrata.haproxy.runtime import RuntimeFailed
from vrata.ingress.apply import Proxy, observed_of
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.endpoints import servers_of, service_of
from vrata.ingress.metrics import Metrics
from vrata.ingress.model import BackendKey, Certificate, Problem, SecretKey, Server, Settings
from vrata.ingress.observe import Running
from vrata.ingress.plan import AddCertificate, Desired, Observed, Reload, RemoveServer, plan_pass
from vrata.ingress.secrets import Secrets
from vrata.ingress.served import file_names, secret_digest, secret_of_file
from vrata.ingress.statuses import StatusWriter
from vrata.ingress.table import NOTHING, Table
from vrata.ingress.telling import Telling
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.events import Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service
from vrata.loop.queue import backoff_s

COALESCE_S = 0.003
LINGER_RETRY_S = 1.0
RETRY_MAX_S = 10.0

log = structlog.get_logger(__name__)


class Controller:
    """Serves all Ingresses of this controller's classes with one HAProxy."""

    def __init__(self, kube: Kube, settings: Settings, directory: Path, status: StatusWriter) -> None:
        self.directory = directory
        self.events = Recorder(kube, "vrata-ingress")
        self.ingresses = Informer(kube, resources.INGRESSES, Ingress)
        self.classes = Informer(kube, resources.INGRESS_CLASSES, IngressClass)
        self.services = Informer(kube, resources.SERVICES, Service)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self.secrets = Secrets(kube, self._secret_changed)
        self.status = status
        self._due = asyncio.Event()
        self.metrics = Metrics()
        self.proxy = Proxy(settings, directory, self._due.set, self.metrics)
        self.table = Table()
        self.telling = Telling(self.events, self.ingresses.objects)
        self._slices: dict[str, dict[str, EndpointSlice]] = {}  # by Service
        # What the next pass looks at.
        self._hosts: set[str] = set()
        self._backends: set[BackendKey] = set()
        self._secrets: set[SecretKey] = set()
        self._strays: set[str] = set()
        # Digest of a Secret -> the file that HAProxy refused last, and what is told of it.
        self._refused: dict[str, tuple[str, tuple[str, str]]] = {}
        self._status_due = True
        self._done = False  # a pass
        self.metrics.watch("ingresses", "Ingresses that are served.", lambda: len(self.table.ours))
        self.metrics.watch("hosts", "Hosts that are served.", lambda: len(self.table.hosts))
        self.metrics.watch("places_free", "Backends for Services to come.", lambda: len(self._running.free))
        self.metrics.watch_places(lambda: self._running.owners)
        self.ingresses.on_change(self._ingress_changed)
        self.classes.on_change(self._class_changed)
        self.services.on_change(self._service_changed)
        self.slices.on_change(self._slice_changed)

    def _ingress_changed(self, old: Ingress | None, new: Ingress | None) -> None:
        entry = new or old
        assert entry
        key, claims = entry.metadata.key, None
        problems: list[Problem] = []
        if new:
            mine, problem = is_ours(new, self.classes.objects)
            problems += [problem] if problem else []
            if mine and not new.metadata.deletion_timestamp:
                claims = read_ingress(new)
                problems += claims.problems
        self.telling.found(f"ingress {key}", problems)
        self.table.put(key, claims)
        self._status_due = True
        self._due.set()

    def _class_changed(self, _old: IngressClass | None, _new: IngressClass | None) -> None:
        for ingress in tuple(self.ingresses.objects.values()):
            self._ingress_changed(ingress, ingress)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        entry = new or old
        assert entry
        key = entry.metadata.key
        self._look_at(self.table.backends_of(key))
        if key == self.status.publish_service:
            self._status_due = True
            self._due.set()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for entry in (old, new):
            if entry:
                owned = self._slices.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
                if not owned:
                    del self._slices[entry.service_key]
                self._look_at(self.table.backends_of(entry.service_key))

    def _secret_changed(self, key: SecretKey) -> None:
        self._secrets.add(key)
        self._due.set()

    def _look_at(self, backends: Iterable[BackendKey]) -> None:
        self._backends.update(backends)
        if self._backends:
            self._due.set()

    @property
    def _running(self) -> Running:
        return self.proxy.running or Running()

    def lacks(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        informers = (self.ingresses, self.classes, self.services, self.slices, self.secrets.known)
        waiting = [one for one in informers if not one.synced.is_set()]
        if waiting:
            return f"{len(waiting)} of {len(informers)} collections not read yet"
        return "" if self._done else "HAProxy does not serve yet"

    async def run(self) -> None:
        """Work until cancelled, then let HAProxy finish its requests."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.events.run())
                informers = (self.ingresses, self.classes, self.services, self.slices, self.secrets.known)
                for informer in informers:
                    group.create_task(informer.run())
                for informer in informers:
                    await informer.synced.wait()
                group.create_task(self.secrets.run())
                self._settle()
                await self.secrets.settled()
                group.create_task(self.status.run())
                await self._passes()
        finally:
            await self.proxy.drain()

    async def _passes(self) -> None:
        failures = 0
        self._due.set()
        while True:
            await self._due.wait()
            await asyncio.sleep(COALESCE_S)
            self._due.clear()
            try:
                with self.metrics.pass_seconds.time():
                    lingering = await self._pass()
                failures, self._done = 0, True
            except VrataError as error:
                failures += 1
                self.metrics.failed.inc()
                self.proxy.forget()
                log.warning("pass failed", error=str(error))
                self._again_in(backoff_s(failures, RETRY_MAX_S))
                continue
            if lingering:
                self._backends |= lingering
                self._again_in(LINGER_RETRY_S)

    def _again_in(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._due.set)

    async def _pass(self) -> set[BackendKey]:
        """Observe, plan, apply; the backends that have a server which must go and still has connections."""
        self._settle()
        if not self.proxy.is_alive():
            await self._reload(Reload("start", "no HAProxy runs"))
        observed = await self._observe()
        desired = self._desired()
        looked_at = {observed.places[key]: key for key in self._backends if key in observed.places}
        # A place is free again when its last server has gone, which the next look will see.
        again = {key for slot, key in looked_at.items() if key in desired.unwanted and observed.servers.get(slot)}
        self._hosts, self._backends, self._secrets, self._strays = set(), set(), set(), set()
        for action in plan_pass(observed, desired):
            if isinstance(action, Reload):
                await self._reload(action)
                self._due.set()
                break
            try:
                done = await self.proxy.apply(action)
            except RuntimeFailed as error:
                if not isinstance(action, AddCertificate):
                    raise
                self._refuse(action.name, error)  # its hosts have the default one; nobody else is kept waiting
                continue
            if isinstance(action, RemoveServer) and not done:
                again.add(looked_at[action.slot])
        if self._status_due:
            self._status_due = False
            self.status.set(self.table.ours, self.ingresses.objects, self.services.objects)
        return again

    def _settle(self) -> None:
        """What follows from the changes of Ingresses."""
        change = self.table.settle()
        for host, served in change.hosts.items():
            self.telling.found(f"host {host}", served.problems)
        for backend in change.removed:
            self.telling.found(f"backend {backend}", ())
        for secret in change.secrets:
            self.secrets.want(secret, wanted=bool(self.table.hosts_of(secret)))
        self._hosts |= change.hosts.keys()
        self._backends |= change.added | change.removed
        self._secrets |= change.secrets

    async def _observe(self) -> Observed:
        """All of it if nothing is known of this HAProxy; then the pass looks at all of it, too."""
        if self.proxy.running is not None:
            return await self.proxy.observe(self.proxy.running, self._backends)
        running, servers = await self.proxy.observe_all()
        self._hosts |= self.table.hosts.keys()
        self._secrets |= self.table.secrets
        known = {secret_digest(secret) for secret in self._secrets}
        self._strays = {name for name in running.certificates if secret_of_file(name) not in known}
        for hosts in running.rows.values():
            self._hosts |= hosts.keys()
        self._backends |= self.table.backends | set(running.owners.values())
        return observed_of(running, servers)

    def _desired(self) -> Desired:
        return Desired(
            hosts={host: self.table.hosts.get(host, NOTHING).rows for host in self._hosts},
            backends={key: self._servers(key) for key in self._backends if self.table.uses(key)},
            unwanted=frozenset(key for key in self._backends if not self.table.uses(key)),
            certificates={key: self._certificate(key) for key in self._secrets},
            strays=frozenset(self._strays),
        )

    def _refuse(self, name: str, error: RuntimeFailed) -> None:
        log.warning("certificate refused", file=name, error=str(error))
        self._refused[secret_of_file(name)] = name, ("CertificateRefused", f"HAProxy does not take it: {error}")
        self._secrets |= {key for key in self.table.secrets if secret_digest(key) == secret_of_file(name)}
        self._due.set()

    def _certificate(self, key: SecretKey) -> Certificate | None:
        hosts, found = self.table.hosts_of(key), self.secrets.get(key)
        wrong = found if isinstance(found, tuple) else None
        whole = Certificate(found, hosts) if hosts and isinstance(found, str) else None
        name, why = self._refused.get(secret_digest(key), ("", None))
        if whole and name in file_names(key, whole):
            whole, wrong = None, why
        self.telling.found(f"secret {key}", self.table.told(key, *wrong) if wrong else ())
        return whole

    def _servers(self, key: BackendKey) -> tuple[Server, ...]:
        service = service_of(key)
        slices = self._slices.get(service, {}).values()
        servers, wrong = servers_of(key, self.services.objects.get(service), slices)
        self.telling.found(f"backend {key}", self.table.told(key, *wrong) if wrong else ())
        return servers

    async def _reload(self, reason: Reload) -> None:
        backends = {key: self._servers(key) for key in self.table.backends}
        certificates = {key: self._certificate(key) for key in self.table.secrets}
        await self.proxy.reload(reason, backends, [host.rows for host in self.table.hosts.values()], certificates)
