"""`vrata top`: every pair at a glance, live: roles, traffic, the last failover and how long it took."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrata.base.errors import VrataError
from vrata.cli import types
from vrata.cli.clouds import admin, cloud_options
from vrata.cli.rates import EVENT_COLUMNS, PAIR_COLUMNS, Sample, event_rows, pair_rows

if TYPE_CHECKING:
    from rich.console import Group

    from vrata.provider.cloud import Cloud

WINDOW_S = 5.0  # hosts read their counters once a second: over less than some seconds a rate would jump
EVENTS = 8
API = "/v2.0/vrata"


@click.command(epilog="Examples: vrata top     vrata top --once --os-cloud production")
@click.option("--interval", type=types.seconds(0.2, 60.0), default=1.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Print it once, with the rates of one interval, and end.")
@cloud_options
def command(name: str, os_cloud: str | None, clouds_file: Path | None, *, interval: float, once: bool) -> None:
    """Show balancers and gateways live: who is active and who stands by, rates, the last failover. Ctrl-C ends it."""
    import aiohttp
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200)

    async def work() -> None:
        samples: deque[Sample] = deque()
        async with admin(name, os_cloud, clouds_file) as cloud:
            shown = await look(cloud, samples)
            if once:
                await asyncio.sleep(interval)
                console.print(await look(cloud, samples))
                return
            with Live(shown, console=console, screen=console.is_terminal, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(interval)
                    try:
                        shown = await look(cloud, samples)
                    except (VrataError, aiohttp.ClientError, OSError) as error:  # it is being restarted
                        live.update(Group(shown, "", Text(f"The cloud does not answer: {error}")), refresh=True)
                    else:
                        live.update(shown, refresh=True)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())


async def look(cloud: "Cloud", samples: deque[Sample]) -> "Group":
    """Ask the cloud once more and say what there is to show."""
    from rich.console import Group

    pairs: list[dict[str, Any]] = (await cloud.get("load-balancer", f"{API}/pairs"))["pairs"]
    samples.append(Sample(time.monotonic(), pairs))
    while len(samples) > 2 and samples[-1].at_s - samples[1].at_s >= WINDOW_S:
        samples.popleft()
    events = (await cloud.get("load-balancer", f"{API}/transitions", limit=str(EVENTS)))["transitions"]
    names = {one["id"]: one["name"] or one["id"] for one in pairs}
    now = time.time()
    return Group(
        _table(PAIR_COLUMNS, pair_rows(samples[0], samples[-1], now)),
        "",
        _table(EVENT_COLUMNS, event_rows(events, names, now)),
    )


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column.endswith("/s") else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # names are the tenants' and no markup
    return table
