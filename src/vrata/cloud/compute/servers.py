"""Servers: machines that an administrator has registered, with the addresses of their ports (Nova v2.1, «Servers»).

A server has the ports of its own project that name it as their device. One that is registered with ports which name a
device already takes that id: the ports of a machine may be there before it. A port of another project that has named the
same id, before the server was there, is no port of it.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.compute import flavors, queries
from vrata.cloud.compute import tables as t
from vrata.cloud.compute.access import PAGE, answer, links, microversion, next_link, operator, project
from vrata.cloud.compute.queries import STATES
from vrata.cloud.fields import UUID, Field
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.network import tables as network
from vrata.cloud.store import Row

FIELDS = {
    "name": Field(required=True, nullable=False),
    "flavorRef": Field(required=True, nullable=False),
    "networks": Field("any", default=None),
    "availability_zone": Field(default="nova"),
    "metadata": Field("dict", default=None),
    "tenant_id": Field(default=None),  # ours: whose machine it is
}
IGNORED = (
    "imageRef",
    "min_count",
    "max_count",
    "key_name",
    "security_groups",
    "config_drive",
    "user_data",
    "description",
)
PATTERN_MAX = 255


def index(call: Call) -> Answer:
    """Ids and names."""
    rows, more = _page(call)
    shown = [{"id": row["id"], "name": row["name"], "links": links(call, f"servers/{row['id']}")} for row in rows]
    return answer(call, {"servers": shown, **more})


def detail(call: Call) -> Answer:
    """All of each, in one look at the database."""
    rows, more = _page(call)
    return answer(call, {"servers": _views(call, rows), **more})


def show(call: Call) -> Answer:
    """One."""
    return answer(call, {"server": _views(call, [find(call)])[0]})


def create(call: Call) -> Answer:
    """Register a machine; it is ACTIVE from now on."""
    operator(call)
    own = project(call, write=True)
    values = flavors.checked(call, "server", FIELDS, *IGNORED)
    flavor = flavors.find(call, values["flavorRef"])
    project_id = values["tenant_id"] or own
    ports = [_port(call, entry, project_id) for entry in _list(values["networks"])]
    devices = {port["device_id"] for port in ports if port["device_id"]}
    if len(devices) > 1 or any(not UUID.match(device) for device in devices):
        raise ApiError(409, f"The ports are in use by {', '.join(sorted(devices))}.")
    row = {
        "id": next(iter(devices), None) or ids.new_uuid(),
        "project_id": project_id,
        "user_id": call.caller.user_id,
        "name": values["name"],
        "status": "ACTIVE",
        "availability_zone": values["availability_zone"] or "nova",
        "flavor": {"id": flavor["id"]} | flavors.embedded(flavor),
        "metadata": _metadata(values["metadata"]),
        "created_at": now(),
    }
    if call.tx.get(t.servers, row["id"]):
        raise ApiError(409, f"The ports are in use by server {row['id']}.")
    call.tx.insert(t.servers, row)
    for port in ports:
        owner = port["device_owner"] or "compute:nova"
        call.tx.update(network.ports, port["id"], {"device_id": row["id"], "device_owner": owner})
    shown = {"id": row["id"], "links": links(call, f"servers/{row['id']}"), "OS-DCF:diskConfig": "MANUAL"}
    return answer(call, {"server": shown | {"security_groups": [], "adminPass": ""}}, 202)


def delete(call: Call) -> Answer:
    """Its ports stay, and are nobody's."""
    operator(call)
    row = find(call)
    c = network.ports.c
    ports = sa.update(network.ports).where(c.device_id == row["id"], c.project_id == row["project_id"])
    call.tx.execute(ports.values(device_id="", device_owner=""))
    call.tx.delete(t.servers, row["id"])
    return answer(call, None, 204)


def act(call: Call) -> Answer:
    """`os-start` and `os-stop`: what is known of the machine, which is not touched."""
    project(call, write=True)
    row = find(call)
    body = call.body if isinstance(call.body, dict) else {}
    wanted = {"os-start": "ACTIVE", "os-stop": "SHUTOFF"}.get(next(iter(body), ""))
    if wanted is None:
        raise ApiError(400, "There is no such action: os-start, os-stop")
    if row["status"] == wanted:
        name = next(iter(body)).removeprefix("os-")
        state = STATES[wanted][0]
        raise ApiError(409, f"Cannot '{name}' instance {row['id']} while it is in vm_state {state}")
    call.tx.update(t.servers, row["id"], {"status": wanted, "updated_at": now()})
    return answer(call, None, 202)


