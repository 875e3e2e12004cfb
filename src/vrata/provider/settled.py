"""What is known to be right, in a few numbers for each Service: fingerprints of what was asked for, pool by pool. Pure.

If nothing but members differs from it, one write for each such pool brings it about, and nothing needs to be read.
"""

from dataclasses import dataclass, replace

from vrata.provider.bodies import batch_body
from vrata.provider.call import Call, balancing
from vrata.provider.model import Desired, Member, Observed


@dataclass(frozen=True, slots=True)
class Settled:
    """`shape`: all but members. `pools`: the pool of each listener wanted, and its members, in their order."""

    balancer_id: str
    shape: int
    pools: tuple[tuple[str, int], ...]


def settled(desired: Desired, balancer: Observed) -> Settled:
    """After a comparison that found no difference."""
    ids = {(one.protocol, one.port): one.pool.id for one in balancer.listeners if one.pool}
    pools = tuple((ids.get((one.protocol, one.port), ""), members_print(one.pool.members)) for one in desired.listeners)
    return Settled(balancer.id, _shape(desired), pools)


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
