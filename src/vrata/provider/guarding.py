"""Keeps a Service's security group as it shall be, where the configuration asks for it."""

from vrata.kube.objects import Service
from vrata.provider.apply import apply_call
from vrata.provider.cloud import Cloud
from vrata.provider.groups import group_name, plan_group, plan_no_group
from vrata.provider.model import Desired
from vrata.provider.observe import observe_group, observe_ports
from vrata.provider.surroundings import Surroundings


class Guarding:
    """Of one project. Without `manages` it does nothing, and asks nothing."""

    def __init__(self, cloud: Cloud, surroundings: Surroundings, *, manages: bool) -> None:
        self._cloud = cloud
        self._surroundings = surroundings
        self._manages = manages

    async def ensure(self, service: Service, desired: Desired) -> None:
        """The group with its rules, on every member's port."""
        if not self._manages:
            return
        name = group_name(service)
        subnet_id, cidr = await self._surroundings.member_subnet(desired)
        for _ in range(2):  # a new group is filled at the second look
            group = await observe_group(self._cloud, name)
            ports = await observe_ports(self._cloud, subnet_id)
            for call in plan_group(name, desired, cidr, group, ports):
                await apply_call(self._cloud, call)
            if group:
                return

    async def remove(self, service: Service, desired: Desired) -> None:
        """No group, on no port."""
        if self._manages and (group := await observe_group(self._cloud, group_name(service))):
            subnet_id, _ = await self._surroundings.member_subnet(desired)
            for call in plan_no_group(group, await observe_ports(self._cloud, subnet_id)):
                await apply_call(self._cloud, call)
