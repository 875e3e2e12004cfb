"""`vrata ingress check`: what Ingresses, and their annotations, will do here."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli.manifests import read_manifests
from vrata.ingress.annotations.parse import NGINX, OURS
from vrata.ingress.annotations.table import TABLE
from vrata.ingress.claims import read_ingress
from vrata.ingress.model import Claims
from vrata.ingress.table import HOST_CONFLICT, TOO_COSTLY, Table
from vrata.kube.objects import Ingress, IngressMeta, IngressSpec
from vrata.sandbox.apiserver.check import refusals
from vrata.sandbox.apiserver.resources import Registry

API_VERSION = "networking.k8s.io/v1"
_INGRESSES = next(one for one in Registry().all() if one.kind == "Ingress")
EXAMPLES = "Examples: vrata ingress check -f manifests/     vrata ingress check --cluster --output json"


class Found(NamedTuple):
    """An Ingress, the annotations that its class has for it, and what the API server will say of a torn one."""

    ingress: Ingress
    defaults: Mapping[str, str] = {}
    torn: tuple[str, ...] = ()


@click.command(epilog=EXAMPLES)
@click.option("-f", "--filename", "names", multiple=True, help="Manifests or directories; - for standard input.")
@click.option("--cluster", is_flag=True, help="All Ingresses of the cluster, whatever their class.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--shared-hosts", is_flag=True, help="Give it if the controller has it.")
@click.option("--ssl-passthrough", is_flag=True, help="Likewise: without it Ingresses whose pods end TLS are left out.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    names: tuple[str, ...],
    kubeconfig: Path | None,
    output: str,
    *,
    cluster: bool,
    shared_hosts: bool,
    ssl_passthrough: bool,
) -> None:
    """Say which annotations of Ingresses work here, and what else is wrong; end with 1 if anything is."""
    if bool(names) == cluster:
        raise InvalidInput("--filename", ", ".join(names) or None, "name manifests, or give --cluster, and not both")
    found = read_cluster(kubeconfig) if cluster else read_files(names)
    if not found and not cluster:
        raise InvalidInput("--filename", ", ".join(names), "give at least one manifest of kind Ingress")
    reports = report_all(found, shared_hosts=shared_hosts, passthrough=ssl_passthrough)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(reports), indent=2).decode())
    else:
        _print(reports)
    if any(one["problems"] or any(each["verdict"] == "no" for each in one["annotations"]) for one in reports):
        sys.exit(1)


def read_cluster(kubeconfig: Path | None) -> list[Found]:
    """All Ingresses of the cluster."""

    async def work() -> list[Found]:
        import aiohttp

        from vrata.ingress.parameters import defaults_of, read_parameters
        from vrata.kube import config, resources
        from vrata.kube.client import Kube
        from vrata.kube.objects import IngressClass

        async with Kube(config.load(kubeconfig)) as kube:
            try:
                ingresses = (await kube.list(resources.INGRESSES, Ingress)).objects
                classes = (await kube.list(resources.INGRESS_CLASSES, IngressClass)).objects
                parameters = await read_parameters(kube, classes)
            except (aiohttp.ClientError, OSError) as error:
                raise VrataError(f"the API server does not answer: {error}", remedy="check --kubeconfig") from error
        by_name = {one.metadata.name: one for one in classes}
        return [Found(one, defaults_of(one, by_name, parameters)[0]) for one in ingresses]

    return asyncio.run(work())


def read_files(names: tuple[str, ...]) -> list[Found]:
    """The Ingresses in manifests."""
    texts = [one for name in names for one in read_texts(name)]
    read = (one for file, text in texts for one in read_manifests(file, text))
    return [_found(*one) for one in read if str(one.body.get("kind")).lower() == "ingress"]


def _found(body: dict[str, Any], twice: tuple[str, ...]) -> Found:
    torn: list[str] = []
    if body.get("kind") != "Ingress":
        torn.append(f"kind: {body['kind']!r} is not served by any API server; write Ingress")
        body = {**body, "kind": "Ingress"}
    if body.get("apiVersion") != API_VERSION:
        said = f"apiVersion: {body.get('apiVersion')!r} is not served by any API server"
        torn.append(f"{said}; write {API_VERSION}, with pathType and backend.service")
    written = _mapping(body, "metadata", torn)
    name, namespace = (
        str(written.get("name") or written.get("generateName")),
        str(written.get("namespace") or "default"),
    )
    annotations = _texts(written, "annotations", torn)
    _texts(written, "labels", torn)
    metadata = IngressMeta(name, namespace, annotations=annotations)
    torn = [*twice, *(torn or refusals(_INGRESSES, body))]
    try:
        return Found(Ingress(metadata, msgspec.convert(body.get("spec") or {}, IngressSpec)), torn=tuple(torn))
    except msgspec.ValidationError as error:
        return Found(Ingress(metadata), torn=tuple(torn or [f"spec: {error}; correct it"]))


def _mapping(parent: dict[Any, Any], field: str, torn: list[str]) -> dict[Any, Any]:
    """A field that is one if it is there; else the API server refuses it."""
    value = parent.get(field)
    if value is not None and not isinstance(value, dict):
        torn.append(f"{field}: {str(value)[:80]!r} is no mapping; write names with values")
    return value if isinstance(value, dict) else {}


def _texts(metadata: dict[Any, Any], field: str, torn: list[str]) -> dict[str, str]:
    """Annotations or labels; what YAML takes for a number or a boolean is none of Kubernetes' texts without quotes."""
    found: dict[str, str] = {}
    for key, value in _mapping(metadata, field, torn).items():
        plain = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        if not isinstance(value, str) and value is not None:
            torn.append(
                f"metadata.{field}[{str(key)[:128]}]: {plain[:80]} is no text, so the API server refuses it; quote it"
            )
        found[str(key)] = plain
    return found


