"""What a port is used by, read from the rows of its users and never from `device_owner` or `device_id`.

Tenants write those two columns. A port that something uses keeps its addresses, its MAC address and its device, and it
cannot be deleted: its user manages it. Also which devices a tenant may name.
"""

import sqlalchemy as sa

from vrata.cloud.balancing import tables as b
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import tables as t
from vrata.cloud.schema import metadata
from vrata.cloud.store import Row, Tx

# Ports whose device is the only record of what they belong to. Nobody but the cloud itself can give a port these
# owners (`ports_api`), and a port that has one keeps it.
ROUTER_INTERFACE = "network:router_interface"
ROUTER_INSTANCE = "network:router_ha_interface"
_OWNED_BY_DEVICE = frozenset({ROUTER_INTERFACE, ROUTER_INSTANCE})
_USERS = (
    (b.load_balancers.c.vip_port_id, "is the VIP of load balancer {}"),
    (b.instances.c.vrrp_port_id, "is used by load balancer instance {}"),
    (t.routers.c.gateway_port_id, "is the gateway of router {}"),
    (t.floating_ips.c.floating_port_id, "holds the address of floating IP {}"),
)


def use_of(tx: Tx, port: Row) -> str | None:
    """What the port is used by, as the second half of a sentence; None if nothing uses it."""
    if port["device_owner"] in _OWNED_BY_DEVICE:
        return f"has device owner {port['device_owner']}"
    for column, sentence in _USERS:
        user = tx.value(sa.select(column.table.c.id).where(column == port["id"]))
        if user is not None:
            return sentence.format(user)
    return None


def used_ports() -> sa.ColumnElement[bool]:
    """The condition that a port is used by a router, a floating IP or a load balancer."""
    users = (t.ports.c.id.in_(sa.select(column).where(column.is_not(None))) for column, _ in _USERS)
    return sa.or_(t.ports.c.device_owner.in_(_OWNED_BY_DEVICE), *users)


def guard(tx: Tx, port: Row) -> None:
    """409 for a port that is used by a router, a floating IP or a load balancer."""
    reason = use_of(tx, port)
    if reason is not None:
        raise ApiError(
            409, f"Port {port['id']} cannot be deleted directly via the port API: {reason}.", "ServicePortInUse"
        )


def keep_device(call: Call, port: Row, values: Row) -> None:
    """409 if a change takes a used port from its user; the two columns of a port in use stay what they are."""
    changed = [name for name in ("device_id", "device_owner") if (values.get(name, port[name]) or "") != port[name]]
    if not changed:
        return
    reason = use_of(call.tx, port)
    if reason is not None:
        raise ApiError(
            409, f"Unable to complete operation on port {port['id']} for network {port['network_id']}: "
            f"{changed[0]} cannot change, because the port {reason}.", "PortInUse",
        )  # fmt: skip


def check_device(call: Call, device_id: str | None, project_id: str) -> None:
    """409 for a device that belongs to another project: its owner would get the port's addresses."""
    if not device_id or call.caller.admin:
        return
    tx, balancer_id = call.tx, device_id.removeprefix("lb-")
    owners: list[sa.Select[tuple[str]]] = [
        sa.select(metadata.tables["servers"].c.project_id).where(metadata.tables["servers"].c.id == device_id),
        sa.select(t.routers.c.project_id).where(t.routers.c.id == device_id),
        sa.select(b.load_balancers.c.project_id).where(b.load_balancers.c.id == balancer_id),
    ]
    owner = next((found for query in owners if (found := tx.value(query)) is not None), None)
    instance = tx.get(b.instances, device_id)
    if instance is not None or owner not in {None, project_id}:
        raise ApiError(
            409, f"The following device_id {device_id} is not owned by your tenant or matches another tenants router.",
            "DeviceIDNotOwnedByTenant",
        )  # fmt: skip
