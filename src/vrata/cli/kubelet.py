"""`vrata kubelet`: the pods of one sandbox node; started by `vrata up` inside the node's namespace."""

from pathlib import Path

import click

from vrata.cli import types
from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube


@click.command(epilog="Started by `vrata up`; see `vrata logs kubelet-worker-0`.")
@click.option("--sandbox", type=types.NAME, required=True, help="Name of the sandbox, part of every kernel name.")
@click.option("--node", type=types.NODE, required=True, help="Name of this node.")
@click.option("--address", type=types.IP, required=True, help="InternalIP of this node.")
@click.option(
    "--pod-cidr",
    type=types.NETWORKS,
    default="",
    help="This node's pod network, e.g. 10.20.0.0/24; empty: no pods here.",
)
@click.option("--state-dir", type=click.Path(path_type=Path), required=True, help="Records and logs of pods.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Directory of the sandbox's images.  [default: below the state]"
)
@click.option("--provider-id", type=types.WORD, default="", help="providerID of the Node object.")
@click.option(
    "--taint", type=types.TAINT, multiple=True, metavar="KEY:EFFECT", help="Taint of the Node object (repeatable)."
)
def command(
    sandbox: str,
    node: str,
    address: str,
    pod_cidr: str,
    state_dir: Path,
    kubeconfig: Path,
    images: Path | None,
    provider_id: str,
    taint: tuple[str, ...],
) -> None:
    """Run the pods of one of the sandbox's nodes."""
    from vrata.sandbox.kubelet.agent import Kubelet
    from vrata.sandbox.kubelet.settings import Settings

    settings = Settings(
        sandbox=sandbox,
        node=node,
        address=address,
        pod_cidr=pod_cidr,
        state_dir=state_dir,
        kubeconfig=kubeconfig,
        images=images,
        provider_id=provider_id,
        taints=taint,
    )

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube:
            await Kubelet(settings, kube).run()

    run_until_signalled(serve)