def report_all(found: list[Found], *, shared_hosts: bool, passthrough: bool) -> list[dict[str, Any]]:
    """Verdicts and problems of each Ingress, also those that others bring about."""
    table = Table(shared_hosts=shared_hosts)
    claims = [read_ingress(one.ingress, one.defaults, passthrough=passthrough) for one in found]
    for one, asked in zip(found, claims, strict=True):
        table.put(one.ingress.metadata.key, asked)
    refused: dict[str, list[str]] = {}
    for host in table.settle().hosts.values():
        for problem in host.problems:
            if problem.reason in (HOST_CONFLICT, TOO_COSTLY):
                refused.setdefault(problem.ingress, []).append(problem.message)
    return [
        report(one, asked, refused.get(one.ingress.metadata.key, ())) for one, asked in zip(found, claims, strict=True)
    ]


def report(found: Found, claims: Claims, refused: Iterable[str]) -> dict[str, Any]:
    """Verdicts and problems of one Ingress."""
    annotations = {**found.defaults, **found.ingress.metadata.annotations}
    verdicts = []
    for key in sorted(annotations):
        row = TABLE.get(key.removeprefix(NGINX).removeprefix(OURS)) if key.startswith((NGINX, OURS)) else None
        if row:
            verdicts.append({"annotation": key, "verdict": str(row.support), "note": row.note})
    told = {text.partition(": ")[0] for text in found.torn}
    own = [problem.message for problem in claims.problems if not _is_told(problem.message.partition(": ")[0], told)]
    said = list(dict.fromkeys([*found.torn, *own, *refused]))
    return {
        "ingress": found.ingress.metadata.key,
        "left_out": claims.left_out,
        "annotations": verdicts,
        "problems": said,
    }


def _is_told(field: str, told: set[str]) -> bool:
    """Whether the API server says something of this field, or of one that it is a part of: once is enough."""
    return any(field == one or field.startswith((f"{one}.", f"{one}[")) for one in told)


def read_texts(name: str) -> list[tuple[str, str]]:
    """Name and text of a file, of the YAML and JSON files under a directory, or of standard input."""
    if name == "-":
        return [(name, sys.stdin.read())]
    path = Path(name)
    files = [one for one in sorted(path.rglob("*")) if one.suffix in {".yaml", ".yml", ".json"} and one.is_file()]
    try:
        return [(str(one), one.read_text()) for one in (files if path.is_dir() else [path])]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--filename", name, f"name text files that can be read ({error})") from error


def _print(reports: list[dict[str, Any]]) -> None:
    count: Counter[str] = Counter()
    for one in reports:
        click.echo(f"Ingress {one['ingress']}{' (left out)' if one['left_out'] else ''}")
        for each in one["annotations"]:
            count[each["verdict"]] += 1
            click.echo(f"  {each['annotation']}: {each['verdict']}{'; ' + each['note'] if each['note'] else ''}")
        for problem in one["problems"]:
            click.echo(f"  problem: {problem}")
    click.echo(
        f"{len(reports)} Ingresses; annotations: " + (", ".join(f"{n} {v}" for v, n in sorted(count.items())) or "none")
    )
