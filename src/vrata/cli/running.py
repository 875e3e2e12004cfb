"""How every long-running command runs: logs, the event loop, and a clean end on SIGTERM or Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from vrata.base import log


def run_until_signalled(serve: Callable[[], Awaitable[None]]) -> None:
    """Run `serve()` until it ends or a signal cancels it; cancellation is a clean end (status 0)."""
    log.configure()

    async def main() -> None:
        task = asyncio.ensure_future(serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
