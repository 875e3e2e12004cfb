"""`vrata exec`: be on one of the sandbox's machines."""

import os

import click

from vrata.cli import types
from vrata.net.command import inside


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples: vrata exec client curl http://203.0.113.20     vrata exec worker-0 ip addr",
)
@click.option("--name", type=types.SANDBOX, default="default", show_default=True)
@click.argument("machine")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def command(name: str, machine: str, argv: tuple[str, ...]) -> None:
    """Run a command inside one of the sandbox's machines (client, master-0, worker-0, host-a, …)."""
    from vrata.sandbox.lifecycle import Sandbox
    from vrata.sandbox.parts import check_root

    check_root()
    words = inside(Sandbox.existing(name).layout.machine(machine).netns, *argv)
    os.execvp(words[0], words)
