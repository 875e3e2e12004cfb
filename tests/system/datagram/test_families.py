"""Virtual addresses of both families on one leg move together, and IPv6 clients are served before and after."""

from pathlib import Path

import msgspec
from tests.support.fabric import wait_until
from tests.system.host.lab import HOSTS, VIP, balancer, lab

from vrata.base.wire import VrrpState
from vrata.net import ip

VIP6 = "fd00::100"


async def test_an_additional_ipv6_address_moves_with_the_first_one(short_path: Path) -> None:
    async with lab("six", short_path) as it:
        await ip.batch(["address add fd00::50/64 dev tenant nodad"], netns=it.client.netns)
        for number, host in enumerate(HOSTS):
            base = balancer(host)
            leg = base.legs[0]
            fixed = (*leg.fixed, f"fd00::{11 + number}/64")
            leg = msgspec.structs.replace(leg, fixed=fixed, virtual=(*leg.virtual, f"{VIP6}/64"))
            await it.cloud.want(host, msgspec.structs.replace(base, legs=(leg,)))
        await it.settle()
        for address in (VIP, VIP6):
            assert (await it.answers(it.client, address, timeout_s=30.0)).startswith("m1")
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        await it.fabric.cut(it.hosts[active])
        await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
        for address in (VIP, VIP6):
            assert (await it.answers(it.client, address, timeout_s=30.0)).startswith("m1")
        await it.fabric.heal(it.hosts[active])
