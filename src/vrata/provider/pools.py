"""Writes to a pool that exists, its members and its monitor: pure."""

from collections.abc import Iterator
from dataclasses import replace

from vrata.provider.bodies import MEMBERS_AT_ONCE, batch_body, monitor_body, persistence_body, pool_name
from vrata.provider.call import Call, Json, balancing
from vrata.provider.model import Desired, Monitor, ObservedPool, Pool


def members_write(found: ObservedPool, pool: Pool) -> Call:
    """Of very many new members some come with the next write."""
    new = sorted(pool.members - found.members, key=lambda one: (one.name, one.address, one.port))
    now = replace(pool, members=pool.members - frozenset(new[MEMBERS_AT_ONCE:]))
    return balancing("PUT", f"/pools/{found.id}/members", "the members changed", batch_body(now))


def changes_of_pool(
    desired: Desired, index: int, pool: Pool, found: ObservedPool, blocked: frozenset[str]
) -> Iterator[Call]:
    """What of it differs; `blocked`: attributes that stay."""
    changes: Json = {}
    if pool.algorithm != found.algorithm and "lb_algorithm" not in blocked:
        changes["lb_algorithm"] = pool.algorithm
    other_time = pool.persistence_timeout_s not in (None, found.persistence_timeout_s)
    if pool.persistence != found.persistence or other_time:
        changes["session_persistence"] = persistence_body(pool)
    if found.name.startswith("pool_") and not found.name.endswith(desired.name[-200:]):
        changes["name"] = pool_name(desired, index)
    if changes:
        yield balancing("PUT", f"/pools/{found.id}", f"changed: {', '.join(changes)}", {"pool": changes})
    if "healthmonitor" not in blocked or (found.monitor_id is None and not found.monitor and pool.monitor):
        yield from _monitor_write(desired, index, pool.monitor, found)


def _monitor_write(desired: Desired, index: int, monitor: Monitor | None, pool: ObservedPool) -> Iterator[Call]:
    if monitor == pool.monitor:
        return
    if pool.monitor_id and (monitor is None or pool.monitor is None or monitor.type != pool.monitor.type):
        yield balancing("DELETE", f"/healthmonitors/{pool.monitor_id}", "no monitor of this type is wanted")
        return
    assert monitor is not None
    body = monitor_body(desired, index, monitor)
    if pool.monitor_id is None:
        made = {"healthmonitor": {**body, "pool_id": pool.id}}
        yield balancing("POST", "/healthmonitors", "the pool has no monitor", made)
        return
    del body["type"]
    yield balancing("PUT", f"/healthmonitors/{pool.monitor_id}", "the monitor changed", {"healthmonitor": body})
