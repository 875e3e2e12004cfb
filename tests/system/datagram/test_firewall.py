"""What a security group does not let in does not come in, and the pair still works behind it."""

from pathlib import Path

import msgspec
from tests.support.traffic import get
from tests.system.host.lab import HOSTS, PORT, VIP, Lab, balancer, lab

from vrata.base.wire import Firewall, FirewallRule


async def want(it: Lab, generation: int, firewall: Firewall | None) -> None:
    for host in HOSTS:
        base = balancer(host, generation=generation)
        legs = (msgspec.structs.replace(base.legs[0], firewall=firewall),)
        await it.cloud.want(host, msgspec.structs.replace(base, legs=legs))
    await it.settle(generation)


def web(remote: str) -> Firewall:
    """TCP to the listener's port, from one network."""
    rule = FirewallRule(ethertype="IPv4", protocol="tcp", port_range_min=PORT, port_range_max=PORT, remotes=(remote,))
    return Firewall(rules=(rule,))


async def test_only_what_the_groups_allow_enters_and_the_pair_still_elects_one(short_path: Path) -> None:
    async with lab("fw", short_path) as it:
        await want(it, 1, web("10.10.0.0/24"))
        assert (await it.answers(it.client, VIP, timeout_s=30.0)).startswith("m1")
        await want(it, 2, web("192.0.2.0/24"))
        assert await get(it.client, VIP, PORT) is None
        assert it.one_active()
        await want(it, 3, Firewall())
        assert await get(it.client, VIP, PORT) is None
        await want(it, 4, None)
        assert (await it.answers(it.client, VIP, timeout_s=30.0)).startswith("m1")
