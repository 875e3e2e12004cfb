"""`vrata ingress webhook`: the admission webhook, as a container of its own runs it."""

import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import click

from vrata.base.errors import InvalidInput
from vrata.cli import types
from vrata.cli.running import run_until_signalled
from vrata.kube import config


@click.command(epilog="Example: vrata ingress webhook --tls-cert-file tls.crt --tls-key-file tls.key")
@click.option("--port", type=types.PORT, default=9443, show_default=True)
@click.option("--tls-cert-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tls-key-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--tls-secret",
    type=types.KEY,
    metavar="NAMESPACE/NAME",
    help="In place of files: make the certificate, keep it in this Secret, renew it.",
)
@click.option(
    "--webhook-configuration",
    type=types.WORD,
    metavar="NAME",
    help="Beside --tls-secret: the ValidatingWebhookConfiguration that is to trust it.",
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--shared-hosts", is_flag=True, help="Give it if the controller has it.")
@click.option("--ssl-passthrough", is_flag=True, help="Likewise: without it Ingresses whose pods end TLS are left out.")
def command(
    port: int,
    tls_cert_file: Path | None,
    tls_key_file: Path | None,
    tls_secret: str | None,
    webhook_configuration: str | None,
    kubeconfig: Path | None,
    *,
    shared_hosts: bool,
    ssl_passthrough: bool,
) -> None:
    """Serve an admission webhook over HTTPS at /validate that reports what is wrong with an Ingress."""
    _check(tls_cert_file, tls_key_file, tls_secret, webhook_configuration)

    async def serve() -> None:
        from vrata.base.asgi import serve_http
        from vrata.ingress.claims import is_ours, read_ingress
        from vrata.ingress.table import Table
        from vrata.ingress.webhook import webhook
        from vrata.ingress.webhook_certificate import Keeper
        from vrata.kube import resources
        from vrata.kube.client import Kube
        from vrata.kube.informer import Informer
        from vrata.kube.objects import Ingress, IngressClass

        try:
            listener = socket.create_server(("", port))
        except OSError as error:
            raise InvalidInput("--port", port, f"give a free port ({error})") from error
        async with Kube(config.load(kubeconfig)) as kube, AsyncExitStack() as stack:
            certificate, key = str(tls_cert_file), str(tls_key_file)
            replaced = None
            if tls_secret and webhook_configuration:
                keeper = Keeper(kube, tls_secret, webhook_configuration)
                pair = await keeper.first()
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vrata-webhook-"))  # this user's alone
                certificate, key = f"{folder}/tls.crt", f"{folder}/tls.key"
                Path(certificate).write_text(pair.certificate)
                Path(key).write_text(pair.key)
                replaced = keeper.until_replaced(pair)
            group = await stack.enter_async_context(asyncio.TaskGroup())
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
            serving = group.create_task(serve_http(app, [listener], certificate=certificate, key=key, lifespan="off"))
            if replaced:
                await replaced
                raise asyncio.CancelledError  # a clean end: the next start serves the new one
            await serving

    run_until_signalled(serve)


def _check(cert_file: Path | None, key_file: Path | None, secret: str | None, configuration: str | None) -> None:
    """Raise InvalidInput unless the options name one certificate."""
    if secret and (cert_file or key_file):
        raise InvalidInput("--tls-secret", secret, "leave out --tls-cert-file and --tls-key-file beside it")
    if secret and not configuration:
        raise InvalidInput("--webhook-configuration", "", "name the one that is to trust the certificate")
    if not secret and not (cert_file and key_file):
        raise InvalidInput("--tls-cert-file", "", "give it and --tls-key-file, or --tls-secret")
