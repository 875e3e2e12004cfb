"""Ports as Neutron v2.0 shows and guards them: addresses asked for, address pairs, port security, who may touch which.

What they are in the database, and who has which address, is `ports.py`'s.
"""

import json
import re
from typing import Any

import sqlalchemy as sa

from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import choice, firewall, floating, groups, plan, ports, uses
from vrata.cloud.network import tables as t
from vrata.cloud.network.networks import NETWORKS
from vrata.cloud.network.ports import invalid
from vrata.cloud.network.resource import NAMED, TAGS_MAX, Resource, base_view, named, store_update
from vrata.cloud.network.subnets import SUBNETS
from vrata.cloud.store import Row

PAIRS_MAX = 10  # Neutron's max_allowed_address_pair
FIXED_MAX = 5  # Neutron's max_fixed_ips_per_port
_MAC = re.compile(r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z")
PROFILE_MAX = 4095  # characters, as in Neutron
_PORT_COLUMNS = {
    "binding:host_id": "binding_host_id", "binding:vnic_type": "binding_vnic_type", "binding:profile": "binding_profile",
}  # fmt: skip
_FOR_OPERATORS = frozenset({"binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details"})
VNIC_TYPES = (
    "normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "remote-managed",
    "vdpa", "accelerator-direct", "accelerator-direct-physical",
)  # fmt: skip


def _view(call: Call, rows: list[Row]) -> list[Row]:
    fixed = ports.fixed_ips(call.tx, [row["id"] for row in rows])
    out = []
    for row in rows:
        view = base_view(row)
        for wire, column in _PORT_COLUMNS.items():
            view[wire] = view.pop(column)
        view |= {
            "fixed_ips": fixed.get(row["id"], []), "binding:profile": row["binding_profile"] or {},
            "binding:vif_type": "other" if row["binding_host_id"] else "unbound", "binding:vif_details": {},
            "qos_policy_id": None, "dns_assignment": [], "propagate_uplink_status": True,
            "security_groups": row["security_groups"] or [],
            "allowed_address_pairs": [
                {"mac_address": row["mac_address"], **pair} for pair in row["allowed_address_pairs"] or ()
            ],
        }  # fmt: skip
        if not call.caller.admin:
            view = {name: value for name, value in view.items() if name not in _FOR_OPERATORS}
        out.append(view)
    return out


def _check_lists(call: Call, values: Row, project_id: str) -> None:
    for wanted in values.get("fixed_ips") or ():
        if not isinstance(wanted, dict) or not wanted.keys() <= {"subnet_id", "ip_address"} or not wanted:
            raise invalid(f"'{wanted}' is not a valid fixed_ip: it has subnet_id, ip_address or both")
        if "ip_address" in wanted and plan.address(wanted["ip_address"]) is None:
            raise invalid(f"'{wanted['ip_address']}' is not a valid IP address")
        if "subnet_id" in wanted:
            named(call, SUBNETS, str(wanted["subnet_id"]))
    for group in values.get("security_groups") or ():
        groups.visible_group(call, group, project_id)
    if values.get("mac_address") is not None:
        values["mac_address"] = _mac(values["mac_address"])
    if len(json.dumps(values.get("binding_profile"))) > PROFILE_MAX:
        raise invalid(f"binding:profile value too large: it has more than {PROFILE_MAX} characters.")


def _mac(text: object) -> str:
    """An address of one interface: neither a group's (IEEE 802, 8.2) nor nobody's."""
    if not isinstance(text, str) or not _MAC.match(text) or int(text[1], 16) % 2 or not text.strip("0:"):
        raise invalid(f"Invalid input for mac_address. Reason: '{text}' is not a valid MAC address.")
    return text.lower()


def _check_network_owner(call: Call, network: Row, values: Row, verb: str) -> None:
    """403 for what gets others' traffic on a network of another project (Neutron's policy, `port.py`)."""
    if call.caller.admin or network["project_id"] == call.caller.project_id:
        return
    harmless: Row = {"mac_address": None, "port_security_enabled": True, "allowed_address_pairs": []}
    for name, value in harmless.items():
        if values.get(name) not in (None, value):
            raise ApiError(403, f"(rule:{verb}_port:{name}) is disallowed by policy", "PolicyNotAuthorized")


def _check_pairs(values: Row, mac: str | None) -> None:
    pairs = values.get("allowed_address_pairs")
    if pairs is None:
        return
    if len(pairs) > PAIRS_MAX:
        raise ApiError(
            400, f"The number of allowed address pair exceeds the maximum {PAIRS_MAX}.", "AllowedAddressPairExhausted"
        )
    made: list[Row] = []
    for pair in pairs:
        if not isinstance(pair, dict) or "ip_address" not in pair:
            raise ApiError(400, "AllowedAddressPair must contain ip_address", "AllowedAddressPairsMissingIP")
        if strange := pair.keys() - {"ip_address", "mac_address"}:
            raise invalid(f"Unrecognized attribute(s) '{min(strange)}' in allowed_address_pairs")
        if plan.network(pair["ip_address"]) is None:
            raise invalid(f"'{pair['ip_address']}' is not a valid IP address or CIDR in allowed_address_pairs")
        one = {"ip_address": pair["ip_address"]}
        if pair.get("mac_address") is not None:
            one["mac_address"] = _mac(pair["mac_address"])
        if {"mac_address": mac, **one} in [{"mac_address": mac, **other} for other in made]:
            raise ApiError(
                400, f"Request contains duplicate address pair: mac_address {one.get('mac_address', mac)} ip_address "
                f"{one['ip_address']}.", "DuplicateAddressPairInRequest",
            )  # fmt: skip
        made.append(one)
    values["allowed_address_pairs"] = made


def _check_security(port: Row) -> None:
    """What needs port security is not there without it."""
    if port.get("port_security_enabled", True):
        return
    if port.get("allowed_address_pairs"):
        raise ApiError(
            409, "Port Security must be enabled in order to have allowed address pairs on a port.",
            "AddressPairAndPortSecurityRequired",
        )  # fmt: skip
    if port.get("security_groups"):
        raise ApiError(
            409, "Port has security group associated. Cannot disable port security or IP address until security group "
            "is removed.", "PortSecurityPortHasSecurityGroup",
        )  # fmt: skip


def _create_port(call: Call, row: Row) -> Row:
    network = named(call, NETWORKS, row["network_id"])
    if network["project_id"] != call.caller.project_id and not call.caller.admin and not network["shared"]:
        raise ApiError(403, "(rule:create_port) is disallowed by policy", "PolicyNotAuthorized")
    _check_owner(call, row)
    _check_network_owner(call, network, row, "create")
    uses.check_device(call, row.get("device_id"), row["project_id"])
    _check_lists(call, row, row["project_id"])
    _check_pairs(row, row.get("mac_address"))
    fixed = row.pop("fixed_ips", None)
    for one in fixed or ():
        choice.check(call, network, one.get("ip_address"), field="create_port:fixed_ips:ip_address", gateway=True)
    if "port_security_enabled" not in row:
        row["port_security_enabled"] = network["port_security_enabled"]
    if row.get("security_groups") is None:
        secure = row["port_security_enabled"]
        row["security_groups"] = [groups.default_group(call, row["project_id"])["id"]] if secure else []
    _check_security(row)
    firewall.members_changed(call.tx, row["security_groups"])  # first: owners are locked before subnets
    given = {name: value for name, value in row.items() if value is not None}
    return ports.create(call.tx, network, given, fixed, everywhere=fixed != [])


def _check_owner(call: Call, values: Row) -> None:
    if str(values.get("device_owner") or "").startswith("network:") and not call.caller.admin:
        raise ApiError(403, "(rule:create_port:device_owner) is disallowed by policy", "PolicyNotAuthorized")


def _update_port(call: Call, row: Row, values: Row) -> None:
    if values.get("device_owner") != row["device_owner"]:
        _check_owner(call, values)
    uses.keep_device(call, row, values)
    if values.get("device_id", row["device_id"]) != row["device_id"]:
        uses.check_device(call, values["device_id"], row["project_id"])
    _check_lists(call, values, row["project_id"])
    _check_pairs(values, row["mac_address"])
    _check_security({**row, **values})
    network = call.tx.get(t.networks, row["network_id"])
    assert network is not None
    changed = {name: value for name, value in values.items() if value != row.get(name)}
    _check_network_owner(call, network, changed, "update")
    if values.get("mac_address", row["mac_address"]) != row["mac_address"]:
        if not call.caller.admin:
            raise ApiError(403, "(rule:update_port:mac_address) is disallowed by policy", "PolicyNotAuthorized")
        uses.guard(call.tx, row)
        ports.free_mac(call.tx, row["network_id"], values["mac_address"], row["id"])
    fixed = values.pop("fixed_ips", None)
    if fixed is not None:
        _move(call, {**row, **values}, fixed)
    if "device_id" in values and not row["device_owner"].startswith("network:"):
        values["status"] = "ACTIVE" if values["device_id"] else "DOWN"
    for name in ("device_id", "device_owner", "dns_name", "name", "description"):
        if name in values and values[name] is None:
            values[name] = ""
    store_update(call, PORTS, row, values)
    before, after = set(row["security_groups"] or ()), set(values.get("security_groups", row["security_groups"]) or ())
    moved = fixed is not None or "allowed_address_pairs" in values
    firewall.members_changed(call.tx, before | after if moved else before ^ after)
    if before != after or "port_security_enabled" in values:
        firewall.port_changed(call.tx, row["id"])


def _move(call: Call, port: Row, fixed: list[Any]) -> None:
    """Other addresses for the port: what it asks for by subnet alone and has already, it keeps."""
    network = call.tx.get(t.networks, port["network_id"])
    assert network is not None
    uses.guard(call.tx, port)
    spare = ports.fixed_ips(call.tx, [port["id"]]).get(port["id"], [])
    wanted = []
    for one in fixed:
        kept = next((have for have in spare if all(have[name] == value for name, value in one.items())), None)
        if kept is not None:
            spare.remove(kept)
        if kept is None:
            choice.check(call, network, one.get("ip_address"), field="update_port:fixed_ips:ip_address", gateway=True)
        wanted.append(kept or one)
    floating.let_go(call, port["id"], keep={one.get("ip_address") for one in wanted})
    ports.clear(call.tx, t.addresses.c.port_id == port["id"])
    ports.place_addresses(call.tx, network, port, wanted, everywhere=bool(wanted))


def _delete_port(call: Call, row: Row) -> None:
    uses.guard(call.tx, row)
    floating.let_go(call, row["id"])
    ports.delete(call.tx, row["id"])
    firewall.members_changed(call.tx, row["security_groups"] or ())


PORTS = Resource(
    "port", "ports", "Port", t.ports,
    {
        **NAMED,
        "network_id": Field("uuid", required=True, update=False),
        "admin_state_up": Field("bool", default=True),
        "mac_address": Field(),
        "tags": Field("strings", update=False, items=TAGS_MAX),
        "fixed_ips": Field("list", items=FIXED_MAX),
        "device_id": Field(default=""),
        "device_owner": Field(default=""),
        "security_groups": Field("strings"),
        "allowed_address_pairs": Field("list"),
        "extra_dhcp_opts": Field("records"),
        "port_security_enabled": Field("bool", nullable=False),
        "dns_name": Field(default=""),
        "binding:host_id": Field(),
        "binding:vnic_type": Field(default="normal", choices=VNIC_TYPES),
        "binding:profile": Field("dict"),
    },
    _view, _PORT_COLUMNS, frozenset({"binding:host_id", "binding:profile"}), _create_port, _update_port, _delete_port,
    lambda table: table.c.network_id.in_(sa.select(t.networks.c.id).where(sa.false())),
    shown=frozenset({"binding:vif_type", "binding:vif_details", "qos_policy_id", "dns_assignment",
                     "propagate_uplink_status"}),
)  # fmt: skip
