"""How every long-running command runs: logs, the event loop, and a clean end on SIGTERM or Ctrl-C."""

import asyncio
from collections.abc import Awaitable, Callable

from vrata.base import log
from vrata.base.signals import until_signalled


def run_until_signalled(serve: Callable[[], Awaitable[None]]) -> None:
    """Run `serve()` until it ends or a signal cancels it; cancellation is a clean end (status 0)."""
    log.configure()

    async def main() -> None:
        await until_signalled(serve())

    asyncio.run(main())
