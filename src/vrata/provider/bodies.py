"""What the balancing API is sent for each part of a load balancer (Octavia API v2): pure."""

from collections.abc import Mapping

from vrata.provider.call import Json
from vrata.provider.model import Desired, Listener, Member, Monitor, Pool

NAME_MAX = 255
MEMBERS_AT_ONCE = 2000  # new ones in one request: clouds have bounds, of time or of size


def balancer_body(desired: Desired, subnets: Mapping[int, str]) -> Json:
    """The fully populated create: one POST for everything («Creating a Fully Populated Load Balancer»).

    `subnets`: IP version -> where VIPs go of which nothing else is said.
    """
    body: Json = {"name": desired.name, "description": desired.description, "tags": desired.tags}
    vip, first = desired.vip, desired.vip.families[0]
    if vip.port_id:
        body["vip_port_id"] = vip.port_id
    elif vip.network_id:
        body["vip_network_id"] = vip.network_id
    else:
        body["vip_subnet_id"] = vip.subnet_id or subnets[first]
    address = vip.address or ("" if desired.floats else desired.known_address)  # one that was built anew keeps its own
    if address:
        body["vip_address"] = address
    additional = [{"subnet_id": subnets[version]} for version in vip.families[1:] if version in subnets]
    chosen = {
        "provider": desired.provider,
        "flavor_id": desired.flavor_id,
        "availability_zone": desired.availability_zone,
    }
    body |= {name: value for name, value in chosen.items() if value}
    if additional:
        body["additional_vips"] = additional
    room, body["listeners"] = MEMBERS_AT_ONCE, []
    for index, listener in enumerate(desired.listeners):
        room -= len(listener.pool.members)  # of a pool that does not fit, members come afterwards
        body["listeners"].append(_chain(desired, index, listener, with_members=room >= 0))
    return body


def _chain(desired: Desired, index: int, listener: Listener, *, with_members: bool) -> Json:
    pool = {**pool_body(desired, index, listener.pool), "members": members_body(listener.pool) if with_members else []}
    if listener.pool.monitor:
        pool["healthmonitor"] = monitor_body(desired, index, listener.pool.monitor)
    return {**listener_body(desired, index, listener), "default_pool": pool}


def listener_body(desired: Desired, index: int, listener: Listener) -> Json:
    """A listener without its pool."""
    body: Json = {
        "name": listener_name(desired, index),
        "protocol": listener.protocol,
        "protocol_port": listener.port,
        "connection_limit": listener.connection_limit,
        "tags": [desired.name],
        **dict(listener.timeouts_ms),
    }
    if listener.allowed_cidrs:
        body["allowed_cidrs"] = sorted(listener.allowed_cidrs)
    if listener.tls_ref:
        body["default_tls_container_ref"] = listener.tls_ref
    if listener.forwards_client:
        body["insert_headers"] = {"X-Forwarded-For": "true"}
    return body


def pool_body(desired: Desired, index: int, pool: Pool) -> Json:
    """A pool without members and monitor."""
    body: Json = {"name": pool_name(desired, index), "protocol": pool.protocol, "lb_algorithm": pool.algorithm}
    if pool.persistence:
        body["session_persistence"] = persistence_body(pool)
    return body


def persistence_body(pool: Pool) -> Json | None:
    """Session persistence; None for none."""
    if not pool.persistence:
        return None
    timeout = {} if pool.persistence_timeout_s is None else {"persistence_timeout": pool.persistence_timeout_s}
    return {"type": pool.persistence, **timeout}


def batch_body(pool: Pool) -> Json:
    """All members as a batch update takes them: what is not said there stays as it was, so a port that is none is said, too."""
    return {"members": [{"monitor_port": None, **one} for one in members_body(pool)]}


def members_body(pool: Pool) -> list[Json]:
    """The members as a nested create takes them."""

    def body(member: Member) -> Json:
        base: Json = {"name": member.name, "address": member.address, "protocol_port": member.port}
        if member.monitor_port is not None:
            base["monitor_port"] = member.monitor_port
        if member.subnet_id is not None:
            base["subnet_id"] = member.subnet_id
        return base

    return [body(member) for member in sorted(pool.members, key=lambda one: (one.name, one.address, one.port))]


def monitor_body(desired: Desired, index: int, monitor: Monitor) -> Json:
    """A health monitor without the pool it belongs to."""
    http = {"url_path": monitor.path, "http_method": "GET", "expected_codes": "200"} if monitor.path else {}
    return {
        "name": f"monitor_{index}_{desired.name}"[:NAME_MAX],
        "type": monitor.type,
        "delay": monitor.delay_s,
        "timeout": monitor.timeout_s,
        "max_retries": monitor.retries,
        "max_retries_down": monitor.retries_down,
        **http,
    }


def listener_name(desired: Desired, index: int) -> str:
    """`listener_<number>_<load balancer>`."""
    return f"listener_{index}_{desired.name}"[:NAME_MAX]


def pool_name(desired: Desired, index: int) -> str:
    """`pool_<number>_<load balancer>`."""
    return f"pool_{index}_{desired.name}"[:NAME_MAX]
