"""The routing step on a real namespace: what is missing comes, what is no longer wanted goes."""

from pathlib import Path

import pytest
from tests.support.fabric import fabric

from vrata.host.apply import apply_action
from vrata.host.model import SetRoutes
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.net import ip

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
