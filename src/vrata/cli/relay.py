"""`vrata relay`: the sandbox machines' way to an API server outside (`vrata up --kubeconfig`)."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from vrata.cli import types
from vrata.cli.running import run_until_signalled
from vrata.kube import config


@click.command(epilog="Started by `vrata up --kubeconfig FILE`.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True, help="Of the API server outside.")
@click.option("--netns", type=types.NAME, required=True, help="Namespace to listen in.")
@click.option("--listen", type=types.LISTEN, required=True, metavar="ADDRESS:PORT", help="Where to listen there.")
def command(kubeconfig: Path, netns: str, listen: str) -> None:
    """Forward TCP from inside the sandbox to an API server outside."""
    from vrata.sandbox.relay import listen_inside, relay

    address, _, port = listen.rpartition(":")
    server = urlsplit(config.load(kubeconfig).server)

    async def serve() -> None:
        await relay(listen_inside(netns, address, int(port)), server.hostname or "", server.port or 443)

    run_until_signalled(serve)
