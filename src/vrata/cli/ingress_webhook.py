"""`vrata ingress webhook`: the admission webhook, as a container of its own runs it."""

import asyncio
import socket
from pathlib import Path

import click

from vrata.base.errors import InvalidInput
from vrata.cli import types
from vrata.cli.running import run_until_signalled
from vrata.kube import config


@click.command(epilog="Example: vrata ingress webhook --tls-cert-file tls.crt --tls-key-file tls.key")
@click.option("--port", type=types.PORT, default=9443, show_default=True)
@click.option("--tls-cert-file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tls-key-file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--shared-hosts", is_flag=True, help="Give it if the controller has it.")
@click.option("--ssl-passthrough", is_flag=True, help="Likewise: without it Ingresses whose pods end TLS are left out.")
def command(
    port: int,
    tls_cert_file: Path,
    tls_key_file: Path,
    kubeconfig: Path | None,
    *,
    shared_hosts: bool,
    ssl_passthrough: bool,
) -> None:
    """Serve an admission webhook over HTTPS at /validate that reports what is wrong with an Ingress."""

    async def serve() -> None:
        from vrata.base.asgi import serve_http
        from vrata.ingress.claims import is_ours, read_ingress
        from vrata.ingress.table import Table
        from vrata.ingress.webhook import webhook
        from vrata.kube import resources
        from vrata.kube.client import Kube
        from vrata.kube.informer import Informer
        from vrata.kube.objects import Ingress, IngressClass

        try:
            listener = socket.create_server(("", port))
        except OSError as error:
            raise InvalidInput("--port", port, f"give a free port ({error})") from error
        async with Kube(config.load(kubeconfig)) as kube, asyncio.TaskGroup() as group:
            classes = Informer(kube, resources.INGRESS_CLASSES, IngressClass)
            ingresses = Informer(kube, resources.INGRESSES, Ingress)
            served = Table(shared_hosts=shared_hosts)

            def changed(old: Ingress | None, new: Ingress | None) -> None:
                entry = new or old
                assert entry
                mine = new is not None and is_ours(new, classes.objects)[0]
                claims = read_ingress(new, passthrough=ssl_passthrough) if new and mine else None
                served.put(entry.metadata.key, claims)

            def class_changed(_old: IngressClass | None, _new: IngressClass | None) -> None:
                for one in tuple(ingresses.objects.values()):
                    changed(one, one)

            ingresses.on_change(changed)
            classes.on_change(class_changed)
            for informer in (classes, ingresses):
                group.create_task(informer.run())
                await informer.synced.wait()
            app = webhook(lambda: classes.objects, served, passthrough=ssl_passthrough)
            await serve_http(app, [listener], certificate=str(tls_cert_file), key=str(tls_key_file), lifespan="off")

    run_until_signalled(serve)
