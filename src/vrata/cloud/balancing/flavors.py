"""Flavors and availability zones with their profiles (Octavia API v2): what a load balancer may be made of, by name.

Administrators write profiles, tenants choose among what is enabled. A profile that something refers to stays as it is.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud import listing
from vrata.cloud.balancing import model, store
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.policy import Rule
from vrata.cloud.fields import Field
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.store import Row, Tx


class Flavor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a flavor's data may say; None: the service's own setting."""

    loadbalancer_topology: str | None = None
    haproxy_threads: int | None = None
    max_connections: int | None = None
    advert_interval_ms: int | None = None
    tcp_data_path: str | None = None
    reload_timeout_s: int | None = None


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an availability zone's data may say, as Octavia's provider takes it; only the networks have a meaning here."""

    compute_zone: str | None = None
    volume_zone: str | None = None
    management_network: str | None = None
    valid_vip_networks: tuple[str, ...] | None = None


for _kind in (Flavor, Zone):  # msgspec learns a type once, and not in two threads at once: see desired.py
    msgspec.convert({}, _kind)
FLAVOR_TEXTS = {
    "loadbalancer_topology": "The load balancer topology. One of: SINGLE - One amphora per load balancer. "
    "ACTIVE_STANDBY - Two amphora per load balancer.",
    "haproxy_threads": "Threads of each HAProxy, 1 to 64.",
    "max_connections": "Connections that one instance takes at once, 1 to 10000000.",
    "advert_interval_ms": "VRRP advertisement interval in milliseconds, a multiple of 10 from 10 to 40950; a dead "
    "instance is noticed after 3 of them.",
    "tcp_data_path": "What serves TCP listeners: haproxy, or nftables. With nftables established connections survive "
    "the death of a host; a listener that it cannot serve stays with HAProxy.",
    "reload_timeout_s": "Seconds for which connections stay open after a reload of HAProxy, 60 to 2592000; default: 86400.",
}
ZONE_TEXTS = {
    "compute_zone": "The compute availability zone.",
    "volume_zone": "The volume availability zone.",
    "management_network": "The management network ID for amphora connections.",
    "valid_vip_networks": "List of network IDs that are allowed for VIP use. This overrides/replaces the list of "
    "allowed networks configured in `octavia.conf`.",
}
RELOAD_TIMEOUT_S = 86_400
BOUNDS = {
    "haproxy_threads": (1, 64),
    "max_connections": (1, 10_000_000),
    "advert_interval_ms": (10, 40_950),
    "reload_timeout_s": (60, 2_592_000),
}
DATA_PATHS = ("haproxy", "nftables")
TOPOLOGIES = ("SINGLE", "ACTIVE_STANDBY")


def flavor_of(tx: Tx, balancer: Row) -> Flavor:
    """What the load balancer's flavor says; nothing without one."""
    if not balancer["flavor_id"]:
        return Flavor()
    query = (
        sa.select(t.flavor_profiles.c.flavor_data)
        .join(t.flavors, t.flavors.c.flavor_profile_id == t.flavor_profiles.c.id)
        .where(t.flavors.c.id == balancer["flavor_id"])
    )
    return msgspec.convert(tx.value(query) or {}, Flavor)


def chosen_flavor(call: Call, flavor_id: str | None) -> None:
    """400 unless a new load balancer may have this flavor."""
    if flavor_id is None:
        return
    row = call.tx.get(t.flavors, flavor_id)
    if row is None:
        raise ApiError(400, "Validation failure: Invalid flavor_id.")
    if not row["enabled"]:
        raise ApiError(400, f"The selected flavor is not allowed in this deployment: {flavor_id}")


def chosen_zone(call: Call, name: str | None, network_id: str | None) -> None:
    """400 unless a new load balancer may stand in this zone, on this network."""
    if name is None:
        return
    row = call.tx.get(t.availability_zones, name)
    if row is None:
        raise ApiError(400, "Validation failure: Invalid availability zone.")
    if not row["enabled"]:
        raise ApiError(400, f"The selected availability zone is not allowed in this deployment: {name}")
    profile = call.tx.get(t.availability_zone_profiles, row["availability_zone_profile_id"])
    zone = msgspec.convert((profile or {}).get("availability_zone_data") or {}, Zone)
    if zone.valid_vip_networks and network_id not in zone.valid_vip_networks:
        raise ApiError(400, "Validation failure: Supplied VIP network_id is not in the configured VIP networks list.")


