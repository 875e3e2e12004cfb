"""`vrata workloads`: the sandbox's Deployment, ReplicaSet, DaemonSet, placement and endpoint controllers."""

from pathlib import Path

import click

from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube


@click.command(epilog="Started by `vrata up`, unless --no-controllers is given.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
@click.option("--everything", is_flag=True, help="Run also those controllers that the cluster has itself.")
def command(kubeconfig: Path, *, everything: bool) -> None:
    """Run the sandbox's Deployment, ReplicaSet, DaemonSet and EndpointSlice controllers.

    What a kube-controller-manager or kube-scheduler of the cluster does is left to it.
    """
    from vrata.sandbox.workloads.controller import Workloads

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube:
            await Workloads(kube, everything=everything).run()

    run_until_signalled(serve)
