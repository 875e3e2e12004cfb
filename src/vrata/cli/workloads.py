"""`vrata workloads`: the sandbox's Deployment, ReplicaSet, placement and endpoint controllers."""

from pathlib import Path

import click

from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube


@click.command(epilog="Started by `vrata up`, unless --no-controllers leaves this to the cluster's own.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
def command(kubeconfig: Path) -> None:
    """Run the sandbox's Deployment, ReplicaSet and EndpointSlice controllers."""
    from vrata.sandbox.workloads.controller import Workloads

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube:
            await Workloads(kube).run()

    run_until_signalled(serve)
