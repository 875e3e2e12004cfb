"""`vrata down`: remove a sandbox."""

import asyncio

import click


@click.command(epilog="Example: vrata down --name second")
@click.option("--name", default="default", show_default=True)
def command(name: str) -> None:
    """Remove the sandbox and everything it created."""
    from vrata.sandbox.lifecycle import Sandbox

    asyncio.run(Sandbox.existing(name).down())
    click.echo(f"sandbox {name!r} is gone")
