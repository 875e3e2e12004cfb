"""Member health and counters of one instance: from HAProxy, and from nftables where the kernel carries.

Each reading costs something, and hundreds of instances share a host: standbys are read seldom, and connections that the
kernel tracks, which have to be gone through one by one, more seldom still.
"""

import contextlib
from collections import Counter

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.wire import DesiredInstance, InstanceKind, ListenerStats, VrrpState
from vrata.host import forwarding, status
from vrata.host.observe import observe_counters, observe_flows
from vrata.host.parts import InstanceParts

STANDBY_S = 5.0  # nobody goes through a standby: its counters stand still
FLOWS_S = 5.0
MAX_LOG_BYTES = 4 * 1024 * 1024


class Counters:
    """What was read last: `members` maps ids to operating statuses, `listeners` ids to statistics."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}
        self.listeners: dict[str, ListenerStats] = {}
        self.fresh = False  # something happened to the instance since it was read
        self._read_s = 0.0
        self._living: Counter[tuple[str, int]] = Counter()  # flows that the kernel carries
        self._counted_s = 0.0

    async def read(
        self, desired: DesiredInstance, parts: InstanceParts, state: VrrpState, down: frozenset[str]
    ) -> bool:
        """Read what is due; whether HAProxy answered. `down`: members that the kernel gives nothing to."""
        waits_s = 0.0 if self.fresh or state is VrrpState.MASTER else STANDBY_S
        if desired.kind is not InstanceKind.BALANCER or monotonic_s() - self._read_s < waits_s:
            return False
        self.fresh, self._read_s = False, monotonic_s()
        try:
            rows = await parts.haproxy.runtime.statistics()
            older = await parts.haproxy.older_statistics()
        except VrataError:
            return False  # it is being started; its end is noticed by a watch, not here
        members = status.member_statuses(desired, rows)
        listeners = status.listener_stats(desired, rows, older)
        if forwarding.kernel_listeners(desired):
            members |= forwarding.member_statuses(desired, down)
            with contextlib.suppress(VrataError):  # not loaded yet
                living = await self._count_flows(desired, parts.netns, state)
                listeners |= forwarding.listener_stats(desired, await observe_counters(parts.netns), living)
        self.members, self.listeners = members, listeners
        for path in (parts.haproxy.log_path, parts.keepalived.log_path):
            with contextlib.suppress(OSError):
                if path.stat().st_size > MAX_LOG_BYTES:
                    path.write_bytes(b"")
        return True

    async def _count_flows(self, desired: DesiredInstance, netns: str, state: VrrpState) -> Counter[tuple[str, int]]:
        """A standby knows its peer's flows, and carries none."""
        if state is not VrrpState.MASTER:
            self._living.clear()
        elif monotonic_s() - self._counted_s > FLOWS_S:
            self._counted_s = monotonic_s()
            self._living = forwarding.count_flows(desired, await observe_flows(netns))
        return self._living
