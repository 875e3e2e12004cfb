"""`vrata ingress webhook`: the admission webhook, as a container of its own runs it."""

import asyncio
import socket
from pathlib import Path

import click

from vrata.base.errors import InvalidInput
from vrata.cli.running import run_until_signalled
from vrata.kube import config


@click.command(epilog="Example: vrata ingress webhook --tls-cert-file tls.crt --tls-key-file tls.key")
@click.option("--port", default=9443, show_default=True)
@click.option("--tls-cert-file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tls-key-file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
def command(port: int, tls_cert_file: Path, tls_key_file: Path, kubeconfig: Path | None) -> None:
    """Answer the API server what is wrong with an Ingress, over HTTPS, at /validate."""

    async def serve() -> None:
        from vrata.base.asgi import serve_http
        from vrata.ingress.webhook import webhook
        from vrata.kube import resources
        from vrata.kube.client import Kube
        from vrata.kube.informer import Informer
        from vrata.kube.objects import IngressClass

        try:
            listener = socket.create_server(("", port))
        except OSError as error:
            raise InvalidInput("--port", port, f"give a free port ({error})") from error
        async with Kube(config.load(kubeconfig)) as kube, asyncio.TaskGroup() as group:
            classes = Informer(kube, resources.INGRESS_CLASSES, IngressClass)
            group.create_task(classes.run())
            await classes.synced.wait()
            app = webhook(lambda: classes.objects)
            await serve_http(app, [listener], certificate=str(tls_cert_file), key=str(tls_key_file), lifespan="off")

    run_until_signalled(serve)
