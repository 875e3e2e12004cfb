"""Who changed packet rules: somebody else's changes of one table are told, whatever they leave in place; own ones never."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.support.fabric import Machine, fabric

from vrata.net import nft
from vrata.net.command import run
from vrata.net.rules_watch import RulesWatch

TABLE = "watched"
LAYOUT = "".join(
    f"add table {family} {name}\nadd map {family} {name} m {{ type inet_service : verdict; }}\n"
    f"add chain {family} {name} c\nadd element {family} {name} m {{ 1 : drop, 2 : accept }}\n"
    for family in ("ip", "ip6")
    for name in (TABLE, "other")
)
MANY = 30_000  # elements: their news are more than a socket holds


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    async with fabric("rules", "lan") as it:
        made = await it.add_machine("m", {"lan": ["10.10.0.5/24"]})
        await nft.apply(LAYOUT, netns=made.netns)
        yield made


@contextlib.asynccontextmanager
async def watching(machine: Machine) -> AsyncIterator[tuple[RulesWatch, list[str]]]:
    told: list[str] = []
    watch = RulesWatch(machine.netns, lambda: told.append("changed"), TABLE, nft.writers)
    try:
        yield watch, told
    finally:
        watch.close()


async def heard(told: list[str]) -> bool:
    """Whether anything was told; the kernel has queued its news when nft ends."""
    for _ in range(5):
        await asyncio.sleep(0)
    found = bool(told)
    told.clear()
    return found


async def test_changes_by_others_are_told_whatever_they_change(machine: Machine) -> None:
    async with watching(machine) as (_, told):
        for family in ("ip", "ip6"):
            for change in (
                f"flush map {family} {TABLE} m",
                f"add element {family} {TABLE} m {{ 1 : accept }}",
                f"delete element {family} {TABLE} m {{ 1 }}",
                f"add rule {family} {TABLE} c drop",
                f"flush chain {family} {TABLE} c",
                f"delete table {family} {TABLE}",
            ):
                await run("nft", change, netns=machine.netns)
                assert await heard(told), change
        await run("nft", "delete table ip other", netns=machine.netns)
        assert not await heard(told), "another program's table"


async def test_own_changes_are_not_told_also_more_than_the_socket_holds(machine: Machine) -> None:
    async with watching(machine) as (watch, told):
        await nft.apply(f"flush map ip {TABLE} m\n", netns=machine.netns)
        assert not await heard(told)
        with watch.writing():
            elements = ", ".join(f"{number} : drop" for number in range(1, MANY))
            await nft.apply(f"add element ip {TABLE} m {{ {elements} }}\n", netns=machine.netns)
        assert not await heard(told)
        with watch.writing():  # while own ones are under way, others' are told all the same
            await nft.apply(f"delete element ip {TABLE} m {{ 7 }}\n", netns=machine.netns)
            await run("nft", f"delete element ip {TABLE} m {{ 8 }}", netns=machine.netns)
        assert await heard(told)
        await run("nft", f"flush map ip {TABLE} m", netns=machine.netns)
        assert await heard(told), "what does not fit is somebody's change"
