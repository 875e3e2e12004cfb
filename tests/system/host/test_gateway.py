"""A gateway pair: the tenants' way out and the floating addresses of nodes, by real packets, over a failover."""

import os
import signal
from pathlib import Path

import msgspec
from tests.support.fabric import wait_until
from tests.support.traffic import http_server, prober
from tests.system.host.lab import HOSTS, INSTANCES, Lab, balancer, lab

from vrata.base.wire import DesiredInstance, FloatingNat, InstanceKind, Leg, SourceNat, VrrpState
from vrata.net import ip
from vrata.net.command import run

OUTSIDE, FLOATING, INSIDE, ROUTER = "203.0.113.5", "203.0.113.21", "10.10.0.21", "10.10.0.1"


def gateway(host: str, *, generation: int = 1, floating: tuple[FloatingNat, ...] = ()) -> DesiredInstance:
    """One half of the gateway pair."""
    base = balancer(host, generation=generation)
    tenant = msgspec.structs.replace(base.legs[0], virtual=(f"{ROUTER}/24",), gateway=None)
    external = Leg(
        name="external",
        physical_network="external",
        mac_address=tenant.mac_address.replace("02:", "06:", 1),
        virtual=(f"{OUTSIDE}/24", *(f"{nat.floating}/32" for nat in floating)),
        gateway="203.0.113.10",
    )
    return msgspec.structs.replace(
        base,
        kind=InstanceKind.GATEWAY,
        legs=(tenant, external),
        listeners=(),
        pools=(),
        floating=floating,
        snat=SourceNat(address=OUTSIDE, source_cidrs=("10.10.0.0/24",)),
    )


async def want(it: Lab, **options: object) -> None:
    for host in HOSTS:
        await it.cloud.want(host, gateway(host, **options))  # type: ignore[arg-type]


async def test_a_gateway_translates_both_ways_and_connections_survive_its_host(short_path: Path) -> None:
    async with lab("gw", short_path) as it, http_server(it.client, "203.0.113.10", 8080, "outside"):
        # The client shares the tenant network in this lab; from here on it is outside only.
        await it.fabric.cut(it.client, "tenant")
        await ip.batch(["link set tenant down"], netns=it.client.netns)
        await want(it)
        await it.settle()
        assert await it.answers(it.inside, "203.0.113.10", 8080) == f"outside {OUTSIDE}"
        await want(it, generation=2, floating=(FloatingNat(floating=FLOATING, fixed=INSIDE),))
        await it.settle(2)
        assert await it.answers(it.client, FLOATING, 8000) == "m1 203.0.113.10"
        assert await it.answers(it.inside, "203.0.113.10", 8080) == f"outside {FLOATING}"
        for host in HOSTS:  # translations that somebody took away are back
            await run("nft", "flush", "ruleset", netns=it.netns(host))
        assert await it.answers(it.client, FLOATING, 8000) == "m1 203.0.113.10"
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        assert it.pid(active, "conntrackd")
        assert it.pid(standby, "conntrackd")
        with prober(it.client, FLOATING, 8000, keep=True, timeout_s=3.0, interval_s=0.02) as kept:
            await wait_until(lambda: len(kept.good) > 20, it.logs)
            await it.fabric.cut(it.hosts[active])
            await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
            count = len(kept.good)
            await wait_until(lambda: len(kept.good) > count + 20, it.logs)
        print(f"\ngateway's host cut off: established connection stalled {kept.longest_gap_ms():.0f} ms")
        assert kept.failed == []
        await it.fabric.heal(it.hosts[active])


async def test_killed_conntrackd_returns(short_path: Path) -> None:
    async with lab("ctd", short_path) as it:
        await want(it)
        await it.settle()
        before = it.pid(HOSTS[0], "conntrackd")
        os.kill(before, signal.SIGKILL)
        await wait_until(lambda: it.pid(HOSTS[0], "conntrackd") not in (0, before), it.logs)
        assert it.cloud.seen(HOSTS[0], INSTANCES[HOSTS[0]])