def check_flavor(text: str) -> Row:
    """A flavor's data from its JSON text; 400 names what is wrong in it."""
    data = _decoded(text, "flavor_data", Flavor)
    topology = data.get("loadbalancer_topology")
    if topology is not None and topology not in TOPOLOGIES:
        raise _not_valid(f"{topology!r} is not one of {list(TOPOLOGIES)}")
    path = data.get("tcp_data_path")
    if path is not None and path not in DATA_PATHS:
        raise _not_valid(f"{path!r} is not one of {list(DATA_PATHS)}")
    for name, (least, most) in BOUNDS.items():
        if name in data and data[name] is not None and not least <= data[name] <= most:
            raise _not_valid(f"{name} {data[name]} is not from {least} to {most}")
    if (data.get("advert_interval_ms") or 0) % 10:
        raise _not_valid(f"advert_interval_ms {data['advert_interval_ms']} is not a multiple of 10")
    return data


def check_zone(text: str) -> Row:
    """An availability zone's data from its JSON text."""
    return _decoded(text, "availability_zone_data", Zone)


def _not_valid(why: str) -> ApiError:
    return ApiError(400, f"Provider '{model.DEFAULT_PROVIDER}' does not support a requested option: {why}")


def _decoded(text: str, field: str, kind: type[msgspec.Struct]) -> Row:
    try:
        raw = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ApiError(400, f"{text} is not a valid option for {field}") from error
    if not isinstance(raw, dict):
        raise ApiError(400, f"{text} is not a valid option for {field}")
    try:
        msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _not_valid(str(error)) from error
    return raw


_NAMED = {"name": Field(required=True)}
_DESCRIBED = {**_NAMED, "description": Field(default="", lines=True), "enabled": Field("bool", default=True)}
FLAVOR = {**_DESCRIBED, "flavor_profile_id": Field("uuid", required=True, update=False)}
PROFILE = {**_NAMED, "provider_name": Field(required=True), "flavor_data": Field(required=True, length=4096)}
ZONE = {
    **_DESCRIBED,
    "name": Field(required=True, update=False),
    "availability_zone_profile_id": Field("uuid", required=True, update=False),
}
ZONE_PROFILE = {
    **_NAMED,
    "provider_name": Field(required=True),
    "availability_zone_data": Field(required=True, length=4096),
}


@dataclass(frozen=True)
class Kind:
    """One of the four resources. `data`: the column of JSON text and its check; `user`: the column that refers to it."""

    path: str
    wrapper: str
    collection: str
    table: sa.Table
    fields: Mapping[str, Field]
    read: Rule
    data: tuple[str, Callable[[str], Row]] | None = None
    user: sa.Column[Any] | None = None

    @property
    def key(self) -> str:
        """The primary key's name: zones are keyed by their name."""
        return next(iter(self.table.primary_key.columns)).name


KINDS = (
    Kind("flavors", "flavor", "flavors", t.flavors, FLAVOR, Rule.READ, user=t.load_balancers.c.flavor_id),
    Kind("flavorprofiles", "flavorprofile", "flavorprofiles", t.flavor_profiles, PROFILE, Rule.ADMIN,
         ("flavor_data", check_flavor), t.flavors.c.flavor_profile_id),
    Kind("availabilityzones", "availability_zone", "availability_zones", t.availability_zones, ZONE, Rule.READ,
         user=t.load_balancers.c.availability_zone),
    Kind("availabilityzoneprofiles", "availability_zone_profile", "availability_zone_profiles",
         t.availability_zone_profiles, ZONE_PROFILE, Rule.ADMIN, ("availability_zone_data", check_zone),
         t.availability_zones.c.availability_zone_profile_id),
)  # fmt: skip


def _view(kind: Kind, row: Row) -> Row:
    if kind.data is None:
        return row
    return row | {kind.data[0]: json.dumps(row[kind.data[0]])}


def _found(call: Call, kind: Kind) -> Row:
    row = call.tx.get(kind.table, call.path["id"])
    if row is None:
        raise store.not_found(kind.table, call.path["id"])
    return row


