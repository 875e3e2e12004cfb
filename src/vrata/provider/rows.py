"""What the cloud's APIs answer, put together to what a plan looks at: pure (Octavia API v2, Neutron API v2.0).

The same rows come from a few calls about one Service or from a handful of lists of the whole project.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vrata.provider.adopt import choose
from vrata.provider.call import Json
from vrata.provider.desired import FLOATING_FOR, TIMEOUTS
from vrata.provider.model import (
    Desired,
    FloatingIp,
    Member,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    World,
)


@dataclass
class Rows:
    """Answers by what they are looked up with. `members` of a pool may be missing: they are then taken as right."""

    balancers: dict[str, Json] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # name -> ids
    listeners: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))  # by load balancer
    pools: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))  # by load balancer
    monitors: dict[str, Json] = field(default_factory=dict)
    members: dict[str, frozenset[Member]] = field(default_factory=dict)  # by pool
    floating: list[Json] = field(default_factory=list)
    on_port: dict[str, Json] = field(default_factory=dict)
    described: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))

    def add_balancers(self, rows: Iterable[Json]) -> None:
        """Load balancers that are not deleted."""
        for row in rows:
            if row["provisioning_status"] != "DELETED" and row["id"] not in self.balancers:
                self.balancers[row["id"]] = row
                self.named[row["name"]].append(row["id"])

    def add_tree(self, listeners: Iterable[Json], pools: Iterable[Json], monitors: Iterable[Json]) -> None:
        """What is under them."""
        for row in listeners:
            for owner in row["loadbalancers"]:
                self.listeners[owner["id"]].append(row)
        for row in pools:
            for owner in row["loadbalancers"]:
                self.pools[owner["id"]].append(row)
        self.monitors |= {row["id"]: row for row in monitors}

    def add_floating(self, rows: Iterable[Json]) -> None:
        """Floating IPs."""
        for row in rows:
            self.floating.append(row)
            self.described[row.get("description") or ""].append(row)
            if row["port_id"]:
                self.on_port[row["port_id"]] = row


def stamp(pool: Json) -> int:
    """Changes whenever a member of the pool does: the cloud touches the pool with each of its members."""
    kept = pool.get("stamp")
    return (
        kept
        if isinstance(kept, int)
        else hash((pool.get("updated_at"), frozenset(one["id"] for one in pool["members"])))
    )


def compact(pool: Json) -> Json:
    """A pool without the ids of its members, of which there may be a million in a project."""
    return {**{name: value for name, value in pool.items() if name != "members"}, "stamp": stamp(pool)}


def parse_members(rows: Iterable[Json]) -> frozenset[Member]:
    """Members of one pool."""
    return frozenset(
        Member(one["name"], one["address"], one["protocol_port"], one.get("monitor_port"), one.get("subnet_id"))
        for one in rows
    )


def world(rows: Rows, desired: Desired, hints: Collection[str]) -> World:
    """The Service's load balancer with all under it, and its floating IPs. `hints`: addresses that it has had."""
    names = [name for name in (desired.name, desired.legacy_name) if name]
    ids = [
        *(one for name in names for one in rows.named.get(name, ())),
        *([desired.balancer_id] if desired.balancer_id in rows.balancers else []),
    ]
    candidates = [balancer(rows.balancers[one]) for one in dict.fromkeys(ids)]
    reached = {one.id: rows.on_port[one.vip_port_id] for one in candidates if one.vip_port_id in rows.on_port}
    proofs = {one.vip_address for one in candidates if one.id in reached
              and reached[one.id]["floating_ip_address"] in hints}  # fmt: skip
    found = choose(desired, candidates, {*hints, *proofs})
    mark, held = desired.floating_description, None
    if found.balancer and found.balancer.id in reached:
        held = floating(reached[found.balancer.id], mark)
    strays = (floating(row, mark) for row in rows.described.get(mark, ()) if not row["port_id"])
    address = desired.floating_address
    wanted = [floating(row, mark) for row in rows.floating if address and row["floating_ip_address"] == address]
    return World(
        balancer=_with_tree(rows, found.balancer, desired) if found.balancer else None,
        floating=held,
        wanted_floating=wanted[0] if wanted else None,
        stray_floating=() if held else tuple(strays),
        namesakes=found.namesakes,
    )


