"""`vrata failover`: new instances for a load balancer, while it serves."""

import asyncio
import time
from pathlib import Path

import click

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli.clouds import POLL_S, admin, cloud_options

LBAAS = "/v2.0/lbaas"


@click.command(epilog="Examples: vrata failover shop     vrata failover 5f0c… --os-cloud production")
@click.argument("load_balancer")
@click.option("--no-wait", is_flag=True, help="Return at once instead of when both instances are new.")
@cloud_options
def command(load_balancer: str, name: str, os_cloud: str | None, clouds_file: Path | None, *, no_wait: bool) -> None:
    """Replace a load balancer's instances, the standby first; no request is lost.

    LOAD_BALANCER is a name or an id. The active instance goes when its connections have ended, or after 30 s.
    """

    async def work() -> None:
        began = time.monotonic()
        async with admin(name, os_cloud, clouds_file) as cloud:
            every = await cloud.find("load-balancer", f"{LBAAS}/loadbalancers", "loadbalancers")
            found = [one for one in every if load_balancer in (one["id"], one["name"])]
            if len(found) != 1:
                names = ", ".join(sorted(one["name"] for one in every)[:20])
                remedy = "use the id" if found else f"use one of {names}" if every else "there is no load balancer yet"
                raise InvalidInput("LOAD_BALANCER", load_balancer, remedy)
            path = f"{LBAAS}/loadbalancers/{found[0]['id']}"
            await cloud.request("PUT", "load-balancer", f"{path}/failover")
            click.echo(f"{found[0]['name']}: failover begun")
            state = "PENDING_UPDATE"
            while state == "PENDING_UPDATE" and not no_wait:
                await asyncio.sleep(POLL_S)
                state = (await cloud.get("load-balancer", path))["loadbalancer"]["provisioning_status"]
        if no_wait:
            return
        if state != "ACTIVE":
            raise VrataError(f"{found[0]['name']} is {state}", remedy="see `vrata status` and the logs of the hosts")
        click.echo(f"{found[0]['name']}: ACTIVE with new instances after {time.monotonic() - began:.1f} s")

    asyncio.run(work())
