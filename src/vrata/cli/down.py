"""`vrata down`: remove a sandbox."""

import asyncio

import click

from vrata.cli import progress, types


@click.command(epilog="Example: vrata down --name second")
@click.option("--name", type=types.SANDBOX, default="default", show_default=True)
def command(name: str) -> None:
    """Remove the sandbox and everything it created."""
    from vrata.sandbox.lifecycle import Sandbox

    asyncio.run(Sandbox.existing(name).down(progress.show))
    click.echo(f"sandbox {name!r} is gone")
