"""`vrata doctor`: what is wrong on this machine or in this cluster, and what to do."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from vrata.cli import types
from vrata.cli.doctor_checks import Check, Verdict

FILES = ("cloud.toml", "host.toml")
DIRECTORY = Path("/etc/vrata")
COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


@click.command(
    epilog="Examples: vrata doctor     vrata doctor --config /etc/vrata/host.toml     "
    "kubectl exec deployment/vrata-provider -- vrata doctor --part provider"
)
@click.option(
    "--config",
    "files",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="Configuration file of `vrata cloud` or `vrata host`; repeatable. Default: those in /etc/vrata.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check this cluster. Default: $KUBECONFIG, the pod's service account; else no cluster.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(["provider", "ingress"]),
    multiple=True,
    help="Whose rights in the cluster are checked; repeatable. Default: both.",
)
@click.option("--release", type=types.WORD, default="vrata", show_default=True, help="Name of the Helm release.")
@click.option("--namespace", type=types.WORD, default="", help="Of the release. Default: the kubeconfig's, the pod's.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    *,
    files: tuple[Path, ...],
    kubeconfig: Path | None,
    parts: tuple[str, ...],
    release: str,
    namespace: str,
    output: str,
) -> None:
    """Check this machine, its configuration and certificates, the cloud, and a cluster; change nothing.

    One line a check: ok, warning or wrong, and below it what to do. The exit status is 1 if something is wrong.
    """
    found = [*_machine(files), *_cluster(kubeconfig, parts, release, namespace)]
    if not found:
        raise click.UsageError("nothing to check: no file in /etc/vrata, and no cluster; give --config or --kubeconfig")
    if output == "json":
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            click.echo(f"{click.style(f'{one.verdict:7}', COLOURS[one.verdict])}  {one.name}: {one.found}")
            if one.remedy:
                click.echo(f"{'':9}{one.remedy}")
    sys.exit(any(one.verdict is Verdict.WRONG for one in found))


def _machine(files: tuple[Path, ...]) -> Iterator[Check]:
    from vrata.base import clock
    from vrata.cli import doctor_machine as machine
    from vrata.cli.main import cli

    assert isinstance(cli, click.Group)
    for path in files or [one for one in (DIRECTORY / name for name in FILES) if one.exists()]:
        check, values = machine.settings_of(path, cli)
        yield check
        if "cloud" in values:
            yield from machine.check_cloud(values["cloud"].get("serve", {}), clock.now())
        if "host" in values:
            yield from machine.check_host(values["host"], clock.now())


def _cluster(kubeconfig: Path | None, parts: tuple[str, ...], release: str, namespace: str) -> list[Check]:
    from vrata.kube.config import SERVICE_ACCOUNT_DIR

    if kubeconfig is None and not os.environ.get("KUBECONFIG") and not (SERVICE_ACCOUNT_DIR / "token").exists():
        return []
    from vrata.cli import doctor_cluster as cluster

    return asyncio.run(cluster.check_cluster(kubeconfig, parts or cluster.PARTS, release, namespace))
