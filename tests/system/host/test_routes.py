"""The routing step on a real namespace: what is missing comes, what is no longer wanted goes."""

from pathlib import Path

import pytest
from tests.support.fabric import fabric

from vrata.host.apply import apply_action
from vrata.host.model import SetRoutes
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.net import ip
from vrata.net.links import list_links
from vrata.net.netns import in_namespace

FIRST = (("203.0.113.10", 101), ("2001:db8::10", 101)), ("203.0.113.10/32", "2001:db8::10/128")
SECOND = (("203.0.113.11", 101), ("2001:db8::11", 101)), ("203.0.113.11/32", "2001:db8::11/128")


async def _rules(netns: str) -> set[tuple[str, str]]:
    return {
        (rule["src"], rule["table"])
        for family in ("-4", "-6")
        for rule in await ip.query(family, "rule", "show", netns=netns)
        if rule["src"] != "all"
    }


@pytest.mark.parametrize("times", [1, 2])
async def test_rules_and_loopback_of_both_families_follow_the_wish(tmp_path: Path, times: int) -> None:
    async with fabric("routes", "tenant") as it:
        machine = await it.add_machine("m", {"tenant": ["10.10.0.5/24"]})
        parts, store = InstanceParts(tmp_path, machine.netns), HostStore(tmp_path)
        for rules, local in (FIRST, SECOND):
            for _ in range(times):  # every step may be repeated
                await apply_action(SetRoutes("wished", (), rules, local), parts, store)
            assert await _rules(machine.netns) == {(source, str(table)) for source, table in rules}
            [loopback] = (one for one in in_namespace(machine.netns, list_links) if one.name == "lo")
            assert {one.cidr for one in loopback.addresses} == {"127.0.0.1/8", "::1/128", *local}
