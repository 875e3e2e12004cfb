"""`vrata status`: what runs, where, and which addresses there are."""

import asyncio
import sys

import click

from vrata.cli import types


@click.command(epilog="Example: vrata status")
@click.option("--name", type=types.SANDBOX, default="default", show_default=True)
def command(name: str) -> None:
    """Show the sandbox's parts, addresses and balancers."""
    from vrata.sandbox.lifecycle import Sandbox
    from vrata.sandbox.overview import balancer_rows, machine_rows, part_rows

    sandbox = Sandbox.existing(name)
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    for title, columns, rows in (
        ("machines", ("machine", "role", "addresses", "namespace"), machine_rows(sandbox)),
        ("parts", ("part", "on", "state", "pid", "memory"), part_rows(sandbox)),
        (
            "balancers",
            ("name", "status", "operating", "VIP", "floating IP", "active on", "standby on"),
            asyncio.run(balancer_rows(sandbox)),
        ),
    ):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    dead = [part.name for part in sandbox.all_parts() if not sandbox.parts.is_running(part.name)]
    if dead:
        raise click.ClickException(f"not running: {', '.join(dead)}; repair with `vrata up`")
