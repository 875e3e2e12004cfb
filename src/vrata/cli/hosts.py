"""`vrata hosts`: the hosts that carry balancers, and taking one out of use without anybody noticing."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from vrata.cli.clouds import POLL_S, admin, cloud_options

PATH = "/v2.0/vrata/hosts"


@click.group(invoke_without_command=True, epilog="Examples: vrata hosts     vrata hosts drain host-a")
@cloud_options
@click.pass_context
def command(context: click.Context, name: str, os_cloud: str | None, clouds_file: Path | None) -> None:
    """List the hosts that serve load balancers; drain one, use it again, forget it, have it adopt this cloud's database."""
    if context.invoked_subcommand is None:
        show(name, os_cloud, clouds_file)


def show(name: str, os_cloud: str | None, clouds_file: Path | None) -> None:
    """Print the table."""

    async def ask() -> list[dict[str, Any]]:
        async with admin(name, os_cloud, clouds_file) as cloud:
            found = await cloud.get("load-balancer", PATH)
        return list(found["hosts"])

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("host", "state", "instances", "active", "last heard", "networks"):
        table.add_column(column, no_wrap=True)
    hosts = asyncio.run(ask())
    for host in hosts:
        counts = (str(host["instances"]), str(host["active"]), f"{host['silent_s']} s ago")
        table.add_row(host["id"], state_of(host), *counts, ", ".join(host["physical_networks"]))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    for host in hosts:
        if host["refusal"]:
            click.echo(f"{host['id']} keeps everything as it is: {host['refusal']}")
    if any(host["rebuilding_stopped"] for host in hosts):
        click.echo("More than half of the hosts are silent: nothing is rebuilt until some return or are forgotten.")


def state_of(host: dict[str, Any]) -> str:
    """One word for a host."""
    if not host["alive"]:
        return "dead"
    if host["refusal"]:
        return "refusing"
    if host["drained"]:
        return "draining" if host["moving"] else "drained"
    return "in use"


@command.command(epilog="Example: vrata hosts drain host-a")
@click.argument("host")
@click.option("--no-wait", is_flag=True, help="Return at once instead of when nothing is left to move.")
@cloud_options
def drain(host: str, name: str, os_cloud: str | None, clouds_file: Path | None, *, no_wait: bool) -> None:
    """Move a host's instances to others, and put nothing new on it; no request is lost."""

    async def work() -> None:
        async with admin(name, os_cloud, clouds_file) as cloud:
            body = {"host": {"drained": True}}
            found = (await cloud.request("PUT", "load-balancer", f"{PATH}/{host}", body=body))["host"]
            told = -1
            while found["moving"] and not no_wait:
                if found["moving"] != told:
                    told = found["moving"]
                    click.echo(f"{host}: {told} instances still to move, or to end their last connections")
                await asyncio.sleep(POLL_S)
                found = (await cloud.get("load-balancer", f"{PATH}/{host}"))["host"]
            if found["instances"] and not no_wait:
                click.echo(f"{host}: {found['instances']} instances stay as standby: there is no other host for them")
            else:
                click.echo(f"{host}: {state_of(found)}")

    asyncio.run(work())


@command.command(epilog="Example: vrata hosts undrain host-a")
@click.argument("host")
@cloud_options
def undrain(host: str, name: str, os_cloud: str | None, clouds_file: Path | None) -> None:
    """Use a drained host again."""

    async def work() -> None:
        async with admin(name, os_cloud, clouds_file) as cloud:
            await cloud.request("PUT", "load-balancer", f"{PATH}/{host}", body={"host": {"drained": False}})
        click.echo(f"{host}: in use")

    asyncio.run(work())


@command.command(epilog="Example: vrata hosts forget host-c")
@click.argument("host")
@cloud_options
def forget(host: str, name: str, os_cloud: str | None, clouds_file: Path | None) -> None:
    """Forget a dead host that will not return."""

    async def work() -> None:
        async with admin(name, os_cloud, clouds_file) as cloud:
            await cloud.request("DELETE", "load-balancer", f"{PATH}/{host}")
        click.echo(f"{host}: forgotten")

    asyncio.run(work())


@command.command(epilog="Example: vrata hosts adopt host-a")
@click.argument("host")
@cloud_options
def adopt(host: str, name: str, os_cloud: str | None, clouds_file: Path | None) -> None:
    """Make a host accept the desired set that it refuses; what this cloud does not know is removed there."""

    async def work() -> None:
        async with admin(name, os_cloud, clouds_file) as cloud:
            refused = (await cloud.get("load-balancer", f"{PATH}/{host}"))["host"]["refusal"]
            await cloud.request("PUT", "load-balancer", f"{PATH}/{host}", body={"host": {"adopt": True}})
        click.echo(f"{host}: adopts the cloud's database (it said: {refused})")

    asyncio.run(work())
