"""The HAProxy of the Ingress controller: adopts one that runs, starts one, changes it live, reloads it as the last resort.

Never decides what to change. It runs beside this process, not under it: killed and restarted, the controller goes on with
what serves.
"""

import asyncio
import hashlib
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import assert_never

import structlog

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.haproxy.certificates import self_signed
from vrata.haproxy.model import FileKind, TlsFile
from vrata.haproxy.process import HaproxyProcess
from vrata.ingress.folds import program
from vrata.ingress.metrics import Metrics
from vrata.ingress.model import BackendKey, Certificate, Scheme, Settings, Slot
from vrata.ingress.observe import Running, Servers, observe_hosts, observe_running, observe_servers
from vrata.ingress.places import SLOW_KINDS, TLS_KINDS, Kind, kind_of, slot_name
from vrata.ingress.plan import (
    Action,
    AddCertificate,
    AddFile,
    AddPolicy,
    AddServer,
    AddSlot,
    Assign,
    Desired,
    DropAuthority,
    DropCertificate,
    DropFile,
    DropPolicy,
    DropRow,
    DropStream,
    DropThrough,
    Observed,
    PutAuthority,
    PutRow,
    PutStream,
    PutThrough,
    PutUsers,
    Release,
    Reload,
    RemoveServer,
    ReplaceForbidden,
    ReplacePatterns,
    ReplaceProxies,
    ReviveServer,
    patterns_of,
    rows_of,
)
from vrata.ingress.render import (
    AUTHORITIES,
    FORBIDDEN,
    OWNERS,
    POLICIES,
    PROGRAM,
    PROXIES,
    STREAMS,
    THROUGH,
    USERS,
    map_path,
    patterns_map,
    render_config,
    render_map_file,
    routes_of,
    server_address,
    server_words,
)
from vrata.ingress.rows import listed_patterns
from vrata.ingress.served import DEFAULT, LIST, file_names, is_authority, list_line
from vrata.loop.restarts import Restarts
from vrata.net import daemon

DEFAULT_NAME = "no certificate for this name"
SPARE_STREAMS = 8  # a new port is a reload anyway
SPARE_SHARE = 4  # one prepared backend for so many in use
# Of the least that are prepared, one for so many of the most usual kind.
SPARE_SHARES = (((Kind.HASH, Kind.COOKIE, Kind.TLS_ROUND_ROBIN), 4), (TLS_KINDS, 16), (SLOW_KINDS, 32))

log = structlog.get_logger(__name__)


