"""/healthz, /readyz and /metrics beside a controller's work."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from vrata.base.errors import InvalidInput


@asynccontextmanager
async def telling(
    part: str,
    port: int,
    registry: Any,
    lacks: Callable[[], str],
    refresh: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Answer on a port of all addresses as long as this lasts; InvalidInput if somebody else has it."""
    from vrata.base.asgi import serve_http
    from vrata.base.operations import operations

    task = asyncio.ensure_future(serve_http(operations(part, registry, lacks, refresh), [_listen(port)]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _listen(port: int) -> socket.socket:
    """A socket for both families where the machine has both."""
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    except OSError as error:
        raise InvalidInput("port of /healthz, /readyz and /metrics", port, f"give a free port ({error})") from error
