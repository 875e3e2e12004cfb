"""`vrata ingress explain`: who serves a URL, and why."""

import asyncio
from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.kube import config


@click.command(epilog="Example: vrata ingress explain https://shop.example/cart")
@click.argument("url")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--shared-hosts", is_flag=True, help="Give it if the controller has it.")
@click.option("--ssl-passthrough", is_flag=True, help="Likewise: without it Ingresses whose pods end TLS are left out.")
def command(url: str, kubeconfig: Path | None, *, shared_hosts: bool, ssl_passthrough: bool) -> None:
    """Show which Ingress, rule, Service and pods serve URL, and which other rules match with a lower rank."""

    async def work() -> None:
        import aiohttp

        from vrata.ingress.explain import Cluster, explain
        from vrata.ingress.parameters import read_parameters
        from vrata.kube import resources
        from vrata.kube.client import Kube
        from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service

        async with Kube(config.load(kubeconfig)) as kube:
            try:
                classes = tuple((await kube.list(resources.INGRESS_CLASSES, IngressClass)).objects)
                cluster = Cluster(
                    tuple((await kube.list(resources.INGRESSES, Ingress)).objects),
                    classes,
                    tuple((await kube.list(resources.SERVICES, Service)).objects),
                    tuple((await kube.list(resources.ENDPOINT_SLICES, EndpointSlice)).objects),
                    await read_parameters(kube, classes),
                    shared_hosts=shared_hosts,
                    passthrough=ssl_passthrough,
                )
            except (aiohttp.ClientError, OSError) as error:
                raise VrataError(f"the API server does not answer: {error}", remedy="check --kubeconfig") from error
        for line in explain(cluster, url):
            click.echo(line)

    asyncio.run(work())