def interfaces(call: Call) -> Answer:
    """The server's ports."""
    row = find(call)
    ports = _ports(call, [row])
    return answer(
        call,
        {
            "interfaceAttachments": [
                {
                    "port_id": port["id"],
                    "net_id": port["network_id"],
                    "mac_addr": port["mac_address"],
                    "port_state": port["status"],
                    "fixed_ips": [
                        {"ip_address": one["ip_address"], "subnet_id": one["subnet_id"]}
                        for one in _fixed(call, [port["id"]])
                    ],
                }
                for port in ports
            ]
        },
    )


def zones(call: Call) -> Answer:
    """The zones that servers are in."""
    project(call)
    names = sorted({*call.tx.column(sa.select(t.servers.c.availability_zone).distinct()), "nova"})
    shown = [{"zoneName": name, "zoneState": {"available": True}, "hosts": None} for name in names]
    return answer(call, {"availabilityZoneInfo": shown})


def find(call: Call) -> Row:
    """The server of the path; 404 for another project's, too."""
    own = project(call)
    row = call.tx.get(t.servers, call.path["id"])
    if row is None or (row["project_id"] != own and not call.caller.admin):
        raise ApiError(404, f"Instance {call.path['id']} could not be found.")
    return row


def _page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    """The servers that the query asks for, and the link to the next page."""
    own, query = project(call), dict(call.query)
    rows = sa.select(t.servers).order_by(t.servers.c.created_at.desc(), t.servers.c.id)
    if not (call.caller.admin and query.get("all_tenants", "").lower() in ("1", "true", "")):
        rows = rows.where(t.servers.c.project_id == own)
    elif "all_tenants" not in query:
        rows = rows.where(t.servers.c.project_id == (query.get("project_id") or query.get("tenant_id") or own))
    found = queries.servers(call.tx.all(rows), call.query)
    for name in ("name", "display_name"):
        if name in query:
            pattern = _pattern(query[name])
            found = [row for row in found if pattern.match(row["name"])]
    for name, version in (("ip", 4), ("ip6", 6)):
        if name in query:
            pattern = _pattern(query[name])
            addresses = _addresses(call, found)
            found = [row for row in found if any(_fits(one, pattern, version) for one in _flat(addresses[row["id"]]))]
    shown, more = queries.cut(found, call.query, PAGE)
    if not shown or not more:
        return shown, {}
    return shown, {"servers_links": [next_link(call, shown)]}


def _fits(address: dict[str, Any], pattern: re.Pattern[str], version: int) -> bool:
    return (version == 4 or address["version"] == version) and pattern.match(address["addr"]) is not None


def _pattern(text: str) -> re.Pattern[str]:
    """Of a regular expression what people use for names and addresses (`^`, `$`, `.`, `.*`, `\\.`); all else is itself.

    The parts between `.*` are atomic groups, each at the first position where it fits: nothing is ever tried twice. That
    is exact, because such a part has one length only, and the first fit leaves the most text for the next.
    """

    def literal(word: str) -> str:
        return word if word in (".", "^", "$") else re.escape(word[-1])

    if len(text) > PATTERN_MAX:
        raise ApiError(400, f"Invalid input for query parameters name. It is longer than {PATTERN_MAX} characters")
    parts = [""]
    for word in re.findall(r"\\.|\.\*|.", text, re.DOTALL):
        if word == ".*":
            parts.append("")
        else:
            parts[-1] += literal(word)
    return re.compile("".join(f"(?>.*?{part})" for part in parts if part), re.DOTALL)


def _views(call: Call, rows: list[Row]) -> list[dict[str, Any]]:
    addresses = _addresses(call, rows)
    return [_view(call, row, addresses[row["id"]]) for row in rows]


