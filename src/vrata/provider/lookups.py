"""Networks and subnets that Services refer to and that seldom change: read every few minutes, for all Services."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from vrata.base import clock
from vrata.base.errors import InvalidInput, VrataError
from vrata.kube.objects import Node
from vrata.kube.sources import encode_sources
from vrata.provider.annotations import PORT_ID
from vrata.provider.cloud import Cloud
from vrata.provider.floating import asks_for_subnets
from vrata.provider.members import ADDRESS_TYPES, node_address, serving_nodes
from vrata.provider.model import Desired, Subnet, World
from vrata.provider.observe import (
    is_unknown,
    observe_cidr,
    observe_external_network,
    observe_node_subnet,
    observe_port_device,
    observe_subnets,
)
from vrata.provider.references import new_references, reference_path

KEPT_S = 300.0


class Lookups:
    """The lookups of one project and cluster. What was not found is looked up again."""

    def __init__(self, cloud: Cloud, nodes: Callable[[], Iterable[Node]], *, asks_key_manager: bool = True) -> None:
        self._cloud = cloud
        self._asks_key_manager = asks_key_manager
        self._nodes = nodes
        self._lock = asyncio.Lock()
        self._external: str | None = None
        self._node_subnets: dict[int, str] = {}
        self._cidrs: dict[str, str] = {}
        self._references: dict[str, tuple[float, bool]] = {}  # when it was asked for, and whether it is unknown
        self._subnets: dict[str, tuple[float, tuple[Subnet, ...]]] = {}

    async def complete(self, world: World, desired: Desired) -> World:
        """What was read about the Service, and what else a plan looks at; InvalidInput for a TLS reference to nothing."""
        for reference in new_references(desired, world.balancer) if self._asks_key_manager else ():
            if await self._is_unknown(reference, desired.tls_field):
                raise InvalidInput(desired.tls_field, reference, "name a container or secret that the key manager has")
        if world.balancer is None and desired.vip.port_id:
            await self._check_port(desired.vip.port_id)
        network_id = await self.floating_network(desired)
        return replace(
            world,
            floating_network_id=network_id,
            floating_subnets=await self.floating_subnets(desired, network_id),
            subnets=() if world.balancer else await self.vip_subnets(desired),
        )

    async def _check_port(self, port_id: str) -> None:
        """A port with a device is a machine's, a router's or a load balancer's: its address must not become a VIP."""
        device = await observe_port_device(self._cloud, port_id)
        if device is None:
            raise InvalidInput(f"annotation {PORT_ID}", port_id, "name a port of this project")
        if device:
            remedy = f"name a port that nothing uses: this one belongs to {device}"
            raise InvalidInput(f"annotation {PORT_ID}", port_id, remedy)

    async def _is_unknown(self, reference: str, field: str) -> bool:
        now_s = clock.monotonic_s()
        self._references = {one: seen for one, seen in self._references.items() if now_s < seen[0] + KEPT_S}
        if reference not in self._references:
            self._references[reference] = now_s, await is_unknown(self._cloud, reference_path(reference, field))
        return self._references[reference][1]

    async def floating_network(self, desired: Desired) -> str | None:
        """Where the Service's floating IP comes from; None if there is no such network."""
        if desired.pick.network_id or not desired.floats:
            return desired.pick.network_id or None
        return await self.external_network()

    async def external_network(self) -> str | None:
        """The project's first external network with an IPv4 subnet."""
        async with self._lock:
            if self._external is None:
                self._external = await observe_external_network(self._cloud)
            return self._external

    async def floating_subnets(self, desired: Desired, network_id: str | None) -> tuple[Subnet, ...] | None:
        """The subnets of that network, if the Service is choosy; else None."""
        if network_id is None or not desired.floats or not asks_for_subnets(desired.pick):
            return None
        read_s, found = self._subnets.get(network_id, (float("-inf"), ()))
        if clock.monotonic_s() - read_s > KEPT_S:
            found = await observe_subnets(self._cloud, network_id)
            self._subnets[network_id] = clock.monotonic_s(), found
        return found

    async def vip_subnets(self, desired: Desired) -> tuple[tuple[int, str], ...]:
        """IP version -> where VIPs go of which the Service does not say it: the subnet that the nodes are on."""
        vip = desired.vip
        said = bool(vip.subnet_id or vip.network_id or vip.port_id)
        return tuple([(version, await self._node_subnet(version)) for version in vip.families[said:]])

    async def member_subnet(self, desired: Desired) -> tuple[str, str]:
        """The subnet that members are reached on: its id and CIDR."""
        said = next((one.subnet_id for port in desired.listeners for one in port.pool.members if one.subnet_id), None)
        subnet_id = said or desired.vip.subnet_id or await self._node_subnet(desired.vip.families[0])
        return subnet_id, await self._cidr(subnet_id)

    async def sources(self, desired: Desired, vip_subnet_id: str) -> str:
        """From where the load balancer reaches members, for the annotation; empty if members do not need to know."""
        if not desired.proxy_protocol:
            return ""
        subnets = {vip_subnet_id, *(one.subnet_id for port in desired.listeners for one in port.pool.members)}
        cidrs = [await self._cidr(one) for one in sorted(filter(None, subnets))]
        known = (one for node in self._nodes() for one in node.status.addresses if one.type in ADDRESS_TYPES)
        return encode_sources(cidrs, {one.address for one in known})

    async def _cidr(self, subnet_id: str) -> str:
        if subnet_id not in self._cidrs:
            self._cidrs[subnet_id] = await observe_cidr(self._cloud, subnet_id)
        return self._cidrs[subnet_id]

    async def _node_subnet(self, version: int) -> str:
        async with self._lock:
            if version not in self._node_subnets:
                nodes = [node for node in serving_nodes(self._nodes()) if node_address(node, version)]
                if not nodes:
                    remedy = "wait for one to register, or say where with the annotation loadbalancer.openstack.org/subnet-id"
                    raise VrataError(f"no node with an IPv{version} address says where the VIP goes", remedy=remedy)
                self._node_subnets[version] = await observe_node_subnet(self._cloud, nodes[0], version)
            return self._node_subnets[version]
