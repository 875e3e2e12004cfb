"""The next calls that bring the cloud to what a Service wants: pure, in an order that is safe to stop anywhere.

A load balancer is immutable while a change is under way (Octavia answers 409), so at most one balancing write comes out
of a pass; the floating IP does not wait for it. A settled Service yields no action.
"""

from dataclasses import dataclass, field
from typing import Any

from vrata.provider.model import (
    PENDING,
    Desired,
    FloatingIp,
    Listener,
    Member,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    Pool,
    World,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """One write to the balancing API: `POST /listeners {…}`."""

    method: str
    path: str
    reason: str
    body: Json | None = field(default=None, hash=False)
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CreateFloating:
    port_id: str
    address: str | None
    description: str
    reason: str


@dataclass(frozen=True)
class AttachFloating:
    id: str
    port_id: str | None  # None: detach
    reason: str


@dataclass(frozen=True)
class DeleteFloating:
    id: str
    reason: str


Action = Write | CreateFloating | AttachFloating | DeleteFloating


@dataclass(frozen=True)
class Plan:
    """What to do now. `settled`: nothing is left to do or to wait for. `address` goes into the Service's status."""

    actions: tuple[Action, ...]
    settled: bool
    address: str | None = None
    problem: str | None = None  # a sentence for an event: what stands in the way


def plan_ensure(desired: Desired, world: World, *, subnet_id: str) -> Plan:
    """Actions towards `desired`; call again after applying them until the plan is settled."""
    balancer = world.balancer
    if balancer is None:
        create = Write(
            "POST", "/loadbalancers", "the Service has none", {"loadbalancer": create_body(desired, subnet_id)}
        )
        return Plan((create,), settled=False)
    if balancer.provisioning_status == "PENDING_DELETE":
        return Plan((), settled=False)
    floating, problem = _plan_floating(desired, world, balancer)
    actions: list[Action] = list(floating)
    pending = balancer.provisioning_status in PENDING
    if balancer.provisioning_status == "ERROR":
        problem = "the load balancer is in ERROR; fail it over (openstack loadbalancer failover) or delete the Service"
    elif not pending:
        write = _next_write(desired, balancer)
        actions += [write] if write else []
    held = world.floating and not desired.internal
    address = balancer.vip_address if desired.internal else world.floating.address if held and world.floating else None
    ready = balancer.provisioning_status in ("ACTIVE", "PENDING_UPDATE")
    return Plan(tuple(actions), not actions and not pending and not problem, address if ready else None, problem)


def plan_remove(world: World, *, keep_floating: bool) -> Plan:
    """Actions that leave nothing of the Service in the cloud."""
    actions: list[Action] = []
    for floating in (world.floating, *world.stray_floating):
        if floating is None:
            continue
        if floating.ours and not keep_floating:
            actions.append(DeleteFloating(floating.id, "the Service is gone"))
        elif floating.port_id:
            actions.append(AttachFloating(floating.id, None, "the Service is gone, the address is kept"))
    balancer = world.balancer
    if balancer and balancer.provisioning_status in ("ACTIVE", "ERROR"):
        path = f"/loadbalancers/{balancer.id}"
        actions.append(Write("DELETE", path, "the Service is gone", params=(("cascade", "true"),)))
    return Plan(tuple(actions), settled=not actions and balancer is None)


def _plan_floating(desired: Desired, world: World, balancer: Observed) -> tuple[list[Action], str | None]:
    """Actions for the public address, and what stands in the way."""
    held, port_id = world.floating, balancer.vip_port_id
    if desired.internal:
        return ([] if held is None else _release(held, keep=desired.keep_floating)), None
    wanted = desired.floating_address
    if held and (wanted is None or held.address == wanted):
        return [], None
    actions: list[Action] = [] if held is None else _release(held, keep=desired.keep_floating)
    found = world.wanted_floating
    if wanted and found:
        if found.port_id and found.port_id != port_id:
            return [], f"spec.loadBalancerIP: floating IP {wanted} is in use; free it or name another"
        return [*actions, AttachFloating(found.id, port_id, "spec.loadBalancerIP names it")], None
    if not wanted and world.stray_floating:
        stray = world.stray_floating[0]
        return [*actions, AttachFloating(stray.id, port_id, "found again by its description")], None
    return [*actions, CreateFloating(port_id, wanted, desired.floating_description, "the Service is external")], None


def _release(floating: FloatingIp, *, keep: bool) -> list[Action]:
    if floating.ours and not keep:
        return [DeleteFloating(floating.id, "no longer wanted")]
    return [AttachFloating(floating.id, None, "no longer wanted, not ours to delete")]


def _next_write(desired: Desired, balancer: Observed) -> Write | None:
    """The first difference between listeners, pools, members and monitors, as one call."""
    observed = {(entry.protocol, entry.port): entry for entry in balancer.listeners}
    wanted = {(entry.protocol, entry.port) for entry in desired.listeners}
    for pool_id in balancer.orphan_pool_ids:
        return Write("DELETE", f"/pools/{pool_id}", "belongs to no port")
    for key, entry in observed.items():
        if key not in wanted:
            return Write("DELETE", f"/listeners/{entry.id}", f"the Service has no port {key[0]}/{key[1]}")
    for index, listener in enumerate(desired.listeners):
        found = observed.get((listener.protocol, listener.port))
        if found is None:
            body = {**listener_body(desired, index, listener), "loadbalancer_id": balancer.id}
            return Write("POST", "/listeners", "a new port of the Service", {"listener": body})
        write = _listener_write(listener, found) or _pool_write(desired, index, listener.pool, found)
        if write:
            return write
    return None


def _listener_write(listener: Listener, found: ObservedListener) -> Write | None:
    changes: Json = {}
    if listener.connection_limit != found.connection_limit:
        changes["connection_limit"] = listener.connection_limit
    if listener.allowed_cidrs != found.allowed_cidrs:
        changes["allowed_cidrs"] = sorted(listener.allowed_cidrs) or None
    changes |= {name: value for name, value in listener.timeouts_ms if found.timeouts_ms.get(name) != value}
    if not changes:
        return None
    return Write("PUT", f"/listeners/{found.id}", f"changed: {', '.join(changes)}", {"listener": changes})


def _pool_write(desired: Desired, index: int, pool: Pool, listener: ObservedListener) -> Write | None:
    found = listener.pool
    if found is None:
        body = {**pool_body(desired, index, pool), "listener_id": listener.id}
        return Write("POST", "/pools", "the port has no pool", {"pool": body})
    if found.protocol != pool.protocol:
        return Write("DELETE", f"/pools/{found.id}", f"a pool's protocol cannot change to {pool.protocol}")
    changes: Json = {}
    if pool.algorithm != found.algorithm:
        changes["lb_algorithm"] = pool.algorithm
    if pool.persistence != found.persistence:
        changes["session_persistence"] = {"type": pool.persistence} if pool.persistence else None
    if changes:
        return Write("PUT", f"/pools/{found.id}", f"changed: {', '.join(changes)}", {"pool": changes})
    if pool.members != found.members:
        return Write("PUT", f"/pools/{found.id}/members", "the nodes changed", {"members": members_body(pool)})
    return _monitor_write(desired, index, pool.monitor, found)


def _monitor_write(desired: Desired, index: int, monitor: Monitor | None, pool: ObservedPool) -> Write | None:
    if monitor == pool.monitor:
        return None
    if pool.monitor_id and (monitor is None or pool.monitor is None or monitor.type != pool.monitor.type):
        return Write("DELETE", f"/healthmonitors/{pool.monitor_id}", "no monitor of this type is wanted")
    assert monitor is not None
    body = monitor_body(desired, index, monitor)
    if pool.monitor_id is None:
        return Write(
            "POST", "/healthmonitors", "the pool has no monitor", {"healthmonitor": {**body, "pool_id": pool.id}}
        )
    del body["type"]
    return Write("PUT", f"/healthmonitors/{pool.monitor_id}", "the monitor changed", {"healthmonitor": body})


def create_body(desired: Desired, subnet_id: str) -> Json:
    """The fully-populated create: one POST for everything (Octavia API, «Creating a Fully Populated Load Balancer»)."""
    listeners = []
    for index, listener in enumerate(desired.listeners):
        pool = {**pool_body(desired, index, listener.pool), "members": members_body(listener.pool)}
        if listener.pool.monitor:
            pool["healthmonitor"] = monitor_body(desired, index, listener.pool.monitor)
        listeners.append({**listener_body(desired, index, listener), "default_pool": pool})
    return {
        "name": desired.name,
        "description": desired.description,
        "tags": [desired.name],
        "vip_subnet_id": subnet_id,
        **({"vip_address": desired.vip_address} if desired.vip_address else {}),
        "listeners": listeners,
    }


def listener_body(desired: Desired, index: int, listener: Listener) -> Json:
    """A listener without its pool."""
    return {
        "name": f"listener_{index}_{desired.name}"[:255],
        "protocol": listener.protocol,
        "protocol_port": listener.port,
        "connection_limit": listener.connection_limit,
        "tags": [desired.name],
        **({"allowed_cidrs": sorted(listener.allowed_cidrs)} if listener.allowed_cidrs else {}),
        **dict(listener.timeouts_ms),
    }


def pool_body(desired: Desired, index: int, pool: Pool) -> Json:
    """A pool without members and monitor."""
    return {
        "name": f"pool_{index}_{desired.name}"[:255],
        "protocol": pool.protocol,
        "lb_algorithm": pool.algorithm,
        **({"session_persistence": {"type": pool.persistence}} if pool.persistence else {}),
    }


def members_body(pool: Pool) -> list[Json]:
    """The members as a batch update and a nested create take them."""

    def body(member: Member) -> Json:
        base = {"name": member.name, "address": member.address, "protocol_port": member.port}
        return base if member.monitor_port is None else {**base, "monitor_port": member.monitor_port}

    return [body(member) for member in sorted(pool.members, key=lambda member: (member.name, member.address))]


def monitor_body(desired: Desired, index: int, monitor: Monitor) -> Json:
    """A health monitor without the pool it belongs to."""
    http = {"url_path": monitor.path, "http_method": "GET", "expected_codes": "200"} if monitor.path else {}
    return {
        "name": f"monitor_{index}_{desired.name}"[:255],
        "type": monitor.type,
        "delay": monitor.delay_s,
        "timeout": monitor.timeout_s,
        "max_retries": monitor.retries,
        "max_retries_down": monitor.retries_down,
        **http,
    }
