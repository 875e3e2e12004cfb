"""The next calls that bring the cloud to what a Service wants: pure, in an order that is safe to stop anywhere.

A load balancer is immutable while a change is under way (Octavia answers 409), so at most one balancing write comes out
of a pass; the floating IP does not wait for it. A settled Service yields no call.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vrata.provider.adopt import MADE, is_guest, is_legacy, is_renamed
from vrata.provider.bodies import (
    balancer_body,
    batch_body,
    listener_body,
    listener_name,
    monitor_body,
    persistence_body,
    pool_body,
    pool_name,
)
from vrata.provider.call import Call, Json, balancing
from vrata.provider.floating import check_pick, plan_floating, release
from vrata.provider.model import (
    PENDING,
    Desired,
    Listener,
    Monitor,
    Note,
    Observed,
    ObservedListener,
    ObservedPool,
    Pool,
    World,
)


@dataclass(frozen=True)
class Plan:
    """What to do now. `settled`: nothing is left to do or to wait for. `addresses` go into the Service's status."""

    calls: tuple[Call, ...]
    settled: bool
    addresses: tuple[str, ...] = ()
    problem: str | None = None  # a sentence for an event: what stands in the way of everything
    later: tuple[Call, ...] = ()  # differences that wait for their turn
    notes: tuple[Note, ...] = ()  # what is left out


def plan_ensure(desired: Desired, world: World) -> Plan:
    """Calls towards `desired`; call again after carrying them out until the plan is settled."""
    balancer = world.balancer
    check_pick(desired, world)  # before anything is made that would wait for an address in vain
    if balancer is None:
        return Plan((_create(desired, world),), settled=False, notes=_namesakes(desired, world))
    if balancer.provisioning_status == "PENDING_DELETE":
        return Plan((), settled=False)
    floating = plan_floating(desired, world, balancer)
    calls = list(floating.calls)
    problem = floating.problem or _conflict(desired, balancer)
    pending = balancer.provisioning_status in PENDING
    writes: list[Call] = []
    if balancer.provisioning_status == "ERROR":
        problem = "the load balancer is in ERROR"
    elif not pending and not problem:
        writes = list(_differences(desired, balancer))
        calls += writes[:1]
    ready = balancer.provisioning_status in ("ACTIVE", "PENDING_UPDATE")
    return Plan(
        tuple(calls),
        settled=not calls and not pending and not problem,
        addresses=_addresses(desired, world, balancer, none=floating.none) if ready else (),
        problem=problem,
        later=tuple(writes[1:]),
        notes=(*floating.notes, *_fixed_for_good(desired, balancer)),
    )


def _create(desired: Desired, world: World) -> Call:
    """With the address it had before, if that is still free."""
    wishes = (desired, replace(desired, known_address=""))
    first, other = ({"loadbalancer": balancer_body(one, dict(world.subnets))} for one in wishes)
    create = balancing("POST", "/loadbalancers", "the Service has none", first)
    return create if first == other else replace(create, instead=(other,))


def _addresses(desired: Desired, world: World, balancer: Observed, *, none: bool) -> tuple[str, ...]:
    if not desired.floats or none:
        return (balancer.vip_address, *balancer.additional_vips)
    return (world.floating.address, *balancer.additional_vips) if world.floating else ()


def _namesakes(desired: Desired, world: World) -> tuple[Note, ...]:
    if not world.namesakes:
        return ()
    others = ", ".join(world.namesakes)
    message = (
        f"load balancer {others} has the name {desired.name} and is not provably of this cluster: another one is made;"
    )
    remedy = "to take it over, set the annotation loadbalancer.openstack.org/load-balancer-id"
    return (Note("LoadBalancerNotAdopted", f"{message} {remedy}"),)


def _fixed_for_good(desired: Desired, balancer: Observed) -> tuple[Note, ...]:
    """What is asked for and can not be changed any more."""
    pairs = (
        ("subnet-id", desired.vip.subnet_id, balancer.subnet_id),
        ("network-id", desired.vip.network_id, balancer.network_id),
        ("port-id", desired.vip.port_id, balancer.vip_port_id),
        ("flavor-id", desired.flavor_id, balancer.flavor_id),
        ("availability-zone", desired.availability_zone, balancer.availability_zone),
    )
    differ = [f"{name} is {is_ or 'none'}, not {wanted}" for name, wanted, is_ in pairs if wanted and wanted != is_]
    if desired.vip.address and desired.vip.address != balancer.vip_address:
        differ.append(f"spec.loadBalancerIP: the address is {balancer.vip_address}, not {desired.vip.address}")
    if not differ or is_guest(desired, balancer):
        return ()
    message = f"of a load balancer that exists these do not change: {'; '.join(differ)}"
    return (Note("LoadBalancerImmutable", f"{message}; delete the Service and create it anew"),)


