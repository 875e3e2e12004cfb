"""`vrata logs`: the log of one part."""

import click

from vrata.base.errors import InvalidInput
from vrata.cli import types


@click.command(epilog="Examples: vrata logs provider     vrata logs host-a --tail 100")
@click.argument("part")
@click.option("--name", type=types.SANDBOX, default="default", show_default=True)
@click.option("--tail", type=click.IntRange(0, 1_000_000_000), default=0, help="Only the last N lines.")
@click.option("--follow", "-f", is_flag=True, help="Continue to print as it grows.")
def command(part: str, name: str, tail: int, *, follow: bool) -> None:
    """Print the log of one part of the sandbox."""
    import os

    from vrata.sandbox.lifecycle import Sandbox

    sandbox = Sandbox.existing(name)
    names = [entry.name for entry in sandbox.all_parts()]
    if part not in names:
        raise InvalidInput("PART", part, f"use one of {', '.join(names)}")
    lines = ["-n", str(tail)] if tail else ["-n", "+1"]
    os.execvp("tail", ["tail", *lines, *(["-F"] if follow else []), str(sandbox.paths.log(part))])
