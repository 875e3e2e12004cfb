"""What tests of any cloud need: a connection by clouds.yaml, and the networks, made by the cloud's administrator."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openstack


def connect(entry: str, clouds_file: Path) -> Any:
    """An openstacksdk connection."""
    region = openstack.config.OpenStackConfig(config_files=[str(clouds_file)]).get_one(entry)
    return openstack.connection.Connection(config=region)


def make_networks(admin: Any) -> SimpleNamespace:
    """An external and a shared tenant network with a router between them."""
    external = admin.network.create_network(
        name="external", is_router_external=True, provider_physical_network="external", provider_network_type="flat"
    )
    external_subnet = admin.network.create_subnet(
        network_id=external.id, ip_version=4, cidr="203.0.113.0/24", gateway_ip="203.0.113.1", name="external",
        allocation_pools=[{"start": "203.0.113.20", "end": "203.0.113.99"}],
    )  # fmt: skip
    tenant = admin.network.create_network(
        name="tenant", is_shared=True, provider_physical_network="tenant", provider_network_type="flat"
    )
    subnet = admin.network.create_subnet(
        network_id=tenant.id, ip_version=4, cidr="10.10.0.0/24", gateway_ip="10.10.0.1", name="tenant",
        allocation_pools=[{"start": "10.10.0.100", "end": "10.10.0.250"}],
    )  # fmt: skip
    router = admin.network.create_router(name="router", external_gateway_info={"network_id": external.id})
    admin.network.add_interface_to_router(router, subnet_id=subnet.id)
    return SimpleNamespace(
        external=external, external_subnet=external_subnet, tenant=tenant, subnet=subnet, router=router
    )
