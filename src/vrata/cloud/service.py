"""Puts the cloud together: Starlette applications over one store, and their background work.

Nothing here knows what a resource is; it mounts the APIs under their paths and starts and stops what runs beside them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import InternalError, OperationalError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from vrata.base import clock, ids, pki
from vrata.cloud import noop
from vrata.cloud.agent import Agents
from vrata.cloud.audit import Audit, Trace
from vrata.cloud.balancing import api as balancing
from vrata.cloud.balancing.store import DIALECT as OCTAVIA
from vrata.cloud.compute import api as compute
from vrata.cloud.compute.access import DIALECT as NOVA
from vrata.cloud.http import Dialect, Endpoint, Frame, absent, is_database_away, routes, unavailable
from vrata.cloud.identity import api as identity
from vrata.cloud.identity import auth, tokens
from vrata.cloud.identity.dialect import DIALECT as KEYSTONE
from vrata.cloud.keymanager import api as keymanager
from vrata.cloud.keymanager.access import DIALECT as BARBICAN
from vrata.cloud.keymanager.foreign import FOREIGN
from vrata.cloud.metrics import Metrics
from vrata.cloud.network import api as network
from vrata.cloud.network import plan
from vrata.cloud.network.resource import DIALECT as NEUTRON
from vrata.cloud.settings import Settings
from vrata.cloud.slow import SlowWork, hashing_threads
from vrata.cloud.store import Store

APIS = {
    "identity": KEYSTONE, "network": NEUTRON, "compute": NOVA, "key-manager": BARBICAN, "load-balancer": OCTAVIA,
}  # fmt: skip
PARSERS = 2  # child processes that read key material at once
LONG_BODIES = 2  # that are decoded, checked and written at once
LONG_WAITING = 64  # of one project, such as of a provider that creates many load balancers


def reserved_addresses(settings: Settings) -> frozenset[str]:
    """The addresses under which this cloud and the services beside it are reached: nothing else may get one."""
    hosts = (urlsplit(url).hostname for url in (settings.public_url, *(url for _, url in settings.endpoints)))
    return frozenset(str(address) for host in hosts if (address := plan.address(host)) is not None)


class Service:
    """The parts of one cloud: what tenants call, and what hosts call, as one ASGI application or two."""

    def __init__(self, store: Store, settings: Settings, audit: Audit | None = None) -> None:
        self.agents = Agents(store, settings)
        store.changed, store.unsettled = self.agents.hub.changed, self.agents.hub.look_around
        store.reserved = reserved_addresses(settings)
        self.metrics = Metrics(store, settings.metrics_token)
        self.metrics.watch_end("host", self.agents.first_end)
        if settings.host_authority is not None:
            end = pki.validity(settings.host_authority.certificate)[1].timestamp()
            self.metrics.watch_end("authority", lambda: end)
        store.happened, store.held = self.metrics.happened, self.metrics.held
        self._store, self._settings = store, settings
        self._hashing = SlowWork("hashing", hashing_threads())
        self._parsing = SlowWork("parsing", PARSERS)
        self._slow_parsing = SlowWork("slow-parsing", 1)
        self._reading = SlowWork("reading", LONG_BODIES, LONG_WAITING)
        self._frame = Frame(
            store, settings, tokens.caller, self.metrics.answered, audit or Audit(), self._hashing, self._parsing,
            self._slow_parsing, self._reading,
        )  # fmt: skip

    def together(self) -> Starlette:
        """Everything under one address."""
        return self._starlette([*self._hosts(), *self._tenants()], self._background)

    def apart(self) -> tuple[Starlette, Starlette]:
        """The APIs, and the hosts' side with all background work, for listeners and event loops of their own."""
        return self._starlette(self._tenants(), None), self._starlette(self._hosts(), self._background)

    def close(self) -> None:
        """Let nothing begin any more, and end child processes."""
        self._hashing.close()
        self._parsing.close()
        self._slow_parsing.close()
        self._reading.close()
        FOREIGN.close()

    def _hosts(self) -> list[BaseRoute]:
        return [_audited(route, self._frame.audit) for route in self.agents.routes()]

    def _tenants(self) -> list[BaseRoute]:
        def mount(endpoints: list[Endpoint], prefixes: tuple[str, ...], dialect: Dialect) -> list[BaseRoute]:
            return routes(endpoints, prefixes, dialect, self._frame)

        balancer = "/load-balancer"
        versions = tuple(f"{balancer}/{v}{rest}" for v in ("v2.0", "v2") for rest in ("/lbaas", ""))
        login = auth.Login(self._frame)
        return [
            Route("/metrics", self.metrics.serve),
            Route("/identity/v3/auth/tokens", login.issue, methods=["POST"]),
            Route("/identity/v3/users/{id}/password", login.change_password, methods=["POST"]),
            *mount(balancing.HEALTH, ("", balancer), OCTAVIA),
            *mount(identity.ENDPOINTS, ("/identity",), KEYSTONE),
            *mount(network.ROOT, ("/network",), NEUTRON),
            *mount(network.SPELLED, ("/network/v2.0",), NEUTRON),
            *mount(compute.ROOT, ("/compute",), NOVA),
            *mount(compute.ENDPOINTS, ("/compute/v2.1",), NOVA),
            *mount(keymanager.ROOT, ("/key-manager",), BARBICAN),
            *mount(keymanager.ENDPOINTS, ("/key-manager/v1",), BARBICAN),
            *mount([*balancing.ROOT, *balancing.DESCRIPTION], (balancer,), OCTAVIA),
            *mount(balancing.ENDPOINTS, versions, OCTAVIA),
            *(absent(f"/{name}", dialect, self._frame) for name, dialect in APIS.items()),
        ]

    def _starlette(self, every: list[BaseRoute], lifespan: Any) -> Starlette:
        """`every` route, and a line in the audit log for what no route answers."""

        async def refuse(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            _write_down(self._frame.audit, "", request, error.status_code, 0.0)
            return PlainTextResponse(error.detail, error.status_code, error.headers)

        async def failed(request: Request, error: Exception) -> Response:
            if is_database_away(error):
                return unavailable(request, error)
            raise error

        # Whatever has no frame (the agents' side) says that the database does not answer, too.
        handlers: dict[Any, Any] = {OperationalError: failed, InternalError: failed, HTTPException: refuse}
        app = Starlette(routes=every, lifespan=lifespan, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    @contextlib.asynccontextmanager
    async def _background(self, _app: Starlette) -> AsyncIterator[None]:
        self.agents.hub.attach(asyncio.get_running_loop())
        jobs = [asyncio.create_task(self.agents.sweep())]
        if self._settings.noop:
            jobs.append(asyncio.create_task(noop.run(self._store, self._settings)))
        if not self._store.sqlite:
            jobs.append(asyncio.create_task(self.agents.watch_replicas()))
        yield
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


def _write_down(audit: Audit, api: str, request: Request, status: int, seconds: float) -> None:
    trace = Trace(f"req-{ids.new_uuid()}", request.client.host if request.client else "")
    audit.answered(trace, api, request.method, request.url.path, status, seconds)


def _audited(route: BaseRoute, audit: Audit) -> Route:
    """The same, with a line for each refusal: reports of hosts are signs of life, not writes of somebody."""
    assert isinstance(route, Route)

    async def serve(request: Request) -> Response:
        begun = clock.monotonic_s()
        answer: Response = await route.endpoint(request)
        if answer.status_code >= 400:
            _write_down(audit, "agent", request, answer.status_code, clock.monotonic_s() - begun)
        return answer

    return Route(route.path, serve, methods=list(route.methods or ()))