def balancer(row: Json) -> Observed:
    """A load balancer without what is under it."""
    return Observed(
        id=row["id"],
        provisioning_status=row["provisioning_status"],
        vip_address=row["vip_address"],
        vip_port_id=row["vip_port_id"],
        name=row["name"],
        tags=frozenset(row.get("tags") or ()),
        subnet_id=row.get("vip_subnet_id") or "",
        network_id=row.get("vip_network_id") or "",
        flavor_id=row.get("flavor_id") or "",
        availability_zone=row.get("availability_zone") or "",
        provider=row.get("provider") or "",
        additional_vips=tuple(one["ip_address"] for one in row.get("additional_vips") or ()),
    )


def floating(row: Json, mark: str) -> FloatingIp:
    """A floating IP; `mark`: the description that this Service's would have."""
    said, cluster = row.get("description") or "", mark.rpartition(" from cluster ")[2]
    return FloatingIp(
        row["id"],
        row["floating_ip_address"],
        row["port_id"],
        ours=said == mark,
        clusters=said.startswith(FLOATING_FOR) and said.endswith(f" from cluster {cluster}"),
    )


def _with_tree(rows: Rows, found: Observed, desired: Desired) -> Observed:
    expected = {(one.protocol, one.port): one.pool.members for one in desired.listeners}
    listeners = rows.listeners.get(found.id, [])
    ports = {row["default_pool_id"]: (row["protocol"], row["protocol_port"]) for row in listeners}
    pools = {
        row["id"]: _pool(rows, row, expected.get(ports.get(row["id"], ("", 0)), frozenset()))
        for row in rows.pools.get(found.id, [])
    }
    used = {row["default_pool_id"] for row in listeners}
    return replace(
        found,
        listeners=tuple(_listener(row, pools.get(row["default_pool_id"])) for row in listeners),
        loose_pools=tuple(pool for pool_id, pool in pools.items() if pool_id not in used),
    )


def _listener(row: Json, pool: ObservedPool | None) -> ObservedListener:
    return ObservedListener(
        id=row["id"],
        protocol=row["protocol"],
        port=row["protocol_port"],
        connection_limit=row["connection_limit"],
        allowed_cidrs=frozenset(row.get("allowed_cidrs") or ()),
        timeouts_ms={name: row[name] for name, _ in TIMEOUTS.values() if row.get(name) is not None},
        pool=pool,
        tags=frozenset(row.get("tags") or ()),
        tls_ref=row.get("default_tls_container_ref") or None,
        forwards_client=(row.get("insert_headers") or {}).get("X-Forwarded-For") == "true",
    )


def _pool(rows: Rows, row: Json, expected: frozenset[Member]) -> ObservedPool:
    monitor_id = row.get("healthmonitor_id")
    persistence: Mapping[str, object] = row.get("session_persistence") or {}
    timeout = persistence.get("persistence_timeout")
    return ObservedPool(
        id=row["id"],
        protocol=row["protocol"],
        algorithm=row["lb_algorithm"],
        persistence=str(persistence["type"]) if persistence else None,
        members=rows.members.get(row["id"], expected),
        monitor_id=monitor_id,
        monitor=_monitor(rows.monitors[monitor_id]) if monitor_id in rows.monitors else None,
        persistence_timeout_s=timeout if isinstance(timeout, int) else None,
        name=row["name"],
    )


def _monitor(row: Json) -> Monitor:
    return Monitor(
        type=row["type"],
        delay_s=row["delay"],
        timeout_s=row["timeout"],
        retries=row["max_retries"],
        retries_down=row["max_retries_down"],
        path=row.get("url_path") if row["type"] in ("HTTP", "HTTPS") else None,
    )