def _conflict(desired: Desired, balancer: Observed) -> str | None:
    """Ports that somebody else has on a shared load balancer."""
    taken = {(layer4(one.protocol), one.port): one for one in balancer.listeners if desired.name not in one.tags}
    if is_renamed(desired, balancer):
        return None
    if desired.internal and is_guest(desired, balancer):
        return "a Service on a load balancer of another can not be internal; remove one of the two annotations"
    for listener in desired.listeners:
        found = taken.get((layer4(listener.protocol), listener.port))
        if found:
            owner = ", ".join(sorted(found.tags)) or "a listener without an owner's tag"
            return f"spec.ports: {listener.port} of load balancer {balancer.id} belongs to {owner}; use another port"
    return None


def layer4(protocol: str) -> str:
    """UDP, SCTP or TCP, which carries all other protocols of listeners."""
    return protocol if protocol in ("UDP", "SCTP") else "TCP"


def plan_remove(desired: Desired, world: World) -> Plan:
    """Calls that leave nothing of the Service in the cloud, and what others use."""
    balancer = world.balancer
    calls: list[Call] = []
    shared = balancer is not None and _is_shared(desired, balancer)
    reason = "the Service is gone"
    if world.floating and not shared:
        # With the load balancer goes its address, whichever Service of the cluster it was made for.
        made = world.floating.ours or world.floating.clusters
        calls += release(world.floating, delete=made and not desired.keep_floating, reason=reason)
    for stray in world.stray_floating:
        calls += release(stray, delete=stray.ours and not desired.keep_floating, reason=reason)
    if balancer and balancer.provisioning_status in ("ACTIVE", "ERROR"):
        leave = _leave(desired.name, balancer, reason) if shared else None
        if leave:
            calls.append(leave)
        elif not shared:
            calls.append(balancing("DELETE", f"/loadbalancers/{balancer.id}", reason, cascade="true"))
    gone = balancer is None or (shared and balancer.provisioning_status == "ACTIVE" and not calls)
    return Plan(tuple(calls), settled=not calls and gone)


def _is_shared(desired: Desired, balancer: Observed) -> bool:
    """Whether others use it, or a person made it."""
    others = any(tag.startswith(MADE) and tag != desired.name for tag in balancer.tags)
    return others or not (balancer.name.startswith(MADE) or is_legacy(desired, balancer))


def _leave(name: str, balancer: Observed, reason: str) -> Call | None:
    """The next step off a load balancer that others use."""
    for listener in balancer.listeners:
        if name in listener.tags:
            if listener.pool:
                return balancing("DELETE", f"/pools/{listener.pool.id}", reason)
            return balancing("DELETE", f"/listeners/{listener.id}", reason)
    for pool in balancer.loose_pools:
        if pool.name.endswith(f"_{name}"):
            return balancing("DELETE", f"/pools/{pool.id}", reason)
    if name in balancer.tags:
        tags = sorted(balancer.tags - {name})
        return balancing("PUT", f"/loadbalancers/{balancer.id}", reason, {"loadbalancer": {"tags": tags}})
    return None


def _differences(desired: Desired, balancer: Observed) -> Iterator[Call]:
    """Every difference between load balancer, listeners, pools, members and monitors, in the order they are mended in."""
    renamed = is_renamed(desired, balancer)
    mine = {balancer.name, desired.name} if renamed else {desired.name}
    untagged = is_legacy(desired, balancer)
    observed = {
        (one.protocol, one.port): one for one in balancer.listeners if mine & one.tags or (untagged and not one.tags)
    }
    wanted = {(one.protocol, one.port) for one in desired.listeners}
    for pool in balancer.loose_pools:
        if pool.name.endswith(tuple(f"_{name}" for name in mine)):
            yield balancing("DELETE", f"/pools/{pool.id}", "belongs to no port")
    for key, one in observed.items():
        if key not in wanted:
            if one.pool:  # or it would stay behind
                yield balancing("DELETE", f"/pools/{one.pool.id}", f"the Service has no port {key[0]}/{key[1]}")
            yield balancing("DELETE", f"/listeners/{one.id}", f"the Service has no port {key[0]}/{key[1]}")
    for index, listener in enumerate(desired.listeners):
        found = observed.get((listener.protocol, listener.port))
        if found is None:
            body = {**listener_body(desired, index, listener), "loadbalancer_id": balancer.id}
            yield balancing("POST", "/listeners", "a new port of the Service", {"listener": body})
            continue
        for write in (
            _listener_write(desired, index, listener, found),
            _pool_write(desired, index, listener.pool, found),
        ):
            if write:
                yield write
    last = _balancer_write(desired, balancer, renamed=renamed)
    if last:
        yield last


