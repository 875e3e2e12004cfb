"""Puts the cloud together: one Starlette application over one store, and its background work.

Nothing here knows what a resource is; it mounts the APIs under their paths and starts and stops what runs beside them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from vrata.cloud import noop
from vrata.cloud.agent import Agents
from vrata.cloud.balancing import api as balancing
from vrata.cloud.balancing.store import DIALECT as OCTAVIA
from vrata.cloud.compute import api as compute
from vrata.cloud.compute.access import DIALECT as NOVA
from vrata.cloud.http import Dialect, Endpoint, Frame, routes, unavailable
from vrata.cloud.identity import api as identity
from vrata.cloud.identity import auth, tokens
from vrata.cloud.identity.dialect import DIALECT as KEYSTONE
from vrata.cloud.keymanager import api as keymanager
from vrata.cloud.keymanager.access import DIALECT as BARBICAN
from vrata.cloud.metrics import Metrics
from vrata.cloud.network import api as network
from vrata.cloud.network.resource import DIALECT as NEUTRON
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store


def application(store: Store, settings: Settings) -> Starlette:
    """The whole service as an ASGI application."""
    agents = Agents(store, settings)
    store.changed = agents.hub.changed
    metrics = Metrics(store)
    store.happened = metrics.happened
    frame = Frame(store, settings, tokens.caller, metrics.answered)

    def mount(endpoints: list[Endpoint], prefixes: tuple[str, ...], dialect: Dialect) -> list[BaseRoute]:
        return routes(endpoints, prefixes, dialect, frame)

    balancer = "/load-balancer"
    versions = tuple(f"{balancer}/{v}{rest}" for v in ("v2.0", "v2") for rest in ("/lbaas", ""))
    every = [
        *agents.routes(),
        Route("/metrics", metrics.serve),
        Route("/identity/v3/auth/tokens", auth.endpoint(store, settings), methods=["POST"]),
        *mount(balancing.HEALTH, ("", balancer), OCTAVIA),
        *mount(identity.ENDPOINTS, ("/identity",), KEYSTONE),
        *mount(network.ROOT, ("/network",), NEUTRON),
        *mount(network.ENDPOINTS, ("/network/v2.0",), NEUTRON),
        *mount(compute.ROOT, ("/compute",), NOVA),
        *mount(compute.ENDPOINTS, ("/compute/v2.1",), NOVA),
        *mount(keymanager.ROOT, ("/key-manager",), BARBICAN),
        *mount(keymanager.ENDPOINTS, ("/key-manager/v1",), BARBICAN),
        *mount([*balancing.ROOT, *balancing.DESCRIPTION], (balancer,), OCTAVIA),
        *mount(balancing.ENDPOINTS, versions, OCTAVIA),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        agents.hub.attach(asyncio.get_running_loop())
        jobs = [asyncio.create_task(agents.sweep())]
        if settings.noop:
            jobs.append(asyncio.create_task(noop.run(store, settings)))
        if not store.sqlite:
            jobs.append(asyncio.create_task(agents.watch_replicas()))
        yield
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    # Whatever has no frame (the agents' side) says it, too.
    app = Starlette(routes=every, lifespan=lifespan, exception_handlers={OperationalError: unavailable})
    app.router.redirect_slashes = False
    app.state.hub = agents.hub
    return app
