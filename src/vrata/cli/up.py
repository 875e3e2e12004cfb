"""`vrata up`: bring up or repair a sandbox."""

import asyncio
import time
from pathlib import Path

import click

from vrata.base import log
from vrata.cli import progress, types
from vrata.sandbox.model import REPLACEABLE


@click.command(
    epilog="Examples: vrata up     vrata up --name second --workers 3     vrata up --kubeconfig FILE --no-controllers"
)
@click.option(
    "--name", type=types.SANDBOX, default="default", show_default=True, help="Several sandboxes can run side by side."
)
@click.option(
    "--hosts", type=click.IntRange(1, 20), help="Machines that serve gateways and load balancers.  [default: 2]"
)
@click.option("--workers", type=click.IntRange(1, 50), help="Kubernetes nodes that run pods.  [default: 2]")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Use this API server instead of the sandbox's own.",
)
@click.option(
    "--controllers/--no-controllers",
    default=None,
    help="Run the workload controllers.  [default: those that the cluster does not have itself]",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="OCI archive whose images pods may use (repeatable); needs runc.",
)
@click.option(
    "--without",
    type=click.Choice(REPLACEABLE),
    multiple=True,
    help="Leave out the sandbox's own provider or node proxy (repeatable): the cluster's pods do that work.",
)
@click.option(
    "--advert-interval-ms",
    type=click.IntRange(10, 40950),
    help="Interval of VRRP adverts; a standby takes over when three are missing.  [default: 50]",
)
def command(
    name: str,
    hosts: int | None,
    workers: int | None,
    kubeconfig: Path | None,
    image: tuple[Path, ...],
    without: tuple[str, ...],
    advert_interval_ms: int | None,
    *,
    controllers: bool | None,
) -> None:
    """Bring up (or repair, or enlarge) the sandbox: a cloud and a cluster on this machine.

    A sandbox that exists keeps the options it was brought up with, except those given now.
    """
    from vrata.sandbox.lifecycle import Sandbox

    log.configure()
    sandbox = Sandbox.wanted(
        name,
        hosts=hosts,
        workers=workers,
        kubeconfig=str(kubeconfig.resolve()) if kubeconfig else None,
        controllers=controllers,
        without=tuple(sorted(set(without))) or None,
        advert_interval_ms=advert_interval_ms,
    )
    options = sandbox.options
    begun = time.monotonic()

    click.echo(f"sandbox {name!r}: {options.hosts} hosts, 1 master, {options.workers} workers")
    asyncio.run(sandbox.up(progress.show, image))
    click.echo(f"up after {time.monotonic() - begun:.1f} s; try:")
    option = "" if name == "default" else f" --name {name}"
    click.echo(f"  export KUBECONFIG=$(vrata kubeconfig{option})")
    click.echo("  kubectl get nodes -o wide")
