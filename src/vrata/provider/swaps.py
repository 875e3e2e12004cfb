"""Listeners that come, beside others or in the place of one whose protocol cannot change: pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vrata.provider.bodies import listener_body, pool_body, pool_name
from vrata.provider.call import Call, balancing
from vrata.provider.model import (
    ADDRESS,
    MEMBERS,
    PLACE,
    PROTOCOL,
    Desired,
    Listener,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    Swaps,
)
from vrata.provider.pools import changes_of_pool, members_write


def after(
    swaps: Swaps, desired: Desired, balancer: Observed | None, made_room: Call | None, put_back: Call | None
) -> Swaps:
    """What is remembered of a Service once something was written. What it no longer wants is forgotten.

    `made_room`: the call whose `room` was carried out; `put_back`: the one whose `otherwise` was.
    """
    listeners = balancer.listeners if balancer else ()
    wanted = {kind_of(one): one for one in desired.listeners}
    there = {place(one) for one in listeners}
    cleared = [one for one in swaps.cleared if place(one) in map(place, desired.listeners) and place(one) not in there]
    if made_room and made_room.room:
        cleared += [one for one in listeners if made_room.room.path.endswith(f"/{one.id}")]
    refused = {one for one in swaps.refused if one in wanted}
    if put_back and put_back.body:
        body = put_back.body["listener"]
        refused |= {
            kind
            for kind, one in wanted.items()
            if (one.protocol, one.port) == (body["protocol"], body["protocol_port"])
        }
    return Swaps(tuple(cleared), frozenset(refused))


def kind_of(listener: Listener) -> str:
    """All of a listener that never changes."""
    return f"{listener.protocol}/{listener.port} {listener.tls_ref or ''} {listener.forwards_client}"


def layer4(protocol: str) -> str:
    """UDP, SCTP or TCP, which carries all other protocols of listeners."""
    return protocol if protocol in ("UDP", "SCTP") else "TCP"


def place(one: Listener | ObservedListener) -> tuple[str, int]:
    """What a load balancer has no two listeners of."""
    return layer4(one.protocol), one.port


def may_come(
    listener: Listener, own: Sequence[ObservedListener], loose: Sequence[ObservedPool], blocked: frozenset[str]
) -> bool:
    """Whether a listener that is not there may be made.

    Of a Service of which nothing is served yet, only if all of it is right; else unless what is blocked has no last good
    value. Source ranges would be lost with the only listener that has them.
    """
    if not blocked - {ADDRESS, PLACE}:
        return True
    if "allowed_cidrs" in blocked and all(place(one) == place(listener) for one in own):
        return False
    return bool(own or loose) and not blocked & {PROTOCOL, MEMBERS}


def last_good(
    listener: Listener, own: Sequence[ObservedListener], loose: Sequence[ObservedPool], blocked: frozenset[str]
) -> Listener:
    """What may be made of a port of which something is blocked: with what the Service's other ports have of that."""
    if not blocked:
        return listener
    ranked = sorted(own, key=lambda one: (place(one) != place(listener), one.protocol != listener.protocol))
    known, pool = [*(one.pool for one in ranked if one.pool), *loose], listener.pool
    if known and "lb_algorithm" in blocked:
        pool = replace(pool, algorithm=known[0].algorithm)
    if "healthmonitor" in blocked:
        itself = ranked[0].pool if ranked and place(ranked[0]) == place(listener) else None
        pool = replace(pool, monitor=_known_monitor(pool.monitor, itself, known))
    listener = replace(listener, pool=pool)
    if not ranked:
        return listener
    like, timeouts = ranked[0], dict(listener.timeouts_ms)
    timeouts |= {name: value for name, value in like.timeouts_ms.items() if name in blocked and name in timeouts}
    listener = replace(listener, timeouts_ms=tuple(sorted(timeouts.items())))
    if "connection_limit" in blocked:
        listener = replace(listener, connection_limit=like.connection_limit)
    if "allowed_cidrs" in blocked:
        listener = replace(listener, allowed_cidrs=like.allowed_cidrs or listener.allowed_cidrs)
    return listener


