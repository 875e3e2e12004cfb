"""What the kernel says of interfaces, beside what `ip` says of the same ones."""

from collections.abc import AsyncIterator

import pytest
from tests.support.fabric import Machine, fabric

from vrata.net import ip
from vrata.net.links import find_link, list_links, list_source_rules
from vrata.net.netns import in_namespace

PORTS = 60  # more than one message holds


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    """One with two addresses of each family on its leg, and addresses of this host only on its loopback."""
    async with fabric("links", "tenant") as it:
        made = await it.add_machine("m", {"tenant": ["10.10.0.5/24", "2001:db8::5/64"]})
        more = ["10.10.9.1/32 dev tenant", "2001:db8::6/128 dev tenant nodad", "10.10.0.9/32 dev lo scope host"]
        await ip.batch([f"address add {one}" for one in more], netns=made.netns)
        yield made


async def test_links_and_addresses_are_those_that_ip_shows(machine: Machine) -> None:
    shown = await ip.query("address", "show", netns=machine.netns)
    found = in_namespace(machine.netns, list_links)
    assert {
        (one["ifname"], one["ifindex"], one["address"], one["mtu"]): {
            (f"{info['local']}/{info['prefixlen']}", info["scope"] == "global") for info in one["addr_info"]
        }
        for one in shown
    } == {
        (one.name, one.index, one.mac_address, one.mtu): {(a.cidr, a.is_global) for a in one.addresses} for one in found
    }
    assert {"10.10.9.1/32", "2001:db8::6/128"} <= {a.cidr for one in found for a in one.addresses if a.is_global}


async def test_a_link_names_its_bridge() -> None:
    async with fabric("ports", "tenant") as it:
        await ip.batch((f"link add port{n} type bridge" for n in range(PORTS)), netns=it.netns)
        machine = await it.add_machine("m", {"tenant": ["10.10.0.5/24"]})
        port = machine.ports["tenant"]
        shown = {one["ifname"]: one["ifindex"] for one in await ip.query("link", "show", netns=it.netns)}
        assert {one.name: one.index for one in in_namespace(it.netns, list_links)} == shown
        link = in_namespace(it.netns, lambda: find_link(port))
        assert link is not None
        assert link.master in shown.values()
        await it.cut(machine)
        link = in_namespace(it.netns, lambda: find_link(port))
        assert link is not None
        assert link.master is None


@pytest.mark.parametrize("name", ["vr-no-such", "much-too-long-for-a-link", ""])
async def test_a_link_that_is_not_there_is_none(machine: Machine, name: str) -> None:
    assert in_namespace(machine.netns, lambda: find_link(name)) is None


async def test_rules_of_one_source_are_found_by_their_priority(machine: Machine) -> None:
    rules = ["from 10.10.0.5 lookup 101 priority 900", "from 10.10.0.6 lookup 1001 priority 900"]
    others = ["from 10.10.0.7 lookup 101 priority 901", "to 10.10.0.8 lookup 101 priority 900"]
    await ip.batch((f"rule add {one}" for one in (*rules, *others)), netns=machine.netns)
    await ip.query("-6", "rule", "add", "from", "2001:db8::5", "lookup", "102", "priority", "900", netns=machine.netns)
    found = in_namespace(machine.netns, lambda: list_source_rules(900))
    assert found == {("10.10.0.5", 101), ("10.10.0.6", 1001), ("2001:db8::5", 102)}
