"""The two hosts can not hear each other, and clients reach both: afterwards exactly one answers, and nobody else."""

import subprocess
from pathlib import Path

from tests.support.fabric import wait_until
from tests.support.traffic import prober
from tests.system.failover.test_handover import goes_on, want
from tests.system.host.lab import HOSTS, PORT, VIP, Lab, lab
from tests.system.host.test_failover import holders

from vrata.base.wire import VrrpState
from vrata.net.command import inside


def partition(it: Lab, *, on: bool) -> None:
    """Drop what goes from one host's port of the tenant network to the other's, and nothing else."""
    one, other = (it.hosts[host].ports["tenant"] for host in HOSTS)
    rules = f"iifname {one} oifname {other} drop\n    iifname {other} oifname {one} drop" if on else ""
    table = f"""table bridge apart
delete table bridge apart
table bridge apart {{
  chain forward {{
    type filter hook forward priority 0;
    {rules}
  }}
}}
"""
    subprocess.run(inside(it.fabric.netns, "nft", "-f", "-"), input=table, text=True, check=True)


async def test_after_a_partition_one_holder_is_left_and_clients_were_served_all_along(short_path: Path) -> None:
    async with lab("split", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        with prober(it.client, VIP, PORT, timeout_s=5.0) as anew:
            await goes_on(it, anew)
            partition(it, on=True)
            await wait_until(lambda: all(it.state(host) is VrrpState.MASTER for host in HOSTS), it.logs)
            assert sorted(await holders(it)) == sorted(HOSTS)
            await goes_on(it, anew)
            partition(it, on=False)
            await wait_until(it.one_active, it.logs)
            await goes_on(it, anew)
            assert await holders(it) == [it.active()]
            assert it.active() == HOSTS[0]  # the higher priority
        # A connection that began on one side may meet the other: reset, never silence.
        assert all("reset" in reason for _, reason in anew.failed), anew.failed
