"""`vrata provider`: the cloud provider of one cluster."""

from pathlib import Path

import click

from vrata.cli.running import run_until_signalled
from vrata.kube import config
from vrata.kube.client import Kube


@click.command(epilog="Example: vrata provider --os-cloud mycloud --cluster-name production")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--os-cloud", envvar="OS_CLOUD", help="Entry of clouds.yaml.")
@click.option("--clouds-file", type=click.Path(path_type=Path), help="clouds.yaml to read; default: the usual places.")
@click.option("--cluster-name", default="kubernetes", show_default=True, help="Part of every name in the cloud.")
@click.option("--subnet-id", default="", help="Subnet of the VIPs; default: the nodes' own.")
@click.option("--floating-network-id", default="", help="Network of floating IPs; default: the first external one.")
@click.option("--internal", is_flag=True, help="No Service gets a floating IP, whatever it says.")
@click.option("--monitor/--no-monitor", default=True, show_default=True, help="Health monitors on every pool.")
def command(
    kubeconfig: Path | None,
    os_cloud: str | None,
    clouds_file: Path | None,
    cluster_name: str,
    subnet_id: str,
    floating_network_id: str,
    *,
    internal: bool,
    monitor: bool,
) -> None:
    """Run the cloud provider: Services of type LoadBalancer get balancers and addresses."""
    from vrata.provider.cloud import Cloud
    from vrata.provider.controller import Provider
    from vrata.provider.model import Settings

    settings = Settings(
        cluster=cluster_name,
        subnet_id=subnet_id,
        floating_network_id=floating_network_id,
        internal=internal,
        monitor=monitor,
    )

    async def serve() -> None:
        async with Kube(config.load(kubeconfig)) as kube, Cloud(os_cloud, clouds_file) as cloud:
            await Provider(kube, cloud, settings).run()

    run_until_signalled(serve)
