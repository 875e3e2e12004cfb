"""Hosts and a network that are not there: what is desired counts as carried out at once (Octavia's no-op drivers).

For conformance tests of the API alone. Nothing is served: instances have no VRRP state, so everything stays OFFLINE.
"""

import asyncio

import sqlalchemy as sa

from vrata.base import wire
from vrata.cloud.balancing import intake
from vrata.cloud.balancing import tables as t
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store, Tx

HOSTS = ("noop-a", "noop-b")
LOOK_S = 0.05


async def run(store: Store, settings: Settings) -> None:
    """Report for both hosts until cancelled."""
    while True:
        for host in HOSTS:
            if await store.read(lambda tx, name=host: _behind(tx, name)):  # type: ignore[misc]
                report = await store.read(lambda tx, name=host: _report(tx, name))  # type: ignore[misc]
                await intake.take_in(store, host, report, settings)
        await asyncio.sleep(LOOK_S)


def _behind(tx: Tx, host: str) -> bool:
    """Whether the host is unknown, or an instance of it has something to do."""
    if tx.get(t.hosts, host) is None:
        return True
    lagging = (
        sa.select(t.instances.c.id)
        .join(t.load_balancers, t.load_balancers.c.id == t.instances.c.owner_id)
        .where(
            t.instances.c.host == host,
            t.instances.c.leaving | (t.instances.c.observed_generation < t.load_balancers.c.generation),
        )
    )
    return tx.value(lagging) is not None


def _report(tx: Tx, host: str) -> wire.HostReport:
    rows = tx.connection.execute(
        sa.select(t.instances.c.id, t.load_balancers.c.generation)
        .join(t.load_balancers, t.load_balancers.c.id == t.instances.c.owner_id)
        .where(t.instances.c.host == host, ~t.instances.c.leaving)
    ).all()
    instances = tuple(
        wire.InstanceReport(id=row.id, observed_generation=row.generation, state=wire.VrrpState.UNKNOWN) for row in rows
    )
    return wire.HostReport(physical_networks=(), instances=instances)
