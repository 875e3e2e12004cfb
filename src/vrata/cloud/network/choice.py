"""Which addresses a caller may choose on a network, instead of taking the next free one (Neutron's default policy).

Its owner and administrators choose any address of a subnet; others choose from its allocation pools, because what is
outside belongs to machines that the network's owner runs. Nobody chooses an address of the cloud itself, and a subnet's
gateway is only for a port that its owner means to attach to a router.
"""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import plan
from vrata.cloud.network import tables as t
from vrata.cloud.store import Row


def check(call: Call, network: Row, wanted: Any, *, field: str, gateway: bool = False) -> None:
    """409 or 403 if the caller may not have this address; `gateway`: an owner may have the gateway's, too."""
    address = plan.address(wanted)
    if address is None:
        return  # what checks the field's form refuses it
    owner = call.caller.admin or network["project_id"] == call.caller.project_id
    subnets = call.tx.all(sa.select(t.subnets).where(t.subnets.c.network_id == network["id"]))
    if str(address) in call.tx.reserved:
        raise _taken(network, wanted, "it is the cloud's own")
    if not (gateway and owner) and any(plan.address(one["gateway_ip"]) == address for one in subnets):
        raise _taken(network, wanted, "it is the subnet's gateway")
    if not owner and not any(plan.in_pools(address, one["allocation_pools"]) for one in subnets):
        raise ApiError(
            403, f"(rule:{field}) is disallowed by policy: {wanted} is outside the allocation pools of network "
            f"{network['id']}, which belongs to another project. Choose an address of a pool, or none.",
            "PolicyNotAuthorized",
        )  # fmt: skip


def _taken(network: Row, address: Any, why: str) -> ApiError:
    return ApiError(
        409, f"Unable to complete operation for network {network['id']}. The IP address {address} is in use: {why}.",
        "IpAddressInUse",
    )  # fmt: skip
