"""A pair of balancer instances on two hosts, with real packets: it serves, fails over, changes and goes away."""

from pathlib import Path

from tests.support.fabric import wait_until
from tests.support.traffic import get, prober
from tests.system.host.lab import HOSTS, INSTANCES, PORT, VIP, lab

from vrata.base.clock import monotonic_s
from vrata.net import ip


async def test_a_pair_comes_up_answers_and_leaves_nothing(short_path: Path) -> None:
    async with lab("up", short_path) as it:
        with prober(it.client, VIP, PORT) as seen:
            began = monotonic_s()
            await it.want_pair()
            await wait_until(lambda: bool(seen.good), lambda: f"the address answers; {it.logs()}")
        print(f"\nfresh pair: desired set -> first answer {(seen.good[0] - began) * 1000:.0f} ms")
        await it.settle()
        assert await get(it.client, VIP, PORT) == f"m1 {dict(zip(HOSTS, ('10.10.0.11', '10.10.0.12')))[it.active()]}"
        await wait_until(
            lambda: all((r := it.cloud.seen(h, INSTANCES[h])) and r.members == {"m1": "ONLINE"} for h in HOSTS),
            "both hosts judge the member",
        )
        namespaces = [it.netns(host) for host in HOSTS]
        assert set(namespaces) <= ip.list_namespaces()
    assert not set(namespaces) & ip.list_namespaces()