def _view(call: Call, row: Row, addresses: dict[str, Any]) -> dict[str, Any]:
    vm_state, power = STATES[row["status"]]
    flavor = dict(row["flavor"])
    flavor_id = flavor.pop("id")
    if microversion(call) < (2, 47):
        flavor = {"id": flavor_id, "links": links(call, f"flavors/{flavor_id}")[1:]}
    return {
        "id": row["id"],
        "name": row["name"],
        "status": row["status"],
        "tenant_id": row["project_id"],
        "user_id": row["user_id"],
        "created": _time(row["created_at"]),
        "updated": _time(row["updated_at"] or row["created_at"]),
        "addresses": addresses,
        "accessIPv4": "",
        "accessIPv6": "",
        "flavor": flavor,
        "image": "",
        "metadata": row["metadata"] or {},
        "hostId": "",
        "key_name": None,
        "config_drive": "",
        "progress": 0,
        "security_groups": [],
        "os-extended-volumes:volumes_attached": [],
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": row["availability_zone"],
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:power_state": power,
        "OS-EXT-STS:task_state": None,
        "OS-SRV-USG:launched_at": _time(row["created_at"]).rstrip("Z"),
        "OS-SRV-USG:terminated_at": None,
        "links": links(call, f"servers/{row['id']}"),
    }


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _addresses(call: Call, rows: Iterable[Row]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Server → network's name → fixed and floating addresses."""
    servers = list(rows)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {row["id"]: {} for row in servers}
    ports = {port["id"]: port for port in _ports(call, servers)}
    names = {
        row["id"]: row["name"] for row in _in(call, network.networks, "id", {p["network_id"] for p in ports.values()})
    }
    floating: dict[tuple[str, str], str] = {
        (row["port_id"], row["fixed_ip_address"]): row["floating_ip_address"]
        for row in _in(call, network.floating_ips, "port_id", ports)
    }
    for one in _fixed(call, ports):
        port = ports[one["port_id"]]
        here = found[port["device_id"]].setdefault(names[port["network_id"]], [])
        here.append(_address(one["ip_address"], "fixed", port["mac_address"]))
        outside = floating.get((port["id"], one["ip_address"]))
        if outside:
            here.append(_address(outside, "floating", port["mac_address"]))
    return found


def _address(address: str, kind: str, mac: str) -> dict[str, Any]:
    version = 6 if ":" in address else 4
    return {"addr": address, "version": version, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": mac}


def _flat(addresses: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [one for some in addresses.values() for one in some]


def _ports(call: Call, servers: Iterable[Row]) -> list[Row]:
    owners = {server["id"]: server["project_id"] for server in servers}
    found = _in(call, network.ports, "device_id", owners)
    return [port for port in found if port["project_id"] == owners[port["device_id"]]]


def _fixed(call: Call, ports: Iterable[str]) -> list[Row]:
    rows = _in(call, network.addresses, "port_id", ports)
    return sorted(rows, key=lambda row: (row["port_id"], row["position"]))


def _in(call: Call, table: sa.Table, column: str, values: Iterable[str]) -> list[Row]:
    """Rows by any of many values, some hundred at a time: a statement has room for only so many."""
    wanted = sorted(values)
    found: list[Row] = []
    for start in range(0, len(wanted), 500):
        found += call.tx.all(sa.select(table).where(table.c[column].in_(wanted[start : start + 500])))
    return found


def _list(value: Any) -> list[Any]:
    if value in (None, "auto", "none"):
        return []
    if not isinstance(value, list):
        raise ApiError(400, f"Invalid input for field/attribute networks. Value: {value!r}. give a list of ports")
    return value


def _port(call: Call, entry: Any, project_id: str) -> Row:
    port_id = entry.get("port") if isinstance(entry, dict) else None
    row = call.tx.lock(network.ports, port_id) if isinstance(port_id, str) else None
    if row is None:
        raise ApiError(400, f"Invalid input for field/attribute networks. Value: {entry!r}. name ports that exist")
    if row["project_id"] != project_id:
        raise ApiError(
            400, f"Invalid input for field/attribute networks. Value: {entry!r}. name ports of the server's project, "
            f"{project_id}",
        )  # fmt: skip
    return row


def _metadata(value: dict[str, Any] | None) -> dict[str, str]:
    given = value or {}
    if len(given) > 128 or not all(isinstance(one, str) and len(one) <= 255 for pair in given.items() for one in pair):
        raise ApiError(400, "Invalid input for field/attribute metadata. use at most 128 pairs of texts")
    return given
