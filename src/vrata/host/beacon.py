"""Asks the peer of an active instance again and again whether it lives: it may hold connections of an earlier time.

Only the kernel hears the answers (`vrata.host.handover`): they let packets of the peer's connections through to it.
When this stops, or the agent does, those connections are reset, as after the death of a host.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from vrata.host.ping import echo_request
from vrata.net.netns import in_namespace

INTERVAL_S = 0.5
COST_S = 0.005  # at most one ping in five milliseconds over all instances of a host
_SOL_RAW, _ICMP_FILTER = 255, 1


class Beacon:
    """The pings of one instance to its peer. Its socket is opened ahead: the first ping must not wait for it."""

    def __init__(self, netns: str, peer: str, instances: Callable[[], int]) -> None:
        self._raw = in_namespace(netns, lambda: _socket(six=":" in peer))
        self.peer = peer
        self._instances = instances
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask now, and from now on."""
        self.stop()
        self._ask(0)
        self._task = asyncio.get_running_loop().create_task(self._ask_on())

    def stop(self) -> None:
        """Ask no more."""
        if self._task:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._raw.close()

    async def _ask_on(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(max(INTERVAL_S, COST_S * self._instances()))
            number = (number + 1) & 0xFFFF
            self._ask(number)

    def _ask(self, number: int) -> None:
        with contextlib.suppress(OSError):  # no route for a moment
            self._raw.sendto(echo_request(number, six=":" in self.peer), (self.peer, 0))


def _socket(*, six: bool) -> socket.socket:
    """A raw socket that sends and keeps nothing of what it hears (icmp(7), ICMP_FILTER)."""
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    made = socket.socket(family, socket.SOCK_RAW, protocol)
    made.setsockopt(protocol if six else _SOL_RAW, _ICMP_FILTER, b"\xff" * (32 if six else 4))
    made.settimeout(0)
    return made
