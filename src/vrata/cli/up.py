"""`vrata up`: bring up or repair a sandbox."""

import asyncio
import time
from pathlib import Path

import click

from vrata.base import log


@click.command(
    epilog="Examples: vrata up     vrata up --name second --workers 3     vrata up --kubeconfig FILE --no-controllers"
)
@click.option("--name", default="default", show_default=True, help="Several sandboxes can run side by side.")
@click.option("--hosts", default=2, show_default=True, help="Machines that carry gateways and balancers.")
@click.option("--workers", default=2, show_default=True, help="Kubernetes nodes that run pods.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Use this API server instead of the sandbox's own.",
)
@click.option("--controllers/--no-controllers", default=True, show_default=True, help="Run the workload controllers.")
@click.option("--advert-interval-ms", default=50, show_default=True, help="Of VRRP; 3.6 of them make a takeover.")
def command(
    name: str, hosts: int, workers: int, kubeconfig: Path | None, advert_interval_ms: int, *, controllers: bool
) -> None:
    """Bring up (or repair) the sandbox: a cloud and a cluster on this machine."""
    from vrata.sandbox.lifecycle import Sandbox
    from vrata.sandbox.model import Options

    log.configure()
    outside = str(kubeconfig.resolve()) if kubeconfig else ""
    sandbox = Sandbox(Options(name, hosts, workers, outside, controllers, advert_interval_ms))
    begun = time.monotonic()

    def progress(title: str, seconds: float) -> None:
        click.echo(f"  ✓ {title:<34} {seconds:5.1f} s")

    click.echo(f"sandbox {name!r}: {hosts} hosts, 1 master, {workers} workers")
    asyncio.run(sandbox.up(progress))
    click.echo(f"up after {time.monotonic() - begun:.1f} s; try:")
    option = "" if name == "default" else f" --name {name}"
    click.echo(f"  export KUBECONFIG=$(vrata kubeconfig{option})")
    click.echo("  kubectl get nodes -o wide")
