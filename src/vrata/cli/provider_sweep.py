"""`vrata provider sweep`: what a deleted cluster left behind."""

import asyncio
from typing import Any

import click

from vrata.base.errors import VrataError
from vrata.cli.provider_options import given, with_cloud_options


@click.command(epilog="Example: vrata provider sweep --cluster-name old --os-cloud mycloud     (then with --yes)")
@click.option("--yes", is_flag=True, help="Remove what is listed. Without it nothing is changed.")
@with_cloud_options
def command(*, yes: bool, **options: Any) -> None:
    """List load balancers, floating IPs and security groups of the cluster named with --cluster-name.

    For a cluster that is gone: those of a living one are in use.
    """
    said = given(**options)

    async def work() -> None:
        from vrata.provider.apply import apply_call
        from vrata.provider.cloud import Cloud, CloudError
        from vrata.provider.observe import observe_groups, observe_ports, observe_project
        from vrata.provider.sweep import plan_sweep

        async with Cloud(login=said.login) as cloud:
            rows = await observe_project(cloud)
            groups, ports = await observe_groups(cloud), await observe_ports(cloud)
            found, failed = plan_sweep(said.settings.cluster, rows, groups.values(), ports), 0
            for one in found:
                click.echo(f"{one.what} {one.name} ({one.detail}){'' if one.calls else ': kept'}")
                if yes:
                    try:
                        for call in one.calls:
                            await apply_call(cloud, call)
                    except CloudError as error:
                        failed += 1
                        click.echo(f"  not removed: {error}", err=True)
        if not found:
            click.echo(f"nothing of cluster {said.settings.cluster} is in this project")
        elif not yes:
            click.echo("Nothing was changed; --yes removes what is listed.")
        if failed:
            raise VrataError(f"{failed} of {len(found)} are left", remedy="try again when the cloud has finished")

    asyncio.run(work())
