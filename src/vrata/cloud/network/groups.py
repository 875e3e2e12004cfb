"""Security groups and their rules (Neutron v2.0): stored and shown; every project has a `default` one."""

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call, now
from vrata.cloud.network import firewall
from vrata.cloud.network import tables as t
from vrata.cloud.network.ports import invalid, missing
from vrata.cloud.network.resource import NAMED, Resource, base_view, find, store_update, touch
from vrata.cloud.store import Row

PROTOCOLS = frozenset(
    {"tcp", "udp", "icmp", "icmpv6", "ipv6-icmp", "sctp", "ah", "esp", "gre", "vrrp", "igmp", "any",
     "dccp", "udplite", "egp", "ipip", "ipv6-encap", "ipv6-frag", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm",
     "rsvp"}
)  # fmt: skip


def default_group(call: Call, project_id: str) -> Row:
    """The project's default group, made at first use."""
    found = call.tx.one(
        sa.select(t.security_groups).where(t.security_groups.c.project_id == project_id, t.security_groups.c.is_default)
    )
    if found is not None:
        return found
    row = {
        "id": ids.new_uuid(), "project_id": project_id, "name": "default", "description": "Default security group",
        "created_at": now(), "updated_at": now(), "tags": [], "is_default": True,
    }  # fmt: skip
    call.tx.insert(t.security_groups, row)
    _start_rules(call, row, inside=True)
    return row


def visible_group(call: Call, group_id: str, project_id: str) -> None:
    """404 unless the project (or an admin) sees the group."""
    key = "group", group_id
    if key not in call.tx.memo:
        call.tx.memo[key] = call.tx.get(t.security_groups, group_id)
    row = call.tx.memo[key]
    if row is None or (row["project_id"] != project_id and not call.caller.admin):
        raise missing("SecurityGroup", group_id)


def _start_rules(call: Call, group: Row, *, inside: bool) -> None:
    for version in ("IPv4", "IPv6"):
        _insert_rule(call, group, {"direction": "egress", "ethertype": version})
        if inside:
            _insert_rule(call, group, {"direction": "ingress", "ethertype": version, "remote_group_id": group["id"]})


def _insert_rule(call: Call, group: Row, values: Row) -> None:
    row = {
        "id": ids.new_uuid(), "project_id": group["project_id"], "security_group_id": group["id"], "name": "",
        "description": "", "tags": [], "created_at": now(), "updated_at": now(), "protocol": None,
        "port_range_min": None, "port_range_max": None, "remote_ip_prefix": None, "remote_group_id": None, **values,
    }  # fmt: skip
    call.tx.insert(t.security_group_rules, row)


def _view_groups(call: Call, rows: list[Row]) -> list[Row]:
    ids_ = [row["id"] for row in rows]
    rules = call.tx.all(sa.select(t.security_group_rules).where(t.security_group_rules.c.security_group_id.in_(ids_)))
    shown = _view_rules(call, rules)
    out = []
    for row in rows:
        view = base_view(row)
        view["security_group_rules"] = [rule for rule in shown if rule["security_group_id"] == row["id"]]
        out.append(view)
    return out


def _view_rules(_call: Call, rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in base_view(row).items() if name != "name"} for row in rows]


def _create_group(call: Call, row: Row) -> Row:
    if row["name"] == "default":
        raise ApiError(409, "Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
    call.tx.insert(t.security_groups, row)
    _start_rules(call, row, inside=False)
    return row


def _update_group(call: Call, row: Row, values: Row) -> None:
    if row["is_default"] and values.get("name", "default") != "default":
        raise ApiError(409, "Updating default security group not allowed.", "SecurityGroupCannotUpdateDefault")
    if values.get("name") == "default" and not row["is_default"]:
        raise ApiError(409, "Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
    store_update(call, GROUPS, row, values)


def _delete_group(call: Call, row: Row) -> None:
    if firewall.ports_of(call.tx, [row["id"]]) or firewall.balancers_of(call.tx, [row["id"]]):
        raise ApiError(409, f"Security Group {row['id']} in use.", "SecurityGroupInUse")
    if row["is_default"] and not call.caller.admin:
        raise ApiError(
            409, "Insufficient rights for removing default security group.", "SecurityGroupCannotRemoveDefault"
        )
    call.tx.delete(t.security_groups, row["id"])


_ICMP = frozenset({"icmp", "icmpv6", "ipv6-icmp", "1", "58"})
_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "33", "132", "136"})


