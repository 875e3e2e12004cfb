"""The database crashes and a replica is killed under writers: no deadlock, all settles, nothing that lives is rebuilt.

The same as `bench.outage`, which measures it with 200 writers, with fewer of them; and every transaction of an ordinary
life locks in order at its first try.
"""

import asyncio

import pytest
from bench import outage


async def test_no_fault_of_the_database_or_a_replica_deadlocks_or_rebuilds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CREATED": 24, "CREATORS": 12, "WRITERS": 24, "CALM_S": 2.0}.items():
        monkeypatch.setattr(outage, name, value)
    rows = {one.id: one.value for one in await asyncio.wait_for(outage.measure(), 240)}
    assert rows["deadlocks"] == 0
    assert rows["living_instances_rebuilt"] == 0
