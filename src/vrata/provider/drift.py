"""Compares the whole project with all Services: what somebody changed in the cloud by hand is found, and put right.

Five lists tell everything but members. A pool's members are read when the pool was changed since they were read last,
and after a start once, slowly, in the background: nobody waits for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace

import aiohttp
import structlog

from vrata.base.errors import InvalidInput, VrataError
from vrata.kube.objects import Service
from vrata.provider.adopt import address_hints
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.lookups import Lookups
from vrata.provider.model import Desired, Observed
from vrata.provider.observe import observe_members, observe_project
from vrata.provider.plan import plan_ensure
from vrata.provider.rows import Rows, parse_members, stamp, world
from vrata.provider.security_groups import Guards, SecurityGroups
from vrata.provider.settled import members_print

READ_EACH_S = 0.02  # at most fifty pools a second
RETRY_S = 5.0
PAUSE_EACH = 50  # Services, between which others have their turn

log = structlog.get_logger(__name__)


class DriftCheck:
    """`desire` says what a Service wants; `differs` and `right` are called with what came of the comparison.

    `following`: Services whose members are being written, pool by pool, now; `is_due`: whether members of one are known to
    need a write. Both are left out.
    """

    def __init__(
        self,
        cloud: Cloud,
        lookups: Lookups,
        security_groups: SecurityGroups,
        desire: Callable[[Service], Desired],
        right: Callable[[Service, Desired, Observed], None],
        differs: Callable[[str], None],
        following: Set[str],
        is_due: Callable[[str, Desired], bool],
    ) -> None:
        self._cloud = cloud
        self._lookups = lookups
        self._security_groups = security_groups
        self._desire = desire
        self._right = right
        self._differs = differs
        self._following = following
        self._is_due = is_due
        self._members: dict[str, tuple[int, int]] = {}  # by pool: when its members were read, and which they were
        self._unread: dict[str, _Unread] = {}  # by pool
        self._some = asyncio.Event()

    def seen(self, rows: Rows) -> None:
        """Members that a pass has read."""
        for pools in rows.pools.values():
            for pool in pools:
                if pool["id"] in rows.members:
                    self._members[pool["id"]] = stamp(pool), members_print(rows.members[pool["id"]])

    async def check(self, services: Iterable[Service]) -> None:
        """Compare; members that may have changed are compared later."""
        before = frozenset(self._following)  # what was read of them was half-way
        rows = await observe_project(self._cloud)
        external, guards = await self._lookups.external_network(), await self._security_groups.look()
        present: set[str] = set()
        for number, service in enumerate(list(services)):
            if number % PAUSE_EACH == 0:
                await asyncio.sleep(0)
            present |= await self._compare(service, rows, external, guards, before)
        self._members = {pool_id: known for pool_id, known in self._members.items() if pool_id in present}
        if self._unread:
            log.info("reading members", pools=len(self._unread))
            self._some.set()

    async def run(self) -> None:
        """Read the members of pools that may have changed, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(READ_EACH_S)
            if not self._unread:
                self._some.clear()
                continue
            pool_id, one = next(iter(self._unread.items()))
            try:
                found = members_print(parse_members(await observe_members(self._cloud, pool_id)))
            except (CloudError, aiohttp.ClientError, OSError) as error:
                log.warning("members not read", pool=pool_id, error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self._unread.pop(pool_id, None)
            self._members[pool_id] = one.stamp, found
            if found != one.wanted and one.key not in self._following:
                self._differs(one.key)

    async def _compare(
        self, service: Service, rows: Rows, external: str | None, guards: Guards | None, before: Set[str]
    ) -> set[str]:
        """Ids of the pools that belong to the Service."""
        key = service.metadata.key
        try:
            wanted = self._desire(service)
            mine = {*rows.named.get(wanted.name, ()), wanted.balancer_id}
            pools = {pool["id"]: stamp(pool) for id_ in mine for pool in rows.pools.get(id_, ())}
            seen = world(rows, wanted, address_hints(wanted, service))
            seen = replace(seen, floating_network_id=wanted.pick.network_id or external)
            plan = plan_ensure(wanted, seen) if seen.balancer else None
        except InvalidInput:
            return set()  # a pass of its own tells of it
        if key in before or key in self._following or self._is_due(key, wanted):
            return set(pools)
        right = plan is not None and plan.settled and await self._is_guarded(service, wanted, guards)
        if seen.balancer is None or not right:
            self._differs(key)
            return set(pools)
        self._right(service, wanted, seen.balancer)
        for listener in seen.balancer.listeners:
            pool = listener.pool
            if pool is None:
                continue
            read, members = self._members.get(pool.id, (None, 0))
            expected = members_print(pool.members)
            if read != pools[pool.id]:
                self._unread[pool.id] = _Unread(key, pools[pool.id], expected)
            elif members != expected:
                self._differs(key)
        return set(pools)

    async def _is_guarded(self, service: Service, wanted: Desired, guards: Guards | None) -> bool:
        try:
            return await self._security_groups.is_right(service, wanted, guards)
        except VrataError:
            return False  # a pass of its own tells of it


@dataclass(frozen=True)
class _Unread:
    """A pool whose members may have changed, and what they should be."""

    key: str
    stamp: int
    wanted: int
