"""The Ingress controller's loop: what changed is compiled, planned against the running HAProxy, applied."""

import asyncio
import contextlib
import socket
from collections import ChainMap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from vrata.base.errors import VrataError
from vrata.haproxy.runtime import RuntimeFailed
from vrata.ingress import doorman
from vrata.ingress.apply import Proxy, observed_of
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.endpoints import EXTERNAL, addresses_of, pods_of, service_of, words_of
from vrata.ingress.headers import HEADERS
from vrata.ingress.holdings import is_recorded, read_record, record_of, write_record
from vrata.ingress.metrics import Metrics
from vrata.ingress.model import CONFIG_MAP, BackendKey, Problem, SecretKey, Settings
from vrata.ingress.names import Names, Owners
from vrata.ingress.observe import Running
from vrata.ingress.parameters import defaults_of, key_of
from vrata.ingress.places import rows_of_policy
from vrata.ingress.plan import (
    AddCertificate,
    AddFile,
    AddPolicy,
    AddServer,
    Observed,
    Reload,
    RemoveServer,
    plan_pass,
    policy_rows,
)
from vrata.ingress.relay import Carried, Relay
from vrata.ingress.secrets import Secrets
from vrata.ingress.served import secret_digest, secret_of_file
from vrata.ingress.statuses import StatusWriter
from vrata.ingress.streams import read_datagrams, read_streams
from vrata.ingress.table import Table
from vrata.ingress.telling import Telling
from vrata.ingress.trust import peer_of
from vrata.ingress.users import is_users
from vrata.ingress.wanted import API_SERVER, Wanted, Work
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.events import Recorder
from vrata.kube.informer import Informer
from vrata.kube.metrics import watch_informers
from vrata.kube.objects import ConfigMap, EndpointSlice, Ingress, IngressClass, Service
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
        self._owners = Owners()
        self.names = Names(self._names_changed, self._owners.of, self._own_addresses)
        self.status = status
        namespace, _, name = settings.tcp_services.partition("/")
        self.config_maps = Informer(
            kube, resources.CONFIG_MAPS, ConfigMap, namespace=namespace, field_selector=f"metadata.name={name}"
        )
        own, _, _ = status.publish_service.partition("/")
        self.parameters = Informer(kube, resources.CONFIG_MAPS, ConfigMap, namespace=own)
        namespace, _, name = settings.udp_services.partition("/")
        self.udp_config_maps = Informer(
            kube, resources.CONFIG_MAPS, ConfigMap, namespace=namespace, field_selector=f"metadata.name={name}"
        )
        self.relay = Relay(self._carried, self._ports_refused)
        self._due = asyncio.Event()
        self.metrics = Metrics()
        self.proxy = Proxy(settings, directory, self._due.set, self.metrics)
        self.table = Table(shared_hosts=settings.shared_hosts)
        config_maps = ChainMap(self.config_maps.objects, self.udp_config_maps.objects)
        self.telling = Telling(self.events, self.ingresses.objects, config_maps, self.services.objects)
        self.wanted = Wanted(
            settings,
            status.publish_service,
            self.table,
            self.services.objects,
            self.secrets,
            self.names,
            self.telling,
        )
        self._work = Work()  # of the next pass
        self._status_due = True
        self._done = False  # a pass
        self.metrics.watch("ingresses", "Ingresses that are served.", lambda: len(self.table.ours))
        self.metrics.watch("hosts", "Hosts that are served.", lambda: len(self.table.hosts))
        self.metrics.watch("places_free", "Backends for Services to come.", lambda: len(self._running.free))
        self.metrics.watch_places(lambda: self._running.owners)
        self._by_host: Mapping[str, Mapping[str, int]] = {}
        if settings.host_metrics:
            self.metrics.watch_hosts(lambda: self._by_host)
        for informer in self._informers:
            informer.on_unreadable(self.events.unreadable)
        watch_informers(self.metrics.registry, lambda: self._informers)
        self.metrics.watch("leader", "1 while this replica writes statuses.", status.is_writing)
        self.metrics.watch_certificates(lambda: self.secrets.ends)
        self.ingresses.on_change(self._ingress_changed)
        self.classes.on_change(self._class_changed)
        self.services.on_change(self._service_changed)
        self.slices.on_change(self._slice_changed)
        self.config_maps.on_change(self._config_map_changed)
        self.udp_config_maps.on_change(self._udp_config_map_changed)
        self.parameters.on_change(self._parameters_changed)

    @property
    def _informers(self) -> list[Informer[Any]]:
        always: list[Informer[Any]] = [self.parameters, self.classes, self.ingresses, self.services, self.slices]
        always += [self.secrets.known, self.secrets.config_maps]
        settings = self.proxy.settings
        always += [self.config_maps] if settings.tcp_services else []
        always += [self.udp_config_maps] if settings.udp_services else []
        return always

    def _config_map_changed(self, _old: ConfigMap | None, new: ConfigMap | None) -> None:
        settings = self.proxy.settings
        taken = (settings.http_port, settings.https_port, settings.health_port)
        asked, wrong = read_streams(new.data if new else {}, taken)
        # HAProxy does not start with a port that it can not have.
        refused = {port: why for port in asked if (why := why_not_bound(port.number))}
        found = {port: backend for port, backend in asked.items() if port not in refused}
        wrong += tuple(("InvalidPort", f"data.{port.number}: {why}; use another one") for port, why in refused.items())
        key = f"{CONFIG_MAP}{settings.tcp_services}"
        self.telling.found(key, [Problem(key, reason, message) for reason, message in wrong])
        touched = {*self.wanted.streams.values(), *found.values()}
        self.wanted.streams = found
        for backend in touched:
            self._follow(service_of(backend))
        self._work.backends |= touched
        self._due.set()

    def _udp_config_map_changed(self, _old: ConfigMap | None, new: ConfigMap | None) -> None:
        found, wrong = read_datagrams(new.data if new else {})
        key = f"{CONFIG_MAP}{self.proxy.settings.udp_services}"
        self.telling.found("UDP services", [Problem(key, reason, message) for reason, message in wrong])
        before, self.wanted.datagrams = self.wanted.datagrams, found
        for backend in {*before.values(), *found.values()}:
            self._follow(service_of(backend))
        for backend in {*before.values()} - {*found.values()}:
            self.telling.found(f"backend {backend}", ())
        self.relay.changed.set()

    def _carried(self) -> Carried:
        return {
            port: [(server.address, server.port) for server in self.wanted.servers(backend)]
            for port, backend in self.wanted.datagrams.items()
        }

    def _ports_refused(self, refused: Mapping[str, str]) -> None:
        key = f"{CONFIG_MAP}{self.proxy.settings.udp_services}"
        told = ((port, f"it cannot be opened here ({why})") for port, why in refused.items())
        problems = [Problem(key, "InvalidPort", f"data.{port}: {why}; use another one") for port, why in told]
        self.telling.found("UDP ports", problems)

    def _backends_of(self, service: str) -> frozenset[BackendKey]:
        named = (*self.wanted.streams.values(), *self.wanted.datagrams.values())
        return self.table.backends_of(service) | {backend for backend in named if service_of(backend) == service}

    def _ingress_changed(self, old: Ingress | None, new: Ingress | None) -> None:
        entry = new or old
        assert entry
        key, claims = entry.metadata.key, None
        problems: list[Problem] = []
        if new:
            mine, problem = is_ours(new, self.classes.objects)
            problems += [problem] if problem else []
            if mine and not new.metadata.deletion_timestamp:
                defaults, problem = defaults_of(new, self.classes.objects, self.parameters.objects)
                problems += [problem] if problem else []
                passthrough = self.proxy.settings.ssl_passthrough
                claims = read_ingress(new, defaults, self.secrets.get, passthrough=passthrough)
                problems += claims.problems
        self.telling.found(f"ingress {key}", problems)
        self.table.put(key, claims)
        self._status_due = True
        self._due.set()

    def _class_changed(self, _old: IngressClass | None, _new: IngressClass | None) -> None:
        for ingress in tuple(self.ingresses.objects.values()):
            self._ingress_changed(ingress, ingress)

    def _parameters_changed(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        entry = new or old
        assert entry
        if entry.metadata.key in {key_of(one.spec.parameters) for one in self.classes.objects.values()}:
            self._class_changed(None, None)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        entry = new or old
        assert entry
        key = entry.metadata.key
        self._own(f"service {key}", key, (new.spec.cluster_ip, *new.spec.cluster_ips) if new else ())
        self._follow(key)
        self._look_at(self._backends_of(key))
        if key == API_SERVER:
            self._due.set()
        if key == self.status.publish_service:
            self._status_due = True  # and whose PROXY headers are believed: every pass looks
            self._due.set()

    def _own(self, name: str, key: str, addresses: Iterable[str]) -> None:
        for address in self._owners.put(name, key.partition("/")[0], addresses):
            self._names_changed(self.names.leading_to(address))

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if entry := new or old:
            self._own(f"slice {entry.metadata.key}", entry.metadata.key, pods_of(new) if new else ())
        for entry in (old, new):
            if entry:
                owned = self.wanted.slices.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
                if not owned:
                    del self.wanted.slices[entry.service_key]
                self._look_at(self._backends_of(entry.service_key))
                if entry.service_key in (self.status.publish_service, API_SERVER):
                    self._due.set()

    def _secret_changed(self, key: SecretKey) -> None:
        (self._work.named if ";" in key else self._work.secrets).add(key)
        for ingress in self.table.naming(key) if key.endswith(HEADERS) else ():
            self._ingress_changed(None, self.ingresses.objects[ingress])
        if ";" in key and not is_users(key):
            self._work.secrets |= {host.certificate for _, host in self.table.authorised_by(key) if host.certificate}
            peers = ((one, peer_of(words_of(one))) for one in self.table.backends)
            self._work.backends |= {one for one, peer in peers if peer and peer.secret == key}
        self._due.set()

    def _names_changed(self, services: frozenset[str]) -> None:
        for service in services:
            self._look_at(self._backends_of(service))

    def _own_addresses(self) -> frozenset[str]:
        """Of the pods of the controller, of the balancer in front (what asks there would ask itself), and of the API server."""
        front = self.status.publish_service
        served = self.services.objects.get(front)
        before = served.status.load_balancer.ingress if served else ()
        pods = addresses_of(self.wanted.slices.get(front, {}).values())
        return pods | {self.proxy.settings.replica} | {one.ip for one in before} | self.wanted.forbidden()

    def _follow(self, key: str) -> None:
        """Ask for the name that a Service stands for, if a row leads to it."""
        service = self.services.objects.get(key)
        named = service and service.spec.type == EXTERNAL and self._backends_of(key)
        self.names.follow(key, service.spec.external_name if service and named else None)

    def _look_at(self, backends: Iterable[BackendKey]) -> None:
        datagrams = {*self.wanted.datagrams.values()}
        for backend in backends:
            if backend in datagrams:
                self.relay.changed.set()
            else:
                self._work.backends.add(backend)
        if self._work.backends:
            self._due.set()

    @property
    def _running(self) -> Running:
        return self.proxy.running or Running()

    def lacks(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        reasons = [reason for informer in self._informers if (reason := informer.not_ready_reason())]
        return "; ".join(reasons) or ("" if self._done else "HAProxy does not serve yet")

    async def count_hosts(self) -> None:
        """Read the figures by host, if there are any."""
        if self.proxy.settings.host_metrics:
            with contextlib.suppress(VrataError):  # the last ones are told again
                self._by_host = await self.proxy.count_hosts()

    async def run(self) -> None:
        """Work until cancelled, then let HAProxy finish its requests; after an error it goes on without us."""
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.events.run())
                for informer in self._informers:
                    group.create_task(informer.run())
                for informer in self._informers:
                    await informer.synced.wait()
                group.create_task(self.secrets.run())
                group.create_task(self.names.run())
                group.create_task(self.relay.run())
                self.table.remember(read_record(self.parameters.objects.get(record_of(self.status.publish_service))))
                self._settle()
                await self.secrets.settled()
                group.create_task(self.status.run())
                group.create_task(doorman.run(self.wanted.users_of, self.directory))
                await self._passes()
        except asyncio.CancelledError:
            await self.proxy.drain()
            raise
        finally:
            await self.relay.stop()

    async def _passes(self) -> None:
        failures = 0
        self._due.set()
        while True:
            await self._due.wait()
            await asyncio.sleep(COALESCE_S)
            self._due.clear()
            if self.proxy.is_paused():  # it has ended again and again; `_due` is set when it may be started
                continue
            try:
                with self.metrics.pass_seconds.time():
                    lingering = await self._pass()
                failures, self._done = 0, True
            except Exception as error:  # Exception: whatever one object or file brings about, the others are served
                failures += 1
                self.metrics.failed.inc()
                self.proxy.forget()
                log.warning("pass failed", error=str(error), exc_info=not isinstance(error, VrataError))
                self._again_in(backoff_s(failures, RETRY_MAX_S))
                continue
            if lingering:
                self._work.backends |= lingering
                self._again_in(LINGER_RETRY_S)

    def _again_in(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._due.set)

    async def _pass(self) -> set[BackendKey]:
        """Observe, plan, apply; the backends that have a server which must go and still has connections."""
        self._settle()
        if not self.proxy.is_alive():
            await self._reload(Reload("start", "no HAProxy runs"))
        elif self.proxy.running is None and self.proxy.is_foreign():
            await self._reload(Reload("other settings", "HAProxy was started with others, or by another version"))
        # What changes from here on is the next pass' work: nobody has looked at it in this one.
        work, self._work = self._work, Work()
        work.streams = self.wanted.streams
        observed = await self._observe(work)
        desired = self.wanted.desired(work)
        looked_at = {observed.places[key]: key for key in work.backends if key in observed.places}
        # A place is free again when its last server has gone, which the next look will see.
        again = {key for slot, key in looked_at.items() if key in desired.unwanted and observed.servers.get(slot)}
        refused: RuntimeFailed | None = None
        for action in plan_pass(observed, desired):
            if isinstance(action, Reload):
                await self._reload(action)
                self._due.set()
                break
            try:
                done = await self.proxy.apply(action)
            except RuntimeFailed as error:
                match action:  # nobody else is kept waiting
                    case AddCertificate(name=name) | AddFile(name=name):  # its hosts have the default one
                        log.warning("certificate refused", file=name, error=str(error))
                        for secret in self.wanted.refuse(name, str(error)):
                            self._secret_changed(secret)
                    case AddServer() | AddPolicy():
                        refused = error  # a route with a pod less, or with settings that nobody can read, is safe
                    case _:
                        raise
                continue
            if isinstance(action, RemoveServer) and not done:
                again.add(looked_at[action.slot])
        if self._status_due:
            self._status_due = False
            self.status.set(self.table.ours, self.ingresses.objects, self.services.objects)
            self._record_kept_hosts()
        if refused:
            raise refused
        return again

    def _record_kept_hosts(self) -> None:
        found = self.parameters.objects.get(record_of(self.status.publish_service))
        content = write_record(self.table.kept)
        self.status.record(None if is_recorded(content, found) else content)

    def _settle(self) -> None:
        """What follows from the changes of Ingresses."""
        change = self.table.settle()
        for host, served in change.hosts.items():
            self.telling.found(f"host {host}", served.problems)
        for backend in change.removed:
            self.telling.found(f"backend {backend}", ())
        for service in {service_of(backend) for backend in change.added | change.removed}:
            self._follow(service)
        for secret in change.secrets:
            self.secrets.want(secret, wanted=bool(self.table.hosts_of(secret)))
        for secret in change.named:
            self.secrets.want(secret, wanted=secret in self.table.named)
        self._work.named |= change.named
        self._work.hosts |= change.hosts.keys()
        self._work.backends |= change.added | change.removed
        self._work.secrets |= change.secrets
        self._work.policies |= {
            name: text if self.table.has(policy) else None
            for policy in change.policies
            for name, text in rows_of_policy(policy).items()
        }

    async def _observe(self, work: Work) -> Observed:
        """All of it if nothing is known of this HAProxy; then the pass looks at all of it, too."""
        if self.proxy.running is not None:
            return await self.proxy.observe(self.proxy.running, work.backends)
        running, servers = await self.proxy.observe_all()
        self._look_at_everything(work)
        work.named |= running.users.keys()
        known = {secret_digest(secret) for secret in (*work.secrets, *work.named)}
        work.strays = {name for name in running.certificates | running.files if secret_of_file(name) not in known}
        for hosts in running.rows.values():
            work.hosts |= hosts.keys()
        work.hosts |= running.authorities.keys() | running.through.keys()
        work.policies = dict.fromkeys(running.policies) | work.policies
        work.backends |= set(running.owners.values())
        return observed_of(running, servers)

    def _look_at_everything(self, work: Work) -> None:
        work.hosts |= self.table.hosts.keys()
        work.secrets |= self.table.secrets
        work.named |= self.table.named
        work.policies |= policy_rows(self.table.policies)
        work.backends |= {*self.table.backends, *work.streams.values()}

    async def _reload(self, reason: Reload) -> None:
        work = Work(streams=self.wanted.streams)
        self._look_at_everything(work)
        await self.proxy.reload(reason, self.wanted.desired(work))


def why_not_bound(port: int) -> str:
    """Why nobody but another process could listen there; empty if HAProxy can, or does already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as HAProxy's own sockets have
        try:
            probe.bind(("", port))
        except OSError as error:
            return f"it cannot be opened here ({error.strerror})"
    return ""