class Proxy:
    """One HAProxy in one directory; `ended` is called when it is there no more, and may be started again."""

    def __init__(self, settings: Settings, directory: Path, ended: Callable[[], None], metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self.directory = directory
        self.haproxy = HaproxyProcess(directory)
        self.running: Running | None = None
        self._ended = ended
        self._watch: daemon.ExitWatch | None = None
        self._restarts = Restarts()

    def is_alive(self) -> bool:
        """Whether there is one; what was known of one that has gone is forgotten."""
        found = self.haproxy.running()
        if found is None or self._watch is None or self._watch.daemon != found:
            self.running = None
        if found and (self._watch is None or self._watch.daemon != found):
            self._watch_it(found)
        return found is not None

    def _watch_it(self, found: daemon.DaemonId) -> None:
        self._restarts.started(monotonic_s())
        self._watch = self.haproxy.watch(found, self._on_end)

    def _on_end(self, status: int | None) -> None:
        pause_s = self._restarts.ended(monotonic_s())
        said, status_said = self.haproxy.log_tail(), daemon.describe_status(status)
        log.warning("haproxy ended", status=status_said, said=said, again_in_s=pause_s)
        asyncio.get_running_loop().call_later(pause_s, self._ended)

    def is_paused(self) -> bool:
        """Whether it ended again and again, and is not to be started yet."""
        return self._restarts.pause_s(monotonic_s()) > 0

    def is_foreign(self) -> bool:
        """Whether the one that runs was started with other settings, or with other rules than this version's."""
        return not self._maker.exists() or self._maker.read_text() != self._made_by()

    @property
    def _maker(self) -> Path:
        return self.directory / "made-by"

    def _made_by(self) -> str:
        """A digest of all that is the same whatever is served."""
        rules = render_config(self.settings, {}, (), str(self.directory)) + program()
        return hashlib.blake2s(rules.encode(), digest_size=16).hexdigest()

    def forget(self) -> None:
        """Something was refused: what HAProxy has must be read again."""
        self.running = None

    async def observe_all(self) -> tuple[Running, Servers]:
        """Read everything."""
        self.running = await observe_running(
            self.haproxy.runtime,
            str(self.directory),
            str(self.haproxy.tls_dir),
            passthrough=self.settings.ssl_passthrough,
        )
        return self.running, await observe_servers(self.haproxy.runtime)

    async def observe(self, running: Running, backends: Iterable[BackendKey]) -> Observed:
        """What is known, with the servers of these backends read now."""
        asked = [running.places[backend] for backend in backends if backend in running.places]
        return observed_of(running, await observe_servers(self.haproxy.runtime, asked))

    async def count_hosts(self) -> dict[str, dict[str, int]]:
        """What HAProxy has counted, by host."""
        return await observe_hosts(self.haproxy.runtime)

    async def apply(self, action: Action) -> bool:
        """Do one step; False if it could not be finished yet."""
        runtime = self.haproxy.runtime
        running = self.running
        assert running
        match action:
            case AddSlot(slot=slot):
                await runtime.add_backend(slot, slot[0])
                running.add(slot)
            case Assign(slot=slot, backend=backend):
                await runtime.add_rows(self._map(OWNERS), [(slot, backend)])
                running.assign(slot, backend)
            case AddServer(slot=slot, server=server):
                words = server_words(server, str(self.haproxy.tls_dir))
                await runtime.add_server(slot, server.name, server_address(server), words)
            case ReviveServer(slot=slot, server=name):
                await runtime.set_server_state(slot, name, "ready")
            case AddPolicy() | DropPolicy() | PutUsers() | ReplacePatterns() | PutRow() | DropRow():
                await self._route(action, running)
            case PutStream() | DropStream() | PutThrough() | DropThrough():
                await self._stream(action, running)
            case RemoveServer(slot=slot, server=name):
                return await runtime.remove_server(slot, name)
            case AddCertificate() | DropCertificate() | AddFile() | DropFile() | PutAuthority() | DropAuthority():
                await self._certify(action, running)
            case ReplaceProxies() | ReplaceForbidden():
                await self._judge(action, running)
            case Release(slot=slot):
                await runtime.delete_row(self._map(OWNERS), slot)
                running.release(slot)
            case Reload():
                raise AssertionError("a reload is not one step of many")
            case _:
                assert_never(action)
        return True

    async def _route(
        self, action: AddPolicy | DropPolicy | PutUsers | ReplacePatterns | PutRow | DropRow, running: Running
    ) -> None:
        runtime = self.haproxy.runtime
        match action:
            case AddPolicy(name=name, policy=policy):
                await runtime.add_rows(self._map(POLICIES), [(name, policy)])
                running.policies.add(name)
            case DropPolicy(name=name):
                await runtime.delete_row(self._map(POLICIES), name)
                running.policies.discard(name)
            case PutUsers(secret=secret, version=version, was=was):
                if version is None:
                    await runtime.delete_row(self._map(USERS), secret)
                    del running.users[secret]
                else:
                    await runtime.put_row(self._map(USERS), secret, version, new=was is None)
                    running.users[secret] = version
            case ReplacePatterns(scheme=scheme, hosts=hosts):
                rows = [row for host, found in hosts.items() for row in listed_patterns(host, found)]
                await runtime.replace_map(self._map(patterns_map(scheme)), rows)
                running.patterns[scheme] = dict(hosts)
            case PutRow(scheme=scheme, row=row, place=place, was=was):
                await runtime.put_row(self._map(routes_of(scheme)), row, place, new=was is None)
                running.put_row(scheme, row, place)
            case DropRow(scheme=scheme, row=row):
                await runtime.delete_row(self._map(routes_of(scheme)), row)
                running.drop_row(scheme, row)
            case _:
                assert_never(action)

    async def _judge(self, action: ReplaceProxies | ReplaceForbidden, running: Running) -> None:
        runtime = self.haproxy.runtime
        match action:
            case ReplaceProxies(rows=rows):
                await runtime.replace_map(self._map(PROXIES), rows.items())
                running.proxies = dict(rows)
            case ReplaceForbidden(addresses=addresses):
                await runtime.replace_map(self._map(FORBIDDEN), [(one, "forbidden") for one in sorted(addresses)])
                running.forbidden = addresses
            case _:
                assert_never(action)

    async def _stream(self, action: PutStream | DropStream | PutThrough | DropThrough, running: Running) -> None:
        runtime = self.haproxy.runtime
        match action:
            case PutStream(port=port, slot=slot, was=was):
                await runtime.put_row(self._map(STREAMS), port.name, slot, new=was is None)
                running.streams[port] = slot
            case DropStream(port=port):
                await runtime.delete_row(self._map(STREAMS), port.name)
                del running.streams[port]
            case PutThrough(host=host, slot=slot, was=was):
                await runtime.put_row(self._map(THROUGH), host, slot, new=was is None)
                running.through[host] = slot
            case DropThrough(host=host):
                await runtime.delete_row(self._map(THROUGH), host)
                del running.through[host]
            case _:
                assert_never(action)

    async def _certify(
        self,
        action: AddCertificate | DropCertificate | AddFile | DropFile | PutAuthority | DropAuthority,
        running: Running,
    ) -> None:
        runtime, tls_dir = self.haproxy.runtime, str(self.haproxy.tls_dir)
        match action:
            case AddCertificate(name=name, certificate=certificate):
                await runtime.add_certificate(f"{tls_dir}/{name}", certificate.pem)
                await runtime.list_certificate(f"{tls_dir}/{LIST}", list_line(tls_dir, name, certificate))
                running.certificates.add(name)
            case DropCertificate(name=name):
                await runtime.remove_certificate(f"{tls_dir}/{LIST}", f"{tls_dir}/{name}")
                running.certificates.discard(name)
            case AddFile(name=name, content=content):
                add = runtime.add_authority if is_authority(name) else runtime.add_certificate
                await add(f"{tls_dir}/{name}", content)
                running.files.add(name)
            case DropFile(name=name):
                # What connections still use stays; a reload, or the next change of its Secret, takes it along.
                if await runtime.remove_file("ca-file" if is_authority(name) else "cert", f"{tls_dir}/{name}"):
                    running.files.discard(name)
            case PutAuthority(host=host, digest=digest):
                await runtime.put_row(self._map(AUTHORITIES), host, digest, new=host not in running.authorities)
                running.authorities[host] = digest
            case DropAuthority(host=host):
                await runtime.delete_row(self._map(AUTHORITIES), host)
                del running.authorities[host]
            case _:
                assert_never(action)

    async def reload(self, reason: Reload, desired: Desired) -> None:
        """Start, or go on in a new worker, with everything that is to be served in the configuration and its maps."""
        backends = desired.backends
        owners = dict(self.running.owners) if self.running else {}
        # Whoever was given a place by another version of this program may need one of another kind.
        owners = {slot: one for slot, one in owners.items() if one in backends and slot[0] == kind_of(one)}
        slots = _slots(owners, backends, self.settings)
        missing = sorted(set(backends) - set(owners.values()))
        for kind in Kind:
            free = [slot for slot in slots if slot not in owners and slot[0] == kind]
            owners |= zip(free, (backend for backend in missing if kind_of(backend) is kind), strict=False)
        places = {backend: slot for slot, backend in owners.items()}
        self._write(OWNERS, sorted(owners.items()))
        self._write(POLICIES, ((name, policy) for name, policy in desired.policies.items() if policy))
        self._write(STREAMS, ((port.name, places[backend]) for port, backend in desired.streams.items()))
        self._write(THROUGH, ((host, places[backend]) for host, backend in desired.through.items() if backend))
        self._write(USERS, ((secret, version) for secret, version in desired.users.items() if version))
        self._write(PROXIES, sorted(desired.proxies.items()))
        self._write(FORBIDDEN, ((one, "forbidden") for one in sorted(desired.forbidden)))
        self._write(AUTHORITIES, ((host, digest) for host, digest in desired.authorities.items() if digest))
        for scheme in Scheme:
            patterns = patterns_of(desired.patterns, scheme, places)
            rows = rows_of(desired.hosts, patterns, scheme, places)
            self._write(patterns_map(scheme), (row for one in patterns.items() for row in listed_patterns(*one)))
            self._write(routes_of(scheme), (row for found in rows.values() for row in sorted(found.items())))
        write_atomic(self.directory / PROGRAM, program())
        config = {slot: backends[backend] for slot, backend in sorted(owners.items())}
        spare = [slot for slot in slots if slot not in owners]
        files = _files(self.haproxy.tls_dir, desired)
        text = render_config(self.settings, config, spare, str(self.directory), desired.streams, desired.replicas)
        self._maker.unlink(missing_ok=True)  # killed from here on, nobody knows which it runs with
        self.haproxy.write_config(text, files)
        self.haproxy.sweep_files(files)
        self.running = None
        self._metrics.reloads.labels(reason.reason).inc()
        log.info("haproxy reload", reason=reason.reason, detail=reason.detail, backends=len(owners), slots=len(slots))
        try:
            if self.haproxy.running():
                await self.haproxy.reload()
            else:
                self._watch_it(await self.haproxy.start())
        except VrataError:
            self._metrics.reloads_refused.inc()
            raise
        write_atomic(self._maker, self._made_by())

    def _write(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        write_atomic(self.directory / f"{name}.map", render_map_file(rows))

    def _map(self, name: str) -> str:
        return map_path(str(self.directory), name)

    async def drain(self) -> None:
        """SIGUSR1: HAProxy stops listening and ends after its last request (management guide, section 4)."""
        running = self.haproxy.running()
        if self._watch:
            self._watch.close()
        if running:
            await daemon.stop(running, signal.SIGUSR1, self.settings.drain_s)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


def observed_of(running: Running, servers: Servers) -> Observed:
    """What the planner looks at."""
    return Observed(
        running.places,
        running.free.keys(),
        running.rows,
        servers,
        running.certificates,
        running.policies,
        running.patterns,
        running.users,
        running.files,
        running.authorities,
        running.through,
        running.ports,
        running.streams,
        running.replicas,
        running.proxies,
        running.forbidden,
        running.live,
    )


def _files(tls_dir: Path, desired: Desired) -> list[TlsFile]:
    parts: dict[str, Certificate] = {}
    for secret, wholes in desired.certificates.items():
        parts |= file_names(secret, wholes)
    default = tls_dir / DEFAULT
    pems = {DEFAULT: default.read_text() if default.exists() else self_signed(DEFAULT_NAME)}
    pems |= {name: part.pem for name, part in parts.items()}
    for contents in desired.files.values():
        pems |= contents
    lines = [f"{default}\n", *(f"{list_line(str(tls_dir), name, part)}\n" for name, part in parts.items())]
    files = [
        TlsFile(name, FileKind.AUTHORITY if is_authority(name) else FileKind.CERTIFICATE, f"certificate {name}", pem)
        for name, pem in pems.items()
    ]
    return [*files, TlsFile(LIST, FileKind.LIST, "the list of certificates", "".join(lines))]


def _slots(owners: Mapping[Slot, BackendKey], backends: Iterable[BackendKey], settings: Settings) -> list[Slot]:
    """Names for all backends and some more of each kind; those in use keep theirs."""
    names = set(owners)
    for kind in Kind:
        used = sum(kind_of(backend) is kind for backend in backends)
        share = next((one for kinds, one in SPARE_SHARES if kind in kinds), 1)
        least = settings.spare_slots // share
        if kind is Kind.TCP:
            least = SPARE_STREAMS if settings.tcp_services or settings.ssl_passthrough else 0
        names |= {slot_name(number, kind) for number in range(used + max(least, used // SPARE_SHARE))}
    return sorted(names)
