"""The cloud's side of the agent API (`vrata.base.wire`): desired sets down by long poll, reports up.

A long poll ends the moment a transaction that touched its host has committed here; what another replica committed is
seen within `replica_poll_s`. A report that says nothing new costs one UPDATE of its own row twice a second at most. Of a
host's reports one is taken in at a time, and a later one supersedes what waits.
"""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vrata.base import clock, wire
from vrata.base.asgi import TooLong, read_limited
from vrata.base.pki import HostCertificate
from vrata.cloud import host_access
from vrata.cloud.balancing import intake, settle, transitions
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.desired import Builder
from vrata.cloud.balancing.watch import Watch
from vrata.cloud.settings import Settings
from vrata.cloud.store import ForHosts, Store, Tx

log = structlog.get_logger(__name__)

REQUEST_MAX = 16 * 1024  # bytes of a request for a certificate
ACCEPTED_S = 1.0  # so long a certificate that was accepted is not looked up again
_REPORTS = msgspec.json.Decoder(wire.HostReport)
REPORT_MAX = 16 * 1024 * 1024  # bytes: 200 instances with 1,000 members each
REPORT_WAIT_S = 1.5  # an answer takes no longer: the host's next sign of life comes after it
RETRY_S = 5.0  # a pair that cannot be made whole is looked at so often while the hosts stay the same
TRIM_S = 10.0
CALLED_LATELY_S = 300.0  # a host may call another replica from then on, with another certificate


class Hub:
    """Wakes long polls: one event per host, replaced each time it fires."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.unsettled = asyncio.Event()
        self.closing = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop; before that, changes wake nobody (there is nobody)."""
        self._loop = loop

    def changed(self, names: frozenset[str]) -> None:
        """Called from a store thread after a commit."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fire, names)

    def look_around(self) -> None:
        """Called from a store thread: hosts changed, and pairs may have something to do."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.unsettled.set)

    def _fire(self, names: frozenset[str]) -> None:
        for name in names:
            event = self._events.pop(name, None)
            if event is not None:
                event.set()

    def event(self, name: str) -> asyncio.Event:
        """The event that the next change of this host sets; take it before looking at the revision."""
        return self._events[name]

    def waiting(self) -> list[str]:
        """Hosts that somebody waits for."""
        return list(self._events)

    def close(self) -> None:
        """Let every waiter go: the service ends."""
        self.closing = True
        self._fire(frozenset(self._events))


def _database(tx: Tx) -> str:
    return str(tx.value(sa.select(t.databases.c.id)))


def _hosts(tx: Tx) -> tuple[tuple[Any, ...], ...]:
    """What placement depends on."""
    c = t.hosts.c
    rows = tx.all(sa.select(c.name, c.alive, c.drained_at, c.physical_networks).order_by(c.name))
    return tuple((row["name"], row["alive"], row["drained_at"], str(row["physical_networks"])) for row in rows)


def _log_failure(taken: asyncio.Future[bool]) -> None:
    if not taken.cancelled() and (error := taken.exception()) is not None:
        log.warning("report_not_taken_in", error=str(error).partition("\n")[0])


def _text(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, media_type="text/plain")


async def _small_body(request: Request) -> bytes | None:
    """None if it is longer than a request for a certificate."""
    try:
        return await read_limited(request, REQUEST_MAX)
    except TooLong:
        return None


