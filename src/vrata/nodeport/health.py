"""Answers on healthCheckNodePorts, as kube-proxy does: 200 while this node has a ready pod of the Service, else 503."""

import asyncio
import json
from collections.abc import Callable

import structlog

from vrata.nodeport.model import Health

REQUEST_TIMEOUT_S = 5.0
REQUEST_MAX = 8192

log = structlog.get_logger(__name__)


class HealthServers:
    """One small HTTP server a port; opened and closed as Services come and go."""

    def __init__(self, failed: Callable[[Health, OSError], None]) -> None:
        self._servers: dict[str, tuple[int, asyncio.Server]] = {}  # service -> port, server
        self._states: dict[str, Health] = {}
        self._failed = failed

    async def set(self, service: str, health: Health | None) -> None:
        """Serve this state for a Service, or nothing any more. A port that is taken is told, not raised."""
        running = self._servers.get(service)
        if running and (health is None or running[0] != health.port):
            running[1].close()
            del self._servers[service]
            running = None
        if health is None:
            self._states.pop(service, None)
            return
        self._states[service] = health
        if running is None:
            try:
                server = await asyncio.start_server(
                    lambda reader, writer: self._answer(service, reader, writer), "0.0.0.0", health.port
                )
            except OSError as error:
                self._failed(health, error)
                return
            self._servers[service] = health.port, server

    async def _answer(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await reader.readuntil(b"\r\n\r\n")
            health = self._states.get(service)
            count = health.local_endpoints if health else 0
            namespace, _, name = service.partition("/")
            body = json.dumps({"service": {"namespace": namespace, "name": name}, "localEndpoints": count}).encode()
            status = "200 OK" if count else "503 Service Unavailable"
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
