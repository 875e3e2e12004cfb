"""`vrata node`: the node proxy of one node."""

import socket
from pathlib import Path

import click

from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube


@click.command(epilog="Example: vrata node --node worker-0   (as root, in the node's network namespace)")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--node", default=socket.gethostname, show_default="the host name", help="Name of this node.")
def command(kubeconfig: Path | None, node: str) -> None:
    """Run the node proxy: NodePort and ClusterIP in nftables."""
    from vrata.nodeport.controller import NodeProxy

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube:
            await NodeProxy(kube, node).run()

    run_until_signalled(serve)