class Agents:
    """The two endpoints and the background work that hosts need."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = ForHosts(store)
        self.settings = settings
        self.hub = Hub()
        self.builder = Builder(settings)
        self._last: dict[str, tuple[bytes, int]] = {}  # host -> report bytes, revision when it was taken in
        self._beat: dict[str, float] = {}
        self._turns: dict[str, int] = {}  # host -> number of its last report: an earlier one gives way
        self._queues: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._watch = Watch(settings.host_timeout_s, 2 * settings.sweep_interval_s)
        self._hosts: tuple[tuple[Any, ...], ...] | None = None
        self._tried: dict[str, float] = {}  # owner -> when it was settled in vain since hosts changed
        self._trimmed = 0.0
        self._shown: dict[str, tuple[float, float]] = {}  # host -> when its certificate ends, when it was accepted last
        self._accepted: dict[tuple[str, HostCertificate | None], float] = {}

    def routes(self) -> list[BaseRoute]:
        """Starlette routes of the agent API."""
        return [
            Route("/agent/v1/hosts/{host}/desired", self._desired, methods=["GET"]),
            Route("/agent/v1/hosts/{host}/report", self._report, methods=["PUT"]),
            Route("/agent/v1/hosts/{host}/join", self._join, methods=["POST"]),
            Route("/agent/v1/hosts/{host}/certificate", self._renew, methods=["POST"]),
            Route("/agent/v1/authority", self._authority, methods=["GET"]),
        ]

    async def _refused(self, request: Request) -> Response | None:
        host = request.path_params["host"]
        if not 0 < len(host) <= host_access.NAME_MAX:
            return _text(f"host names have 1 to {host_access.NAME_MAX} characters", 400)
        if host_access.has_secret(request, self.settings.host_secrets):
            return None
        if self.settings.host_authority is None:
            return _text("host secret missing or wrong", 401)
        shown = host_access.shown_certificate(request)
        # Asked for once a second: a host sends two reports a second.
        key, now = (host, shown), clock.monotonic_s()
        if self._accepted.get(key, -math.inf) > now - ACCEPTED_S:
            return None
        refusal = await self.store.read(lambda tx: host_access.refusal(tx, host, shown))
        if refusal is not None:
            return _text(refusal.reason, refusal.status)
        if shown is not None:
            self._shown[host] = (shown.ends.timestamp(), now)
        self._accepted = {one: at for one, at in self._accepted.items() if at > now - ACCEPTED_S} | {key: now}
        return None

    def first_end(self) -> float | None:
        """When the first certificate ends of the hosts that have called here lately; None if none has shown one."""
        since = clock.monotonic_s() - CALLED_LATELY_S
        return min((end for end, at in tuple(self._shown.values()) if at > since), default=None)

    async def _authority(self, _request: Request) -> Response:
        """The authority's certificate: who joins compares it with the token's fingerprint before anything else."""
        authority = self.settings.host_authority
        if authority is None:
            return _text("hosts of this cloud have no certificates", 404)
        return Response(authority.certificate, media_type="application/x-pem-file")

    async def _join(self, request: Request) -> Response:
        """A first certificate for whoever has a token of this host."""
        authority, host = self.settings.host_authority, request.path_params["host"]
        if authority is None or request.url.scheme != "https":
            return _text(
                "hosts join over TLS; start `vrata cloud serve` with --agent-listen, --tls-cert and --host-ca", 404
            )
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        body = await _small_body(request)
        if scheme != "Bearer" or body is None:
            return _text("send the token as `Authorization: Bearer`, and a request for a certificate in PEM", 400)

        if refused := await self.store.read(lambda tx: host_access.refuse_token(tx, secret, host)):
            return _text(refused.reason, refused.status)

        def work(tx: Tx) -> bytes | host_access.Refusal:
            return host_access.use_token(tx, secret, host) or host_access.issue(tx, authority, body, host)

        return await self._issued(work)

    async def _renew(self, request: Request) -> Response:
        """A new certificate for a host that shows one."""
        authority, host = self.settings.host_authority, request.path_params["host"]
        if refused := await self._refused(request):
            return refused
        body = await _small_body(request)
        if authority is None or body is None:
            return _text("send a request for a certificate in PEM, to a cloud that signs it", 400)
        shown = host_access.shown_certificate(request)

        def work(tx: Tx) -> bytes | host_access.Refusal:  # asked again: it may have been revoked since
            return host_access.refusal(tx, host, shown) or host_access.issue(tx, authority, body, host)

        return await self._issued(work)

    async def _issued(self, work: Callable[[Tx], bytes | host_access.Refusal]) -> Response:
        try:
            found = await self.store.write(work)
        except ValueError as error:
            return _text(f"this request for a certificate cannot be used: {error}", 400)
        if isinstance(found, host_access.Refusal):
            return _text(found.reason, found.status)
        return Response(found, media_type="application/x-pem-file")

    async def _desired(self, request: Request) -> Response:
        if refusal := await self._refused(request):
            return refusal
        host = request.path_params["host"]
        try:
            since = int(request.query_params.get("since", "0"))
            wait_s = min(float(request.query_params.get("wait_s", "0")), self.settings.poll_max_s)
            if not wait_s >= 0:
                raise ValueError
        except ValueError:
            return Response("since and wait_s are numbers\n", 400, media_type="text/plain")
        database = request.query_params.get("database", "")
        deadline = clock.monotonic_s() + wait_s
        while True:
            event = self.hub.event(host)
            revision, here = await self.store.read(lambda tx: (self._revision(tx, host), _database(tx)))
            # A host may come with a revision from a database that is no more: anything but equal is news.
            if revision and (revision != since or database not in {"", here}):
                if refusal := await self._refused(request):  # it may have been revoked while it waited
                    return refusal
                desired = await self.store.read(lambda tx: self.builder.desired(tx, host))
                return Response(desired, media_type="application/json")
            left = deadline - clock.monotonic_s()
            if left <= 0 or self.hub.closing:
                return Response(status_code=204)
            try:
                await asyncio.wait_for(event.wait(), left)
            except TimeoutError:
                return Response(status_code=204)

    def _revision(self, tx: Tx, host: str) -> int:
        return int(tx.value(sa.select(t.hosts.c.revision).where(t.hosts.c.name == host)) or 0)

    async def _report(self, request: Request) -> Response:
        if refusal := await self._refused(request):
            return refusal
        host = request.path_params["host"]
        boot = request.query_params.get("boot", "")[:64]
        try:
            raw = await read_limited(request, REPORT_MAX)
        except TooLong as error:
            return Response(f"{error}\n", 413, media_type="text/plain")
        try:
            report = _REPORTS.decode(raw)
            number = int(request.query_params.get("number", "0"))
        except (msgspec.DecodeError, ValueError) as error:
            return Response(f"report: {error}\n", 400, media_type="text/plain")
        self._watch.heard(host)
        old = await self._is_old_news(host, raw)
        if not old or clock.monotonic_s() - self._beat.get(host, 0.0) >= self.settings.heartbeat_interval_s:
            if not await self.store.beat(lambda tx: settle.beat(tx, host, boot, number)):
                return Response("a later report of this host has been heard\n", 409, media_type="text/plain")
            self._beat[host] = clock.monotonic_s()
        if old:
            return Response(status_code=204)
        self._turns[host] = turn = self._turns.get(host, 0) + 1
        taken = asyncio.ensure_future(self._take_in(host, raw, report, turn))
        try:
            done = await asyncio.wait_for(asyncio.shield(taken), REPORT_WAIT_S)
        except TimeoutError:
            taken.add_done_callback(_log_failure)
            done = False
        if not done:  # the host must not fall silent over it: its next report continues with the same
            return Response("the report is being taken in: send the next one\n", 503, media_type="text/plain")
        return Response(status_code=204)

    async def _take_in(self, host: str, raw: bytes, report: wire.HostReport, turn: int) -> bool:
        """Take in a report after the one before it, unless a later one has come; False if the host must send another."""
        async with self._queues[host]:
            if self._turns[host] != turn:
                return False
            taken = await intake.take_in(
                self.store, host, report, self.settings, superseded=lambda: self._turns[host] != turn
            )
            if taken:
                self._last[host] = (raw, await self.store.read(lambda tx: self._revision(tx, host)))
            return taken or self._turns[host] == turn

    async def _is_old_news(self, host: str, raw: bytes) -> bool:
        """The same report as before, of a host that is known to be alive and has nothing new to do."""
        last = self._last.get(host)
        if last is None or last[0] != raw:
            return False
        known = await self.store.read(
            lambda tx: tx.one(sa.select(t.hosts.c.alive, t.hosts.c.revision).where(t.hosts.c.name == host))
        )
        return known is not None and known["alive"] and known["revision"] == last[1]

    async def sweep(self) -> None:
        """Look for hosts that fell silent and for pairs that have something to do, for as long as the service runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.hub.unsettled.wait(), self.settings.sweep_interval_s)
            self.hub.unsettled.clear()
            try:
                await self._look_around()
            except sa.exc.SQLAlchemyError as error:  # a full disk, a database that restarts: looked at again
                log.warning("hosts_not_looked_at", error=str(error).partition("\n")[0])

    async def _look_around(self) -> None:
        hosts = await self.store.read(_hosts)
        if hosts != self._hosts:
            changed = set() if self._hosts is None else {name for name, *_ in {*hosts} ^ {*self._hosts}}
            self._hosts, self._tried = hosts, {}
            for owner_id in await self.store.read(lambda tx: settle.owners_on(tx, changed)):
                await self._settle(owner_id)
        if not self.settings.noop:
            silent = self._watch.look(await self.store.read(settle.beats), clock.monotonic_s())
            if silent:
                await self.store.write(lambda tx: settle.mark_dead(tx, silent))
        for owner_id in await self.store.read(settle.moving_owners):
            await self._settle(owner_id)
        due = clock.monotonic_s() - RETRY_S
        for owner_id in await self.store.read(lambda tx: settle.restless(tx, self.settings)):
            if self._tried.get(owner_id, due) <= due:
                self._tried[owner_id] = clock.monotonic_s()
                await self._settle(owner_id)
        if clock.monotonic_s() - self._trimmed > TRIM_S:
            self._trimmed = clock.monotonic_s()
            await self.store.write(transitions.trim)

    async def _settle(self, owner_id: str) -> None:
        await self.store.write(lambda tx: settle.settle_free(tx, owner_id, self.settings))

    async def watch_replicas(self) -> None:
        """Wake polls for what other replicas committed (PostgreSQL only)."""
        known: dict[str, int] = {}
        while True:
            await asyncio.sleep(self.settings.replica_poll_s)
            waiting = self.hub.waiting()
            if not waiting:
                continue
            query = sa.select(t.hosts.c.name, t.hosts.c.revision).where(t.hosts.c.name.in_(waiting))
            try:
                rows = await self.store.read(lambda tx, asked=query: tx.all(asked))  # type: ignore[misc]
            except sa.exc.SQLAlchemyError as error:
                log.warning("other replicas' changes not seen", error=str(error).partition("\n")[0])
                continue
            fresh = {row["name"]: row["revision"] for row in rows}
            self.hub.changed(frozenset(name for name, revision in fresh.items() if known.get(name) != revision))
            known = fresh
