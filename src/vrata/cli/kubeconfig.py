"""`vrata kubeconfig`: how to reach the sandbox's API server from this machine."""

import click

from vrata.cli import types


@click.command(epilog="Example: export KUBECONFIG=$(vrata kubeconfig)")
@click.option("--name", type=types.SANDBOX, default="default", show_default=True)
@click.option("--text", is_flag=True, help="Print the file's text instead of its path.")
def command(name: str, *, text: bool) -> None:
    """Print the path (or text) of the sandbox's kubeconfig."""
    from vrata.sandbox.lifecycle import Sandbox

    file = Sandbox.existing(name).paths.kubeconfig
    click.echo(file.read_text() if text else str(file), nl=not text)