def _values(call: Call, kind: Kind, *, updating: bool) -> Row:
    values = store.checked(dict(kind.fields), call.body, kind.wrapper, updating=updating)
    if values.get("provider_name") is not None and values["provider_name"] not in model.PROVIDERS:
        raise ApiError(400, f"Provider '{values['provider_name']}' is not enabled.")
    if kind.data is not None and values.get(kind.data[0]) is not None:
        values[kind.data[0]] = kind.data[1](values[kind.data[0]])
    return values


def _endpoints(kind: Kind) -> list[Endpoint]:
    def index(call: Call) -> Answer:
        store.demand(call, kind.read)
        rows = [_view(kind, row) for row in call.tx.all(sa.select(kind.table).order_by(kind.table.c[kind.key]))]
        known = [column.name for column in kind.table.columns]
        return Answer(body=listing.page(call, rows, kind.collection, listing.OCTAVIA, known=known))

    def show(call: Call) -> Answer:
        store.demand(call, kind.read)
        shown = listing.select_fields(call, [_view(kind, _found(call, kind))])[0]
        return Answer(body={kind.wrapper: shown})

    def create(call: Call) -> Answer:
        store.admin_only(call)
        row = _values(call, kind, updating=False)
        for name, table in (
            ("flavor_profile_id", t.flavor_profiles), ("availability_zone_profile_id", t.availability_zone_profiles),
        ):  # fmt: skip
            if name in row and call.tx.get(table, row[name]) is None:
                raise ApiError(400, f"{row[name]} is not a valid option for {name}")
        _unique_name(call, kind, row["name"])
        if kind.key == "id":
            row["id"] = ids.new_uuid()
        call.tx.insert(kind.table, row)
        return Answer(201, {kind.wrapper: _view(kind, row)})

    def update(call: Call) -> Answer:
        store.admin_only(call)
        row = _found(call, kind)
        values = {n: value for n, value in _values(call, kind, updating=True).items() if value is not None}
        if kind.data is not None and values.keys() & {kind.data[0], "provider_name"}:
            _not_used(call, kind, row)
        if values.get("name") not in {None, row["name"]}:
            _unique_name(call, kind, values["name"])
        call.tx.update(kind.table, call.path["id"], values)
        return Answer(body={kind.wrapper: _view(kind, _found(call, kind))})

    def delete(call: Call) -> Answer:
        store.admin_only(call)
        row = _found(call, kind)
        _not_used(call, kind, row)
        call.tx.execute(sa.delete(kind.table).where(kind.table.c[kind.key] == row[kind.key]))
        return Answer(204)

    path = f"/{kind.path}"
    return [
        Endpoint("GET", path, index),
        Endpoint("POST", path, create, write=True),
        Endpoint("GET", path + "/{id}", show),
        Endpoint("PUT", path + "/{id}", update, write=True),
        Endpoint("DELETE", path + "/{id}", delete, write=True),
    ]


def _unique_name(call: Call, kind: Kind, name: str) -> None:
    if kind.table in {t.flavors, t.availability_zones} and call.tx.value(
        sa.select(kind.table.c.name).where(kind.table.c.name == name)
    ):
        raise ApiError(409, f"A {store.NOUNS[kind.table.name][0].lower()} of {name} already exists.")


def _not_used(call: Call, kind: Kind, row: Row) -> None:
    column = kind.user
    assert column is not None
    if call.tx.value(sa.select(column).where(column == row[kind.key])) is not None:
        noun = store.NOUNS[kind.table.name][0]
        raise ApiError(409, f"{noun} {row[kind.key]} is in use and cannot be modified.")


def _capabilities(collection: str, texts: Mapping[str, str]) -> Callable[[Call], Answer]:
    def serve(call: Call) -> Answer:
        store.admin_only(call)
        if call.path["provider"] not in model.PROVIDERS:
            raise ApiError(400, f"Provider '{call.path['provider']}' is not enabled.")
        rows = [{"name": name, "description": text} for name, text in texts.items()]
        rows = listing.kept(call, rows, listing.OCTAVIA, known=("name", "description"))
        return Answer(body={collection: listing.select_fields(call, rows)})

    return serve


ENDPOINTS = [
    *(one for kind in KINDS for one in _endpoints(kind)),
    Endpoint("GET", "/providers/{provider}/flavor_capabilities", _capabilities("flavor_capabilities", FLAVOR_TEXTS)),
    Endpoint(
        "GET", "/providers/{provider}/availability_zone_capabilities",
        _capabilities("availability_zone_capabilities", ZONE_TEXTS),
    ),
]  # fmt: skip
