"""The cloud's side of the agent API (`vrata.base.wire`): desired sets down by long poll, reports up.

A long poll ends the moment a transaction that touched its host has committed here; what another replica committed is
seen within `replica_poll_s`. A report that says nothing new costs one UPDATE a second at most.
"""

import asyncio
import hmac
import time
from collections import defaultdict

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vrata.base import wire
from vrata.cloud.balancing import settle
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.desired import Builder
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store, Tx

log = structlog.get_logger(__name__)

NAME_MAX = 255


class Hub:
    """Wakes long polls: one event per host, replaced each time it fires."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.closing = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop; before that, changes wake nobody (there is nobody)."""
        self._loop = loop

    def changed(self, names: frozenset[str]) -> None:
        """Called from a store thread after a commit."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fire, names)

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


class Agents:
    """The two endpoints and the background work that hosts need."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.hub = Hub()
        self.builder = Builder(settings)
        self._last: dict[str, tuple[bytes, int]] = {}  # host -> report bytes, revision when it was taken in
        self._beat: dict[str, float] = {}

    def routes(self) -> list[BaseRoute]:
        """Starlette routes of the agent API."""
        return [
            Route("/agent/v1/hosts/{host}/desired", self._desired, methods=["GET"]),
            Route("/agent/v1/hosts/{host}/report", self._report, methods=["PUT"]),
        ]

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if not self.settings.host_secret or not hmac.compare_digest(
            given.encode(), f"Bearer {self.settings.host_secret}".encode()
        ):
            return Response("host secret missing or wrong\n", 401, media_type="text/plain")
        if not 0 < len(request.path_params["host"]) <= NAME_MAX:
            return Response(f"host names have 1 to {NAME_MAX} characters\n", 400, media_type="text/plain")
        return None

    async def _desired(self, request: Request) -> Response:
        if refusal := self._refused(request):
            return refusal
        host = request.path_params["host"]
        try:
            since = int(request.query_params.get("since", "0"))
            wait_s = min(float(request.query_params.get("wait_s", "0")), self.settings.poll_max_s)
        except ValueError:
            return Response("since and wait_s are numbers\n", 400, media_type="text/plain")
        deadline = time.monotonic() + wait_s
        while True:
            event = self.hub.event(host)
            revision = await self.store.read(lambda tx: self._revision(tx, host))
            # A host may come with a revision from a database that is no more: anything but equal is news.
            if revision and revision != since:
                desired = await self.store.read(lambda tx: self.builder.desired(tx, host))
                return Response(msgspec.json.encode(desired), media_type="application/json")
            left = deadline - time.monotonic()
            if left <= 0 or self.hub.closing:
                return Response(status_code=204)
            try:
                await asyncio.wait_for(event.wait(), left)
            except TimeoutError:
                return Response(status_code=204)

    def _revision(self, tx: Tx, host: str) -> int:
        return int(tx.value(sa.select(t.hosts.c.revision).where(t.hosts.c.name == host)) or 0)

    async def _report(self, request: Request) -> Response:
        if refusal := self._refused(request):
            return refusal
        host, raw = request.path_params["host"], await request.body()
        try:
            report = msgspec.json.decode(raw, type=wire.HostReport)
        except msgspec.DecodeError as error:
            return Response(f"report: {error}\n", 400, media_type="text/plain")
        moment = time.time()
        if await self._is_old_news(host, raw, moment):
            return Response(status_code=204)

        def work(tx: Tx) -> int:
            settle.accept_report(tx, host, report, moment, self.settings)
            return self._revision(tx, host) + (1 if host in tx.touched else 0)

        revision = await self.store.write(work)
        self._last[host], self._beat[host] = (raw, revision), moment
        return Response(status_code=204)

    async def _is_old_news(self, host: str, raw: bytes, moment: float) -> bool:
        """The same report as before, of a host that is known to be alive and has nothing new to do."""
        last = self._last.get(host)
        if last is None or last[0] != raw:
            return False
        known = await self.store.read(
            lambda tx: tx.one(sa.select(t.hosts.c.alive, t.hosts.c.revision).where(t.hosts.c.name == host))
        )
        if known is None or not known["alive"] or known["revision"] != last[1]:
            return False
        if moment - self._beat.get(host, 0.0) >= self.settings.heartbeat_interval_s:
            self._beat[host] = moment
            beat = sa.update(t.hosts).where(t.hosts.c.name == host).values(last_seen=moment)
            await self.store.write(lambda tx: tx.execute(beat))
        return True

    async def sweep(self) -> None:
        """Look for hosts that fell silent and instances that move, for as long as the service runs."""
        while True:
            await asyncio.sleep(self.settings.sweep_interval_s)
            try:
                await self._look_around(time.time())
            except sa.exc.SQLAlchemyError as error:  # a full disk, a database that restarts: looked at again
                log.warning("silent hosts not looked for", error=str(error).partition("\n")[0])

    async def _look_around(self, moment: float) -> None:
        if await self.store.read(lambda tx: settle.silent_hosts(tx, moment, self.settings)):
            await self.store.write(lambda tx: settle.bury_silent(tx, moment, self.settings))
        for owner_id in await self.store.read(settle.moving_owners):
            await self.store.write(lambda tx, owner=owner_id: settle.settle(tx, owner, self.settings))  # type: ignore[misc]

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
