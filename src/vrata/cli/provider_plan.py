"""`vrata provider plan`: a dry run."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types
from vrata.cli.manifests import read_manifests
from vrata.cli.provider_options import given, with_cloud_options
from vrata.kube import config
from vrata.kube.client import Kube
from vrata.kube.objects import Service

EXAMPLES = "Examples: vrata provider plan -f service.yaml     kubectl get svc -A -o yaml | vrata provider plan -f -"


@click.command(epilog=EXAMPLES)
@click.option(
    "-f", "--filename", required=True, type=click.Path(path_type=Path), help="Manifests; - for standard input."
)
@click.option(
    "-n", "--namespace", type=types.NAME, default="default", show_default=True, help="Of manifests that name none."
)
@with_cloud_options
def command(filename: Path, namespace: str, **options: Any) -> None:
    """Show the calls that Services in manifests would cause, and change nothing."""
    services = read_services(sys.stdin.read() if str(filename) == "-" else _text(filename), namespace)
    said = given(**options)

    async def work() -> None:
        import aiohttp

        from vrata.provider.cloud import Cloud
        from vrata.provider.preview import preview

        async with Kube(config.load(said.kubeconfig)) as kube, Cloud(login=said.login) as cloud:
            try:
                found = await preview(kube, cloud, said.settings, services)
            except (aiohttp.ClientError, OSError) as error:  # of the cloud's it would be a CloudError
                raise VrataError(f"the API server does not answer: {error}", remedy="check --kubeconfig") from error
            for one in found:
                click.echo(f"Service {one.service}")
                for call in one.calls:
                    click.echo(f"  {call.method} {call.service} {call.path}: {call.reason}")
                    if call.body:
                        text = msgspec.json.format(msgspec.json.encode(call.body), indent=2).decode()
                        click.echo("".join(f"    {line}\n" for line in text.splitlines()), nl=False)
                for note in one.notes:
                    click.echo(f"  left out: {note}")
                if one.problem:
                    click.echo(f"  {one.problem}")
                elif not one.calls:
                    click.echo("  nothing to do")

    asyncio.run(work())


def read_services(text: str, namespace: str) -> list[Service]:
    """The Services among manifests, in lists, too; InvalidInput if there is none or one is not well formed."""
    found = []
    for body, twice in read_manifests("(its text)", text):
        if body.get("kind") == "Service":
            if twice:
                raise InvalidInput("--filename", "(its text)", twice[0])
            try:
                service = msgspec.convert(body, Service)
            except msgspec.ValidationError as error:
                raise InvalidInput(
                    "--filename", str(error), "check the Service with kubectl apply --dry-run=server"
                ) from error
            metadata = service.metadata
            if not metadata.namespace:
                service = msgspec.structs.replace(
                    service, metadata=msgspec.structs.replace(metadata, namespace=namespace)
                )
            found.append(service)
    if not found:
        raise InvalidInput("--filename", "", "give at least one manifest of kind Service")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--filename", str(path), f"name a text file that can be read ({error})") from error