def _check_ports(protocol: str | None, low: int | None, high: int | None) -> None:
    """For ICMP they are type and code; other protocols without ports have neither."""
    if protocol is None or (low is None and high is None):
        return
    if protocol in _ICMP:
        for name, value in (("port_range_min", low), ("port_range_max", high)):
            if value is not None and value > 255:
                raise ApiError(
                    400, f"Invalid value for ICMP {name} {value}. Allowed values are 0 to 255.",
                    "SecurityGroupInvalidIcmpValue",
                )  # fmt: skip
        if low is None:
            raise ApiError(
                400, f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
                "SecurityGroupMissingIcmpType",
            )  # fmt: skip
    elif protocol not in _WITH_PORTS:
        raise ApiError(
            400, f"Port range cannot be specified for protocol {protocol}. Port range is only supported for TCP, UDP, "
            "UDPLITE, SCTP and DCCP.", "SecurityGroupInvalidProtocolForPort",
        )  # fmt: skip


def _create_rule(call: Call, row: Row) -> Row:
    group = find(call, GROUPS, row["security_group_id"], change=True)
    protocol = row.get("protocol")
    if protocol is not None:
        row["protocol"] = protocol = protocol.lower()
        if protocol not in PROTOCOLS and not (protocol.isascii() and protocol.isdigit() and int(protocol) < 256):
            raise ApiError(
                400, f"Security group rule protocol {protocol} not supported. Only protocol values "
                f"{sorted(PROTOCOLS)} and integer representations [0 to 255] are supported.",
                "SecurityGroupRuleInvalidProtocol",
            )  # fmt: skip
    low, high = row.get("port_range_min"), row.get("port_range_max")
    _check_ports(protocol, low, high)
    if protocol in {"icmpv6", "ipv6-icmp", "58"} and row["ethertype"] == "IPv4":
        raise ApiError(
            400, f"Invalid ethertype {row['ethertype']} for protocol {protocol}.",
            "SecurityGroupEthertypeConflictWithProtocol",
        )  # fmt: skip
    if row.get("remote_group_id"):
        visible_group(call, row["remote_group_id"], group["project_id"])
    if low is not None and high is not None and low > high and protocol not in _ICMP:
        raise ApiError(
            400, "For TCP/UDP protocols, port_range_min must be <= port_range_max", "SecurityGroupInvalidPortRange"
        )
    if (low is not None or high is not None) and protocol is None:
        raise ApiError(
            400, "Must also specify protocol if port range is given.", "SecurityGroupProtocolRequiredWithPorts"
        )
    prefix, remote = row.get("remote_ip_prefix"), row.get("remote_group_id")
    if prefix and remote:
        raise ApiError(
            400,
            "Only remote_ip_prefix or remote_group_id may be provided.",
            "SecurityGroupRemoteGroupAndRemoteIpPrefix",
        )
    if prefix and (":" in prefix) != (row["ethertype"] == "IPv6"):
        raise invalid(f"Conflicting value ethertype {row['ethertype']} for CIDR {prefix}")
    same = [
        t.security_group_rules.c[name] == row.get(name)
        for name in ("security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
                     "remote_ip_prefix", "remote_group_id")
    ]  # fmt: skip
    twin = call.tx.value(sa.select(t.security_group_rules.c.id).where(*same))
    if twin:
        raise ApiError(409, f"Security group rule already exists. Rule id is {twin}.", "SecurityGroupRuleExists")
    row["project_id"] = group["project_id"]
    touch(call, t.security_groups, group["id"])
    call.tx.insert(t.security_group_rules, row)
    firewall.groups_changed(call.tx, [group["id"]])
    return row


def _delete_rule(call: Call, row: Row) -> None:
    touch(call, t.security_groups, row["security_group_id"])
    call.tx.delete(t.security_group_rules, row["id"])
    firewall.groups_changed(call.tx, [row["security_group_id"]])


GROUPS = Resource(
    "security_group", "security_groups", "SecurityGroup", t.security_groups,
    {**NAMED, "stateful": Field("bool", default=True)},
    _view_groups, create=_create_group, update=_update_group, delete=_delete_group,
    shown=frozenset({"security_group_rules"}),
)  # fmt: skip
RULES = Resource(
    "security_group_rule", "security_group_rules", "SecurityGroupRule", t.security_group_rules,
    {
        "project_id": NAMED["project_id"], "tenant_id": NAMED["tenant_id"], "description": NAMED["description"],
        "security_group_id": Field("uuid", required=True, update=False),
        "direction": Field(required=True, choices=("ingress", "egress"), update=False),
        "ethertype": Field(default="IPv4", choices=("IPv4", "IPv6"), update=False),
        "protocol": Field(update=False),
        "port_range_min": Field("int", least=0, most=65535, update=False),
        "port_range_max": Field("int", least=0, most=65535, update=False),
        "remote_ip_prefix": Field("cidr", update=False),
        "remote_group_id": Field("uuid", update=False),
    },
    _view_rules, create=lambda call, row: _create_rule(call, {"name": "", **row}),
    delete=_delete_rule, tagged=False, hidden=frozenset({"name"}),
)  # fmt: skip
