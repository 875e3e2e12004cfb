"""Networks as Neutron v2.0 shows and guards them."""

from collections import defaultdict

import sqlalchemy as sa

from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import ports
from vrata.cloud.network import tables as t
from vrata.cloud.network.resource import NAMED, Resource, base_view, store_update
from vrata.cloud.store import Row

SEGMENTED = frozenset({"vlan", "vxlan", "geneve", "gre"})
_NETWORK_COLUMNS = {
    "router:external": "router_external",
    "provider:network_type": "provider_network_type",
    "provider:physical_network": "provider_physical_network",
    "provider:segmentation_id": "provider_segmentation_id",
}


def _view_networks(call: Call, rows: list[Row]) -> list[Row]:
    subnets: dict[str, list[str]] = defaultdict(list)
    wanted = sa.select(t.subnets.c.network_id, t.subnets.c.id).order_by(t.subnets.c.created_at)
    for network_id, subnet_id in call.tx.connection.execute(wanted):
        subnets[network_id].append(subnet_id)
    out = []
    for row in rows:
        view = base_view(row)
        for wire, column in _NETWORK_COLUMNS.items():
            value = view.pop(column)
            if call.caller.admin or wire == "router:external":
                view[wire] = value
        view |= {
            "subnets": subnets[row["id"]], "availability_zones": ["nova"], "availability_zone_hints": [],
            "ipv4_address_scope": None, "ipv6_address_scope": None, "l2_adjacency": True, "qos_policy_id": None,
        }  # fmt: skip
        out.append(view)
    return out


def _check_type(values: Row) -> None:
    """501 for what no host separates: a leg is plugged into its physical network's bridge as it is, without a tag."""
    kind = values.get("provider_network_type")
    tag = values.get("provider_segmentation_id")
    if kind in SEGMENTED or tag is not None:
        field, value = ("provider:network_type", kind) if kind in SEGMENTED else ("provider:segmentation_id", tag)
        raise ApiError(
            501, f"{field} '{value}' is not implemented: its traffic would not be kept apart from the rest of the "
            "physical network's. Give each VLAN a bridge and a physical network of its own, and use network_type flat.",
            "NotImplemented",
        )  # fmt: skip


def _create_network(call: Call, row: Row) -> Row:
    _check_type(row)
    call.tx.insert(t.networks, {"status": "ACTIVE", **row})
    return row


def _update_network(call: Call, row: Row, values: Row) -> None:
    values.pop("availability_zone_hints", None)
    _check_type(values)
    if row["shared"] and values.get("shared") is False:
        others = sa.select(t.ports.c.id).where(
            t.ports.c.network_id == row["id"], t.ports.c.project_id.not_in([row["project_id"], ""])
        )
        if call.tx.value(others):
            raise ApiError(
                409, f"Unable to reconfigure sharing settings for network {row['name']}. Multiple tenants are using it.",
                "InvalidSharedSetting",
            )  # fmt: skip
    if row["router_external"] and values.get("router_external") is False:
        gateways = sa.select(t.ports.c.id).where(
            t.ports.c.network_id == row["id"], t.ports.c.device_owner.in_([ports.ROUTER_GATEWAY, ports.FLOATING])
        )
        if call.tx.value(gateways):
            raise ApiError(
                409, f"External network {row['id']} cannot be updated to be made non-external, since it has existing "
                "gateway ports.", "ExternalNetworkInUse",
            )  # fmt: skip
    store_update(call, NETWORKS, row, values)


def _delete_network(call: Call, row: Row) -> None:
    used = call.tx.value(sa.select(t.ports.c.id).where(t.ports.c.network_id == row["id"]))
    if used:
        raise ApiError(
            409, f"Unable to complete operation on network {row['id']}. There are one or more ports still in use on "
            f"the network, id for these ports is: {used}.", "NetworkInUse",
        )  # fmt: skip
    call.tx.execute(sa.delete(t.subnets).where(t.subnets.c.network_id == row["id"]))
    call.tx.delete(t.networks, row["id"])


def shared_network(table: sa.Table) -> sa.ColumnElement[bool]:
    """What everybody sees: networks that are shared, and external ones."""
    return sa.or_(table.c.shared, table.c.router_external)


NETWORKS = Resource(
    "network", "networks", "Network", t.networks,
    {
        **NAMED,
        "admin_state_up": Field("bool", default=True),
        "shared": Field("bool", default=False),
        "is_default": Field("bool", default=False),
        "port_security_enabled": Field("bool", default=True),
        "mtu": Field("int", default=1500, least=68, most=65535),
        "dns_domain": Field(default=""),
        "router:external": Field("bool", default=False),
        "provider:network_type": Field(choices=("flat", "vlan", "vxlan", "geneve", "gre", "local")),
        "provider:physical_network": Field(),
        "provider:segmentation_id": Field("int", least=0),
        "availability_zone_hints": Field("strings"),
    },
    _view_networks, _NETWORK_COLUMNS,
    frozenset({"shared", "router:external", "provider:network_type", "provider:physical_network",
               "provider:segmentation_id"}),
    lambda call, row: _create_network(call, {k: v for k, v in row.items() if k != "availability_zone_hints"}),
    _update_network, _delete_network, shared_network,
    shown=frozenset({"subnets", "availability_zones", "ipv4_address_scope", "ipv6_address_scope", "l2_adjacency",
                     "qos_policy_id"}),
)  # fmt: skip
