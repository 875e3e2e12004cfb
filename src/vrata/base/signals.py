"""How everything that runs for long ends: a signal cancels it."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable


async def until_signalled(work: Awaitable[None]) -> None:
    """Await it; SIGTERM and SIGINT cancel it, which is a clean end."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
