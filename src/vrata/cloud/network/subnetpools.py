"""Subnet pools (Neutron v2.0, «Subnet pools extension»): prefixes out of which subnets of any network are cut.

The pool's row is locked while its free space is looked for, so two subnets never get the same prefix.
"""

import ipaddress
from typing import Any

import sqlalchemy as sa

from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import plan
from vrata.cloud.network import tables as t
from vrata.cloud.network.ports import invalid
from vrata.cloud.network.resource import NAMED, Resource, base_view, find, store_update, visible
from vrata.cloud.store import Row

LEAST = {4: 8, 6: 64}  # the smallest prefix length a pool hands out unless it says otherwise
MOST = {4: 32, 6: 128}
QUOTA_UNIT = {4: 32, 6: 64}  # default_quota counts prefixes of this length


def _view(_call: Call, rows: list[Row]) -> list[Row]:
    lengths = ("default_prefixlen", "min_prefixlen", "max_prefixlen")
    return [{**base_view(row), **{name: str(row[name]) for name in lengths}, "address_scope_id": None} for row in rows]


def _create(call: Call, row: Row) -> Row:
    nets = _prefixes(row.get("prefixes"))
    version = nets[0].version
    least = row.get("min_prefixlen")
    row |= {
        "prefixes": _texts(nets), "ip_version": version,
        "min_prefixlen": LEAST[version] if least is None else least,
        "max_prefixlen": MOST[version] if row.get("max_prefixlen") is None else row["max_prefixlen"],
    }  # fmt: skip
    if row.get("default_prefixlen") is None:
        row["default_prefixlen"] = row["min_prefixlen"]
    _check_lengths(row)
    _one_default(call, row)
    call.tx.insert(t.subnet_pools, row)
    return row


def _update(call: Call, row: Row, values: Row) -> None:
    if values.get("prefixes") is not None:
        nets = _prefixes(values["prefixes"])
        if nets[0].version != row["ip_version"]:
            raise ApiError(400, "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", "PrefixVersionMismatch")
        for old in row["prefixes"]:
            if not any(plan.inside(ipaddress.ip_network(old), net) for net in nets):
                raise ApiError(
                    400, "Illegal update to prefixes: Existing prefixes must be a subset of the new prefixes.",
                    "IllegalSubnetPoolPrefixUpdate",
                )  # fmt: skip
        values["prefixes"] = _texts(nets)
    values = {name: value for name, value in values.items() if value is not None or name == "default_quota"}
    _check_lengths({**row, **values})
    if values.get("is_default"):
        _one_default(call, {**row, **values})
    store_update(call, SUBNETPOOLS, row, values)


def _delete(call: Call, row: Row) -> None:
    if call.tx.value(sa.select(t.subnets.c.id).where(t.subnets.c.subnetpool_id == row["id"])):
        raise ApiError(
            400, "Unable to delete subnet pool: Subnet pool has existing allocations.", "SubnetPoolDeleteError"
        )
    call.tx.delete(t.subnet_pools, row["id"])


def _prefixes(asked: list[Any] | None) -> list[plan.Network]:
    if not asked:
        raise ApiError(400, "Empty subnet pool prefix list.", "EmptySubnetPoolPrefixList")
    nets = []
    for prefix in asked:
        net = plan.network(prefix)
        if net is None:
            raise invalid(f"Invalid input for prefixes. Reason: '{prefix}' is not a valid IP subnet.")
        nets.append(net)
    if len({net.version for net in nets}) > 1:
        raise ApiError(400, "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", "PrefixVersionMismatch")
    return plan.collapsed(nets)


def _texts(nets: list[plan.Network]) -> list[str]:
    return [str(net) for net in nets]


def _check_lengths(row: Row) -> None:
    least, usual, most = row["min_prefixlen"], row["default_prefixlen"], row["max_prefixlen"]
    for name, low, other, high in (
        ("max_prefixlen", most, "width of the address", MOST[row["ip_version"]]),
        ("min_prefixlen", least, "max_prefixlen", most),
        ("default_prefixlen", usual, "max_prefixlen", most),
        ("min_prefixlen", least, "default_prefixlen", usual),
    ):
        if low > high:
            raise ApiError(
                400, f"Illegal prefix bounds: {name}={low}, {other}={high}.", "IllegalSubnetPoolPrefixBounds"
            )


def _one_default(call: Call, row: Row) -> None:
    if not row.get("is_default"):
        return
    pools = t.subnet_pools
    other = sa.select(pools.c.id).where(
        pools.c.is_default, pools.c.ip_version == row["ip_version"], pools.c.id != row["id"]
    )
    if call.tx.value(other):
        raise invalid(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family"
        )


