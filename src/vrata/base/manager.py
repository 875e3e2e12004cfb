"""Messages of a service to systemd (sd_notify(3)): it is ready, it is alive, it ends.

Without systemd ($NOTIFY_SOCKET) no message is sent. The watchdog's signs of life come out of the event loop, so a loop that
stands still is noticed.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping


@contextlib.asynccontextmanager
async def supervised(
    ready: asyncio.Event | None = None, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[None]:
    """Say that the service is ready (once the event is set, if there is one), then that it is alive, until it ends."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        yield
        return
    beating = asyncio.ensure_future(_beat(address, ready, _interval_s(environment)))
    try:
        yield
    finally:
        beating.cancel()
        _send(address, "STOPPING=1")


def _interval_s(environment: Mapping[str, str]) -> float | None:
    """Half of what systemd waits for (sd_watchdog_enabled(3)); None: it does not wait."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or pid != str(os.getpid()):
        return None
    return int(microseconds) / 2e6


async def _beat(address: str, ready: asyncio.Event | None, interval_s: float | None) -> None:
    if ready is not None:
        await ready.wait()
    _send(address, "READY=1")
    while interval_s is not None:
        _send(address, "WATCHDOG=1")
        await asyncio.sleep(interval_s)


def _send(address: str, text: str) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sender.send(text.encode())
