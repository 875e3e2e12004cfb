"""`vrata node`: the node proxy of one node."""

import socket
from pathlib import Path

import click

from vrata.cli import types
from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube

_PORT = click.IntRange(0, 65535)


@click.command(epilog="Example: vrata node --node worker-0   (as root, in the node's network namespace)")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option(
    "--node", type=types.NODE, default=socket.gethostname, show_default="the host name", help="Name of this node."
)
@click.option(
    "--cluster-cidr",
    type=types.NETWORKS,
    default="",
    metavar="LIST",
    help="All pods' networks: clients from elsewhere are masqueraded at cluster addresses.",
)
@click.option(
    "--nodeport-addresses",
    type=types.NETWORKS,
    default="",
    metavar="LIST",
    help="Networks of the node's addresses that node ports answer on; default: all but loopback.",
)
@click.option("--healthz-port", default=10256, show_default=True, type=_PORT, help="For /healthz and /livez; 0: none.")
@click.option("--metrics-port", default=10249, show_default=True, type=_PORT, help="On 127.0.0.1; 0: none.")
def command(
    kubeconfig: Path | None,
    node: str,
    cluster_cidr: str,
    nodeport_addresses: str,
    healthz_port: int,
    metrics_port: int,
) -> None:
    """Run the node proxy: ClusterIP, NodePort and external addresses of Services in nftables."""
    from vrata.nodeport.controller import NodeProxy, Options

    options = Options(
        _networks(cluster_cidr),
        _networks(nodeport_addresses),
        healthz_port,
        metrics_port,
    )

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube:
            await NodeProxy(kube, node, options).run()

    run_until_signalled(serve)


def _networks(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
