"""`vrata ingress check`: what the annotations of Ingresses in manifests will do here."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from vrata.base.errors import InvalidInput
from vrata.ingress.annotations.parse import NGINX, OURS, parse_annotations
from vrata.ingress.annotations.table import TABLE, Support

EXAMPLES = "Examples: vrata ingress check -f manifests/     kubectl get ingress -A -o yaml | vrata ingress check -f -"


@click.command(epilog=EXAMPLES)
@click.option(
    "-f", "--filename", "names", required=True, multiple=True, help="Manifests or directories; - for standard input."
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(names: tuple[str, ...], output: str) -> None:
    """Say which annotations of Ingresses work here; end with 1 if any does not."""
    reports = [report(body) for name in names for text in read_texts(name) for body in read_ingresses(text)]
    if not reports:
        raise InvalidInput("--filename", ", ".join(names), "give at least one manifest of kind Ingress")
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(reports), indent=2).decode())
    else:
        _print(reports)
    if any(
        one["problems"] or any(each["verdict"] in {"not yet", "no"} for each in one["annotations"]) for one in reports
    ):
        sys.exit(1)


def report(body: dict[str, Any]) -> dict[str, Any]:
    """Verdicts and problems of one Ingress as it stands in a manifest."""
    metadata = body.get("metadata") or {}
    name = f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"
    annotations = {str(key): str(text) for key, text in (metadata.get("annotations") or {}).items()}
    options, problems = parse_annotations(name, annotations)
    verdicts = []
    for key in sorted(annotations):
        row = TABLE.get(key.removeprefix(NGINX).removeprefix(OURS)) if key.startswith((NGINX, OURS)) else None
        if row:
            done = row.done or row.support is Support.NO
            verdicts.append({"annotation": key, "verdict": str(row.support) if done else "not yet", "note": row.note})
    said = [problem.message for problem in problems]
    return {"ingress": name, "left_out": options.refused, "annotations": verdicts, "problems": said}


def read_texts(name: str) -> list[str]:
    """The texts of a file, of the YAML and JSON files under a directory, or of standard input."""
    if name == "-":
        return [sys.stdin.read()]
    path = Path(name)
    files = [one for one in sorted(path.rglob("*")) if one.suffix in {".yaml", ".yml", ".json"}]
    try:
        return [one.read_text() for one in (files if path.is_dir() else [path])]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--filename", name, f"name text files that can be read ({error})") from error


def read_ingresses(text: str) -> list[dict[str, Any]]:
    """The Ingresses among the documents of a text, in Lists, too."""
    try:
        documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    except yaml.YAMLError as error:
        raise InvalidInput("--filename", str(error), "give YAML or JSON manifests") from error
    flat = [item for one in documents for item in (one.get("items") or [] if "items" in one else [one])]
    return [one for one in flat if isinstance(one, dict) and one.get("kind") == "Ingress"]


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
