"""The routing step on a real namespace: what is missing comes, what is no longer wanted goes."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.support.fabric import fabric
from tests.system.host.lab import HOSTS, VIP, lab

from vrata.base.clock import monotonic_s
from vrata.host.apply import apply_action
from vrata.host.model import SetRoutes
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.net import ip
from vrata.net.command import CommandFailed, run

FIRST = (("203.0.113.10", 101), ("2001:db8::10", 101)), ("203.0.113.10/32", "2001:db8::10/128")
SECOND = (("203.0.113.11", 101), ("2001:db8::11", 101)), ("203.0.113.11/32", "2001:db8::11/128")


async def _rules(netns: str) -> set[tuple[str, str]]:
    return {
        (rule["src"], rule["table"])
        for family in ("-4", "-6")
        for rule in await ip.query(family, "rule", "show", netns=netns)
        if rule["src"] != "all"
    }


async def _local(netns: str) -> set[str]:
    """Addresses whose packets are taken in though no interface has them."""
    return {
        route["dst"]
        for family in ("-4", "-6")
        for route in await ip.query(family, "route", "show", "table", "local", "type", "local", netns=netns)
        if route.get("metric") == 4096
    }


@pytest.mark.parametrize("times", [1, 2])
async def test_rules_and_local_routes_of_both_families_follow_the_wish(tmp_path: Path, times: int) -> None:
    async with fabric("routes", "tenant") as it:
        machine = await it.add_machine("m", {"tenant": ["10.10.0.5/24"]})
        parts, store = InstanceParts(tmp_path, machine.netns), HostStore(tmp_path)
        before: tuple[str, ...] = ()
        for rules, local in (FIRST, SECOND):
            for _ in range(times):  # every step may be repeated
                await apply_action(SetRoutes("wished", (), rules, local, before), parts, store)
            assert await _rules(machine.netns) == {(source, str(table)) for source, table in rules}
            assert await _local(machine.netns) == {cidr.partition("/")[0] for cidr in local}
            before = local


HARM = (
    "ip rule flush", "ip route flush table 1001", "ip route del default", "ip link set external down",
    "ip route flush table local dev lo", "sysctl -qw net.ipv4.ip_nonlocal_bind=0 net.ipv4.conf.all.arp_ignore=0",
)  # fmt: skip


async def test_what_somebody_took_away_of_an_instance_is_back(short_path: Path) -> None:
    """Rules, routes and kernel parameters were written once."""
    async with lab("back", short_path) as it:
        await it.want_pair()
        await it.settle()
        for host in HOSTS:
            before = await _kernel(it.netns(host))
            for harm in HARM:
                with contextlib.suppress(CommandFailed):
                    await run(*harm.split(), netns=it.netns(host))
                if harm == "ip rule flush":
                    for table in ("main", "default"):  # the kernel's own, which nobody but the kernel makes
                        priority = "32766" if table == "main" else "32767"
                        await run("ip", "rule", "add", "priority", priority, "lookup", table, netns=it.netns(host))
            assert await _kernel(it.netns(host)) != before
            deadline = monotonic_s() + 60.0
            while (now := await _kernel(it.netns(host))) != before:
                assert monotonic_s() < deadline, (now, before, it.logs())
                await asyncio.sleep(0.2)
        assert await it.answers(it.client, VIP)
        steps = it.logs().count("not as they were set")
        for host in HOSTS:
            await it.kill_agent(host)
            await it.start_agent(host)
        await it.settle()
        assert it.logs().count("not as they were set") == steps  # what is right is left alone


async def _kernel(netns: str) -> list[str]:
    """What an instance must have of routes, rules and parameters."""
    found = [f"rule {source} {table}" for source, table in await _rules(netns)]
    for table in ("main", "1001"):
        with contextlib.suppress(CommandFailed):  # without routes a table is not there
            routes = await ip.query("route", "show", "table", table, netns=netns)
            found += [f"{table} {one['dst']} {one.get('gateway')} {one['dev']}" for one in routes]
    found += [f"local {address}" for address in await _local(netns)]
    for key in ("net.ipv4.ip_nonlocal_bind", "net.ipv4.conf.all.arp_ignore"):
        found.append(await run("sysctl", "-n", key, netns=netns))
    return sorted(found)