def _balancer_write(desired: Desired, balancer: Observed, *, renamed: bool) -> Call | None:
    """Names and tags last: until then what was begun is found under the old ones."""
    changes: Json = {}
    own = {desired.name} if is_guest(desired, balancer) else set(desired.tags)
    kept = balancer.tags - ({balancer.name} if renamed else set())
    if not own <= balancer.tags or kept != balancer.tags:
        changes["tags"] = sorted(kept | own)
    if renamed:
        changes |= {"name": desired.name, "description": desired.description}
    if not changes:
        return None
    path = f"/loadbalancers/{balancer.id}"
    return balancing("PUT", path, f"changed: {', '.join(changes)}", {"loadbalancer": changes})


def _listener_write(desired: Desired, index: int, listener: Listener, found: ObservedListener) -> Call | None:
    changes: Json = {}
    if listener.connection_limit != found.connection_limit:
        changes["connection_limit"] = listener.connection_limit
    if listener.allowed_cidrs != found.allowed_cidrs:
        changes["allowed_cidrs"] = sorted(listener.allowed_cidrs) or None
    changes |= {name: value for name, value in listener.timeouts_ms if found.timeouts_ms.get(name, value) != value}
    if listener.tls_ref != found.tls_ref:
        changes["default_tls_container_ref"] = listener.tls_ref
    if listener.forwards_client != found.forwards_client:
        changes["insert_headers"] = {"X-Forwarded-For": "true"} if listener.forwards_client else {}
    if desired.name not in found.tags:
        changes |= {"name": listener_name(desired, index), "tags": [desired.name]}
    if not changes:
        return None
    return balancing("PUT", f"/listeners/{found.id}", f"changed: {', '.join(changes)}", {"listener": changes})


def _pool_write(desired: Desired, index: int, pool: Pool, listener: ObservedListener) -> Call | None:
    found = listener.pool
    if found is None:
        body = {**pool_body(desired, index, pool), "listener_id": listener.id}
        return balancing("POST", "/pools", "the port has no pool", {"pool": body})
    if found.protocol != pool.protocol:
        return balancing("DELETE", f"/pools/{found.id}", f"a pool's protocol can not change to {pool.protocol}")
    changes: Json = {}
    if pool.algorithm != found.algorithm:
        changes["lb_algorithm"] = pool.algorithm
    other_time = pool.persistence_timeout_s not in (None, found.persistence_timeout_s)
    if pool.persistence != found.persistence or other_time:
        changes["session_persistence"] = persistence_body(pool)
    if found.name.startswith("pool_") and not found.name.endswith(desired.name[-200:]):
        changes["name"] = pool_name(desired, index)
    if changes:
        return balancing("PUT", f"/pools/{found.id}", f"changed: {', '.join(changes)}", {"pool": changes})
    if pool.members != found.members:
        return balancing("PUT", f"/pools/{found.id}/members", "the members changed", batch_body(pool))
    return _monitor_write(desired, index, pool.monitor, found)


def _monitor_write(desired: Desired, index: int, monitor: Monitor | None, pool: ObservedPool) -> Call | None:
    if monitor == pool.monitor:
        return None
    if pool.monitor_id and (monitor is None or pool.monitor is None or monitor.type != pool.monitor.type):
        return balancing("DELETE", f"/healthmonitors/{pool.monitor_id}", "no monitor of this type is wanted")
    assert monitor is not None
    body = monitor_body(desired, index, monitor)
    if pool.monitor_id is None:
        made = {"healthmonitor": {**body, "pool_id": pool.id}}
        return balancing("POST", "/healthmonitors", "the pool has no monitor", made)
    del body["type"]
    return balancing("PUT", f"/healthmonitors/{pool.monitor_id}", "the monitor changed", {"healthmonitor": body})


def status_entries(desired: Desired, addresses: Iterable[str]) -> list[Json]:
    """What the Service's status shows (core/v1 LoadBalancerIngress)."""
    if desired.hostname:
        return [{"hostname": desired.hostname}]
    if desired.proxy_protocol and desired.hostname_suffix:
        return [{"hostname": f"{address}.{desired.hostname_suffix}"} for address in addresses]
    mode = "Proxy" if desired.proxy_protocol else "VIP"
    return [{"ip": address, "ipMode": mode} for address in addresses]
