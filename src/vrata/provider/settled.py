"""What is known to be right, in a few numbers for each Service: fingerprints of what was asked for, pool by pool. Pure.

If nothing but members differs from it, one write for each such pool brings it about, and nothing needs to be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vrata.provider.bodies import MEMBERS_AT_ONCE, batch_body
from vrata.provider.call import Call, balancing
from vrata.provider.model import MEMBERS, Desired, Member, Observed
from vrata.provider.plan import Plan


@dataclass(frozen=True, slots=True)
class Settled:
    """`shape`: all but members. `pools`: the pool of each listener wanted, and its members, in their order.

    `subnet_id`: the VIP's. `floating_port_id`: the VIP's port, if a floating IP is on it; else empty. `addresses`: what the
    Service's status must show.
    """

    balancer_id: str
    shape: int
    pools: tuple[tuple[str, int], ...]
    subnet_id: str
    floating_port_id: str = ""
    addresses: tuple[str, ...] = ()


def settled(desired: Desired, balancer: Observed, addresses: Sequence[str]) -> Settled:
    """After a comparison that found no difference. `addresses`: what the Service's status must show."""
    ids = {(one.protocol, one.port): one.pool.id for one in balancer.listeners if one.pool}
    pools = tuple((ids.get((one.protocol, one.port), ""), members_print(one.pool.members)) for one in desired.listeners)
    floats = desired.floats and balancer.vip_address not in addresses  # without an external network the VIP is shown
    port_id = balancer.vip_port_id if floats else ""
    return Settled(balancer.id, _shape(desired), pools, balancer.subnet_id, port_id, tuple(addresses))


def half_settled(desired: Desired, balancer: Observed, plan: Plan) -> Settled | None:
    """What is known while only members are missing, after the plan's first write; None if anything else is."""
    writes = (*plan.calls, *plan.later)
    if not writes or plan.problem or any(not one.path.endswith("/members") for one in writes):
        return None
    there = {(one.protocol, one.port): one.pool for one in balancer.listeners if one.pool}
    pools = []
    for listener in desired.listeners:
        pool, wanted = there.get((listener.protocol, listener.port)), listener.pool.members
        if pool is None or len(wanted - pool.members) > MEMBERS_AT_ONCE or pool.protocol != listener.pool.protocol:
            return None  # also where another pool is being filled that is to take its place
        written = pool.id in plan.calls[0].path
        pools.append((pool.id, members_print(wanted if written else pool.members)))
    return replace(settled(desired, balancer, plan.addresses), pools=tuple(pools))


def members_print(members: frozenset[Member]) -> int:
    """A number that another set of members does not have."""
    return hash(members)


def is_known(known: Settled, desired: Desired) -> bool:
    """Whether nothing but members may be missing; our own annotations tell what we know."""
    return (
        desired.balancer_id in ("", known.balancer_id)
        and len(known.pools) == len(desired.listeners)
        and known.shape == _shape(desired)
    )


def plan_members(known: Settled, desired: Desired) -> tuple[Call, Settled] | None:
    """The next write of members, and what is known once it is done; None if there is none."""
    if MEMBERS in desired.blocked:
        return None
    for number, ((pool_id, members), listener) in enumerate(zip(known.pools, desired.listeners, strict=True)):
        wanted = members_print(listener.pool.members)
        if members != wanted:
            call = balancing("PUT", f"/pools/{pool_id}/members", "the members changed", batch_body(listener.pool))
            pools = (*known.pools[:number], (pool_id, wanted), *known.pools[number + 1 :])
            return call, replace(known, pools=pools)
    return None


def _shape(desired: Desired) -> int:
    listeners = tuple(replace(one, pool=replace(one.pool, members=frozenset())) for one in desired.listeners)
    return hash(replace(desired, balancer_id="", known_address="", listeners=listeners))