def _known_monitor(usual: Monitor | None, itself: ObservedPool | None, known: Sequence[ObservedPool]) -> Monitor | None:
    """The port's own, else another port's of the kind, else, if other ports have one, the usual one."""
    if itself and itself.monitor:
        return itself.monitor
    found = [one.monitor for one in known if one.monitor]
    alike = [one for one in found if usual and (usual.type, usual.path) == (one.type, one.path)]
    return alike[0] if alike else usual if found else None


def new_listener(
    desired: Desired,
    index: int,
    listener: Listener,
    old: ObservedListener | None,
    balancer: Observed,
    swaps: Swaps,
) -> Iterator[Call]:
    """`old`: one of another protocol in its place, whose protocol cannot change.

    It goes only when the pool of its successor is full and the cloud has nothing else against the successor than that its
    place is taken. If the cloud refuses the successor after all, the old one is put back.
    """
    pool = _pool_for(desired, index, listener, old, balancer)
    if old and old.pool and old.pool.members:
        if pool is None:
            body = {**pool_body(desired, index, listener.pool), "loadbalancer_id": balancer.id}
            yield balancing("POST", "/pools", f"port {listener.port} is to speak {listener.protocol}", {"pool": body})
            return
        if listener.pool.members != pool.members:
            yield members_write(pool, listener.pool)
            return
        yield from changes_of_pool(desired, index, listener.pool, pool, frozenset())
    body = {**listener_body(desired, index, listener), "loadbalancer_id": balancer.id}
    if pool:
        body["default_pool_id"] = pool.id
    call = balancing("POST", "/listeners", "a new port of the Service", {"listener": body})
    before = next((one for one in swaps.cleared if place(one) == place(listener)), None)
    yield replace(
        call,
        room=_clear(desired, old) if old else None,
        otherwise=_put_back(call, desired, index, listener, before, balancer) if before and not old else None,
    )


def _pool_for(
    desired: Desired, index: int, listener: Listener, old: ObservedListener | None, balancer: Observed
) -> ObservedPool | None:
    """A pool that exists and that a new listener can have: its predecessor's, or one that was made for it."""
    protocol = listener.pool.protocol
    if old and old.pool and old.pool.protocol == protocol:
        return old.pool
    names = (pool_name(desired, index), protocol)
    return next((one for one in balancer.loose_pools if (one.name, one.protocol) == names), None)


def _clear(desired: Desired, old: ObservedListener) -> Call:
    """What makes room for a successor. A pool that would not be found again as ours goes with it."""
    reason = f"port {old.port} is to speak another protocol"
    if old.pool and not old.pool.name.endswith(f"_{desired.name}"):
        return balancing("DELETE", f"/pools/{old.pool.id}", reason)
    return balancing("DELETE", f"/listeners/{old.id}", reason)


def _put_back(
    call: Call, desired: Desired, index: int, listener: Listener, old: ObservedListener, balancer: Observed
) -> Call:
    before = replace(listener, protocol=old.protocol, tls_ref=old.tls_ref, forwards_client=old.forwards_client)
    body = {**listener_body(desired, index, before), "loadbalancer_id": balancer.id}
    if old.pool and any(one.id == old.pool.id for one in balancer.loose_pools):
        body["default_pool_id"] = old.pool.id
    return replace(call, reason="its successor was refused", body={"listener": body})


def refused_before(desired: Desired, balancer: Observed, swaps: Swaps) -> str:
    """What to say of listeners that the cloud has refused in the place of those that are there; empty if of none."""
    there = {place(one) for one in balancer.listeners}
    found = [one for one in desired.listeners if kind_of(one) in swaps.refused and place(one) in there]
    ports = ", ".join(f"{one.protocol} on port {one.port}" for one in found)
    return (
        f"the cloud refused {ports}, so the port speaks what it spoke before; change the annotations" if found else ""
    )
