"""`vrata ingress explain`: who serves a URL, and why."""

import asyncio
from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.kube import config


@click.command(epilog="Example: vrata ingress explain https://shop.example/cart")
@click.argument("url")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
def command(url: str, kubeconfig: Path | None) -> None:
    """Say which Ingress, rule, Service and pods serve URL, and which other rules it passes over."""

    async def work() -> None:
        import aiohttp

        from vrata.ingress.explain import Cluster, explain
        from vrata.ingress.parameters import read_parameters
        from vrata.kube import resources
        from vrata.kube.client import Kube
        from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service

        async with Kube(config.load(kubeconfig)) as kube:
            try:
                classes = tuple((await kube.list(resources.INGRESS_CLASSES, IngressClass))[0])
                cluster = Cluster(
                    tuple((await kube.list(resources.INGRESSES, Ingress))[0]),
                    classes,
                    tuple((await kube.list(resources.SERVICES, Service))[0]),
                    tuple((await kube.list(resources.ENDPOINT_SLICES, EndpointSlice))[0]),
                    await read_parameters(kube, classes),
                )
            except (aiohttp.ClientError, OSError) as error:
                raise VrataError(f"the API server does not answer: {error}", remedy="check --kubeconfig") from error
        for line in explain(cluster, url):
            click.echo(line)

    asyncio.run(work())