def take_prefix(call: Call, row: Row) -> None:
    """Fill in `cidr`, `ip_version` and `subnetpool_id` of a new subnet that comes out of a pool."""
    length, default = row.pop("prefixlen", None), row.pop("use_default_subnetpool", None)
    if default and row.get("subnetpool_id") is None:
        row["subnetpool_id"] = _default_pool(call, row.setdefault("ip_version", 4))
    if row.get("subnetpool_id") is None:
        if length is not None:
            raise ApiError(400, "Bad subnets request: prefixlen is only valid with a subnetpool.", "BadRequest")
        return
    find(call, SUBNETPOOLS, row["subnetpool_id"])
    pool = call.tx.lock(t.subnet_pools, row["subnetpool_id"])
    assert pool is not None
    if row.setdefault("ip_version", pool["ip_version"]) != pool["ip_version"]:
        raise ApiError(
            400, f"Bad subnets request: Cannot allocate IPv{row['ip_version']} subnet from IPv{pool['ip_version']} "
            "subnet pool.", "BadRequest",
        )  # fmt: skip
    if row.get("cidr") is not None and length is not None:
        raise ApiError(400, "Bad subnets request: cidr and prefixlen must not be supplied together.", "BadRequest")
    row["cidr"] = _cut(call, pool, row, length)


def _default_pool(call: Call, version: int) -> str:
    query = visible(call, SUBNETPOOLS).where(t.subnet_pools.c.is_default, t.subnet_pools.c.ip_version == version)
    pool = call.tx.one(query)
    if pool is None:
        raise ApiError(400, f"Bad subnets request: No default subnetpool found for IPv{version}.", "BadRequest")
    return str(pool["id"])


def _cut(call: Call, pool: Row, row: Row, length: int | None) -> str:
    given = row.get("cidr")
    if given is not None:
        length = ipaddress.ip_network(given).prefixlen
    elif length is None:
        length = int(pool["default_prefixlen"])
    _check_length(pool, length)
    mine = call.tx.all(
        sa.select(t.subnets.c.cidr, t.subnets.c.project_id).where(t.subnets.c.subnetpool_id == pool["id"])
    )
    _check_quota(pool, [one["cidr"] for one in mine if one["project_id"] == row["project_id"]], length)
    taken = [ipaddress.ip_network(one["cidr"]) for one in mine]
    prefixes = [ipaddress.ip_network(prefix) for prefix in pool["prefixes"]]
    if given is not None:
        if plan.prefix_is_free(given, prefixes, taken):
            return str(given)
        reason = "Cannot allocate requested subnet from the available set of prefixes"
    else:
        found = plan.next_prefix(prefixes, taken, length)
        if found is not None:
            return found
        reason = f"Insufficient prefix space to allocate subnet size /{length}"
    # Exception: Neutron answers 500 with this sentence; a pool that is used up is no fault of the service.
    raise ApiError(409, f"Failed to allocate subnet: {reason}.", "SubnetAllocationError")


def _check_length(pool: Row, length: int) -> None:
    for which, kind, wrong in (
        ("maximum", "MaxPrefixSubnetAllocationError", length > pool["max_prefixlen"]),
        ("minimum", "MinPrefixSubnetAllocationError", length < pool["min_prefixlen"]),
    ):
        if wrong:
            bound = pool[f"{which[:3]}_prefixlen"]
            raise ApiError(
                400, f"Unable to allocate subnet with prefix length {length}, {which} allowed prefix is {bound}.", kind
            )


def _check_quota(pool: Row, cidrs: list[str], length: int) -> None:
    if pool["default_quota"] is None:
        return
    unit = QUOTA_UNIT[pool["ip_version"]]
    lengths = [*(ipaddress.ip_network(cidr).prefixlen for cidr in cidrs), length]
    if sum(2 ** max(unit - one, 0) for one in lengths) > pool["default_quota"]:
        raise ApiError(409, "Per-tenant subnet pool prefix quota exceeded.", "SubnetPoolQuotaExceeded")


SUBNETPOOLS = Resource(
    "subnetpool", "subnetpools", "SubnetPool", t.subnet_pools,
    {
        **NAMED,
        "prefixes": Field("list", required=True),
        "default_prefixlen": Field("int", least=0, most=128),
        "min_prefixlen": Field("int", least=0, most=128),
        "max_prefixlen": Field("int", least=0, most=128),
        "default_quota": Field("int", least=0, most=2**31 - 1),
        "shared": Field("bool", default=False, update=False),
        "is_default": Field("bool", default=False),
    },
    _view, {}, frozenset({"shared", "is_default"}), _create, _update, _delete, lambda table: table.c.shared,
)  # fmt: skip
