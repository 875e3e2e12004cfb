"""What a node tells about itself over HTTP, as kube-proxy does.

On each healthCheckNodePort: 200 while this node has a ready pod of the Service, else 503. On the proxy's own port: /healthz,
200 while new connections may be sent to this node, and /livez, 200 while its rules are kept.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vrata.base import clock
from vrata.base.asgi import serve_http
from vrata.nodeport.model import Health


def listen(port: int, address: str = "") -> socket.socket:
    """A socket on every address of both families, or on the one given; OSError if it cannot be had."""
    if address:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


class HealthServers:
    """One small HTTP server a port; opened and closed as Services come and go. `healthy`: whether the rules are kept."""

    def __init__(self, failed: Callable[[Health, OSError], None], healthy: Callable[[], bool]) -> None:
        self._servers: dict[str, tuple[int, asyncio.Task[None]]] = {}  # by service: port, server
        self._states: dict[str, Health] = {}
        self._failed = failed
        self._healthy = healthy

    async def set(self, service: str, health: Health | None) -> None:
        """Serve this state for a Service, or nothing any more. A port that is taken is reported, not raised."""
        running = self._servers.get(service)
        if running and (health is None or running[0] != health.port):
            running[1].cancel()
            await asyncio.wait({running[1]})
            del self._servers[service]
            running = None
        if health is None:
            self._states.pop(service, None)
            return
        self._states[service] = health
        if running is None:
            try:
                opened = listen(health.port)
            except OSError as error:
                self._failed(health, error)
                return
            app = Starlette(routes=[Route("/{path:path}", lambda request: self._answer(service, request))])
            self._servers[service] = health.port, asyncio.create_task(serve_http(app, [opened], lifespan="off"))

    def services(self) -> frozenset[str]:
        """Those with a port."""
        return frozenset(self._states)

    def _answer(self, service: str, _request: Request) -> Response:
        health = self._states.get(service)
        count = health.local_endpoints if health else 0
        namespace, _, name = service.partition("/")
        good = self._healthy()
        body = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": good,
        }
        headers = {"x-content-type-options": "nosniff", "x-load-balancing-endpoint-weight": str(count)}
        status = HTTPStatus.OK if count and good else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(body, status_code=status, headers=headers)


def proxy_health(kept: Callable[[], bool], leaving: Callable[[], bool]) -> Starlette:
    """The proxy's own answers. `leaving`: the node is about to go, so that load balancers send it nothing new."""

    def answer(*, good: bool, **more: object) -> Response:
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        now = clock.rfc3339(clock.now())
        return JSONResponse({"lastUpdated": now, "currentTime": now, **more}, status_code=status)

    def healthz(_request: Request) -> Response:
        return answer(good=kept() and not leaving(), nodeEligible=not leaving())

    def livez(_request: Request) -> Response:
        return answer(good=kept())

    return Starlette(routes=[Route("/healthz", healthz), Route("/livez", livez)])
