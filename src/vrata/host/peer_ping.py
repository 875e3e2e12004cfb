"""Asks the peer of an active instance again and again whether it lives: it may hold connections of an earlier time.

The kernel hears the answers, too (`vrata.host.handover`): they let packets of the peer's connections through to it, for
long enough that an agent may end and start again. When the peer itself falls silent, the agent says so, and those
connections are reset at once.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable

from vrata.net.icmp import echo_request, is_from, parse_echo_reply
from vrata.net.netns import in_namespace

INTERVAL_S = 0.5
LOST_AFTER = 4  # pings in a row without an answer
READ_AT_ONCE = 1000  # packets; a flood of them must not hold this agent up
COST_S = 0.005  # at most one ping in five milliseconds over all instances of a host
_SOL_RAW, _ICMP_FILTER = 255, 1
_ONLY_REPLIES = (~(1 << 0) & 0xFFFF_FFFF).to_bytes(4, sys.byteorder)
_ONLY_REPLIES6 = b"".join(
    (~(1 << 129 % 32 if word == 129 // 32 else 0) & 0xFFFF_FFFF).to_bytes(4, sys.byteorder) for word in range(8)
)


class PeerPing:
    """The pings of one instance to its peer; `lost` is called when it answers no more.

    Its socket is opened ahead: the first ping must not wait for it.
    """

    def __init__(
        self, netns: str, peer: str, *, instances: Callable[[], int], lost: Callable[[], Awaitable[None]]
    ) -> None:
        self._raw = in_namespace(netns, lambda: _socket(six=":" in peer))
        self.peer = peer
        self._number = 0  # of the last ping
        self._instances, self._lost = instances, lost
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask now, and from now on."""
        self.stop()
        self._ask()
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
        unanswered = 1
        while True:
            await asyncio.sleep(max(INTERVAL_S, COST_S * self._instances()))
            if self._is_answered():
                unanswered = 0
            if unanswered % LOST_AFTER == 0 and unanswered:
                await self._lost()
            unanswered += 1
            self._ask()

    def _is_answered(self) -> bool:
        """Whether the peer has answered the last ping: others send replies, too."""
        found = False
        with contextlib.suppress(OSError):  # nothing is left to read
            for _ in range(READ_AT_ONCE):
                packet, sender = self._raw.recvfrom(2048)
                number = parse_echo_reply(packet, six=":" in self.peer)
                found = found or (number == self._number and is_from(sender[0], self.peer))
        return found

    def _ask(self) -> None:
        self._number = int.from_bytes(os.urandom(2), "big")
        with contextlib.suppress(OSError):  # no route for a moment
            self._raw.connect((self.peer, 0))  # of others' packets none is queued here (raw(7))
            self._raw.send(echo_request(self._number, six=":" in self.peer))


def _socket(*, six: bool) -> socket.socket:
    """A raw socket that hears echo replies only (icmp(7), ICMP_FILTER; RFC 3542, section 3.2: a set bit blocks on Linux)."""
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    made = socket.socket(family, socket.SOCK_RAW, protocol)
    made.setsockopt(protocol if six else _SOL_RAW, _ICMP_FILTER, _ONLY_REPLIES6 if six else _ONLY_REPLIES)
    made.settimeout(0)
    return made
