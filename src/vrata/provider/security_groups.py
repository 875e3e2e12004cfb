"""Keeps each Service's security group as desired, where the configuration asks for it."""

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from vrata.kube.objects import Service
from vrata.provider.apply import apply_call
from vrata.provider.call import Call
from vrata.provider.cloud import Cloud
from vrata.provider.groups import (
    Group,
    Port,
    Rule,
    Used,
    group_name,
    plan_group,
    plan_no_group,
    wanted_addresses,
    wanted_rules,
)
from vrata.provider.lookups import Lookups
from vrata.provider.model import MEMBERS, Desired
from vrata.provider.observe import observe_group, observe_groups, observe_ports


@dataclass
class Guards:
    """The groups and ports of a project as one look found them; ports are looked up where members are."""

    groups: dict[str, Group]
    ports: dict[str, list[Port]] = field(default_factory=dict)  # by subnet


class SecurityGroups:
    """The groups of one project. Without `manages` it changes and reads nothing."""

    def __init__(self, cloud: Cloud, lookups: Lookups, *, manages: bool) -> None:
        self._cloud = cloud
        self._lookups = lookups
        self._manages = manages
        self._admitted: dict[
            str, tuple[frozenset[Rule], frozenset[str]]
        ] = {}  # by Service: rules, addresses of members
        self._node_sets: WeakValueDictionary[frozenset[str], frozenset[str]] = WeakValueDictionary()
        self._lock = asyncio.Lock()  # a port has the groups of many Services, and is written as a whole

    async def admit(self, service: Service, desired: Desired) -> None:
        """What new members need, before a load balancer asks them; nothing where all of them were let in before."""
        if not self._manages:
            return
        wanted = wanted_rules(desired, ""), wanted_addresses(desired)
        rules, addresses = self._admitted.get(service.metadata.key, (frozenset[Rule](), frozenset[str]()))
        if not (wanted[0] <= rules and wanted[1] <= addresses):
            await self.ensure(service, desired, None)

    async def ensure(self, service: Service, desired: Desired, used: Used) -> None:
        """The group with its rules, on every member's port; nothing while it is not known who they are.

        `used`: as in `plan_group`.
        """
        if not self._manages or desired.blocked & {MEMBERS, "allowed_cidrs"}:
            return
        name, key = group_name(service), service.metadata.key
        subnet_id, cidr = await self._lookups.member_subnet(desired)
        async with self._lock:
            for _ in range(2):  # a new group is filled at the second look
                group = await observe_group(self._cloud, name)
                ports = await observe_ports(self._cloud, subnet_id) if group else ()
                self._admitted.pop(key, None)
                await self._apply(plan_group(name, desired, cidr, group, ports, used))
                if group:
                    addresses = wanted_addresses(desired)
                    self._admitted[key] = wanted_rules(desired, ""), self._node_sets.setdefault(addresses, addresses)
                    return

    def forget(self, key: str) -> None:
        """Nothing is known of this Service's group."""
        self._admitted.pop(key, None)

    async def look(self) -> Guards | None:
        """All groups in one list, for a comparison of many Services; None if they are none of ours."""
        return Guards(await observe_groups(self._cloud)) if self._manages else None

    async def is_right(self, service: Service, desired: Desired, seen: Guards | None) -> bool:
        """Whether the Service's group was found as desired."""
        if seen is None or desired.blocked & {MEMBERS, "allowed_cidrs"}:
            return True
        name = group_name(service)
        subnet_id, cidr = await self._lookups.member_subnet(desired)
        if subnet_id not in seen.ports:
            seen.ports[subnet_id] = await observe_ports(self._cloud, subnet_id)
        return not plan_group(name, desired, cidr, seen.groups.get(name), seen.ports[subnet_id])

    async def remove(self, service: Service, desired: Desired) -> None:
        """No group, on no port."""
        self.forget(service.metadata.key)
        if self._manages and (group := await observe_group(self._cloud, group_name(service))):
            subnet_id, _ = await self._lookups.member_subnet(desired)
            async with self._lock:
                await self._apply(plan_no_group(group, await observe_ports(self._cloud, subnet_id)))

    async def _apply(self, calls: Iterable[Call]) -> None:
        """In their order, those of ports side by side; all have ended before an error is raised."""
        for beside, some in itertools.groupby(calls, key=lambda one: one.resource == "ports"):
            if beside:
                ended = await asyncio.gather(*(apply_call(self._cloud, call) for call in some), return_exceptions=True)
                for one in ended:
                    if isinstance(one, BaseException):
                        raise one
            else:
                for call in some:
                    await apply_call(self._cloud, call)
