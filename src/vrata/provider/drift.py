"""Compares the whole project with all Services: what somebody changed in the cloud by hand is found, and put right.

Five lists tell everything but members. A pool's members are read when the pool was changed since they were read last,
and after a start once, slowly, in the background: nobody waits for it.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from vrata.base.errors import InvalidInput
from vrata.kube.objects import Service
from vrata.provider.adopt import address_hints
from vrata.provider.cloud import Cloud
from vrata.provider.model import Desired, Member
from vrata.provider.observe import observe_members, observe_project
from vrata.provider.plan import plan_ensure
from vrata.provider.rows import Rows, Stamp, parse_members, stamp, world
from vrata.provider.surroundings import Surroundings

READ_EACH_S = 0.02  # at most fifty pools a second
PAUSE_EACH = 50  # Services, between which others have their turn

log = structlog.get_logger(__name__)


class DriftCheck:
    """`desire` says what a Service wants; `differs` and `right` are called with what came of the comparison."""

    def __init__(
        self,
        cloud: Cloud,
        surroundings: Surroundings,
        desire: Callable[[Service], Desired],
        right: Callable[[Service, Desired, str], None],
        differs: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._surroundings = surroundings
        self._desire = desire
        self._right = right
        self._differs = differs
        self._members: dict[str, tuple[Stamp, frozenset[Member]]] = {}  # by pool

    def seen(self, rows: Rows) -> None:
        """Members that a pass has read."""
        for pools in rows.pools.values():
            for pool in pools:
                if pool["id"] in rows.members:
                    self._members[pool["id"]] = stamp(pool), rows.members[pool["id"]]

    async def check(self, services: Iterable[Service]) -> None:
        """Compare; then read members that may have changed, and compare these."""
        rows = await observe_project(self._cloud)
        external = await self._surroundings.external_network()
        unread: list[_Unread] = []
        present: set[str] = set()
        for number, service in enumerate(list(services)):
            if number % PAUSE_EACH == 0:
                await asyncio.sleep(0)
            present |= self._compare(service, rows, external, unread)
        self._members = {pool_id: known for pool_id, known in self._members.items() if pool_id in present}
        if unread:
            log.info("reading members", pools=len(unread))
        for one in unread:
            await asyncio.sleep(READ_EACH_S)
            found = parse_members(await observe_members(self._cloud, one.pool_id))
            self._members[one.pool_id] = one.stamp, found
            if found != one.wanted:
                self._differs(one.key)

    def _compare(self, service: Service, rows: Rows, external: str | None, unread: list["_Unread"]) -> set[str]:
        """Ids of the pools that belong to the Service."""
        key = service.metadata.key
        try:
            wanted = self._desire(service)
            mine = {*rows.named.get(wanted.name, ()), wanted.balancer_id}
            pools = {pool["id"]: stamp(pool) for id_ in mine for pool in rows.pools.get(id_, ())}
            for pool_id, now in pools.items():
                known = self._members.get(pool_id)
                if known and known[0] == now:
                    rows.members[pool_id] = known[1]
            seen = world(rows, wanted, address_hints(wanted, service))
            seen = replace(seen, floating_network_id=wanted.pick.network_id or external)
            plan = plan_ensure(wanted, seen) if seen.balancer else None
        except InvalidInput:
            return set()  # a pass of its own tells of it
        if plan is None or seen.balancer is None or not plan.settled:
            self._differs(key)
            return set(pools)
        self._right(service, wanted, seen.balancer.id)
        for listener in seen.balancer.listeners:
            pool = listener.pool
            if pool and pool.id not in rows.members:
                unread.append(_Unread(key, pool.id, pools[pool.id], pool.members))
        return set(pools)


@dataclass(frozen=True)
class _Unread:
    """A pool whose members may have changed, and what they should be."""

    key: str
    pool_id: str
    stamp: Stamp
    wanted: frozenset[Member]
