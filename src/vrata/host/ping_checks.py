"""Pings members for HAProxy, which can not: answers its agent checks on the loopback of an instance's namespace.

HAProxy asks once in each `delay` for every member («agent-check», configuration manual, section 5.2) by sending the
member's id and a comma; the answer is `up` or `down`, and the question is what makes this agent ping once more, so
that it probes nothing that HAProxy does not balance over. Why not HAProxy's `external-check`: it
starts a process a probe, and needs root in the worker. Why not `set server … health`: the state would be lost with
each reload. When the agent is away nobody answers, which HAProxy takes for no news: members keep their state, and a
new worker begins with all of them up, as with any monitor.

Raw sockets, since datagram ones need a sysctl that a namespace lacks.
"""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass

import structlog

from vrata.base.wire import DesiredInstance
from vrata.host.health import Health, judge
from vrata.host.render import PING_PORT
from vrata.net.icmp import echo_request, is_from, parse_echo_reply
from vrata.net.netns import in_namespace

MAX_QUESTION_BYTES = 200
_EARLY = 0.9  # HAProxy spreads its checks a little

log = structlog.get_logger()


@dataclass(frozen=True)
class Target:
    """Where a member is pinged, and what its monitor thinks of answers."""

    address: str
    delay_s: int
    timeout_s: int
    rise: int
    fall: int


def is_due(probed_s: float | None, now_s: float, target: Target) -> bool:
    """Whether to probe again (monotonic seconds); a pool behind two listeners is asked about twice in each `delay`."""
    return probed_s is None or now_s - probed_s >= target.delay_s * _EARLY


def ping_targets(desired: DesiredInstance) -> dict[str, Target]:
    """Member id -> target, of every pool whose monitor pings."""
    return {
        member.id: Target(
            member.monitor_address or member.address, m.delay, m.timeout, m.max_retries, m.max_retries_down
        )
        for pool in desired.pools
        if (m := pool.healthmonitor) and m.type == "PING"
        for member in pool.members
    }


class PingChecks:
    """The ping checks of one instance. Runs only while there is something to ping."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._targets: dict[str, Target] = {}
        self._health: dict[str, Health] = {}
        self._probed_s: dict[str, float] = {}  # monotonic
        self._pending: dict[int, tuple[str, asyncio.Event]] = {}  # sequence number -> who was asked, answered
        self._server: asyncio.Server | None = None
        self._sockets: dict[int, socket.socket] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}

    async def want(self, targets: dict[str, Target]) -> None:
        """Probe exactly these from now on; OSError if the namespace gives no sockets."""
        self._targets = targets
        self._health = {name: health for name, health in self._health.items() if name in targets}
        self._probed_s = {name: probed_s for name, probed_s in self._probed_s.items() if name in targets}
        if not targets:
            self.close()
        elif self._server is None:
            await self._open()

    def close(self) -> None:
        """Stop; HAProxy keeps the states it has."""
        if self._server:
            self._server.close()
            self._server = None
        for task in self._probes.values():
            task.cancel()
        self._probes.clear()
        for raw in self._sockets.values():
            asyncio.get_running_loop().remove_reader(raw)
            raw.close()
        self._sockets.clear()

    async def _open(self) -> None:
        listening, *raws = in_namespace(self._netns, _make_sockets)
        for raw in raws:
            raw.settimeout(0)
            self._sockets[raw.family] = raw
            asyncio.get_running_loop().add_reader(raw, self._on_packet, raw)
        self._server = await asyncio.start_server(self._answer, sock=listening)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One agent check: what is known is said at once, and one more probe starts."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(5.0):
                question = await reader.readuntil(b",")
                name = question[:MAX_QUESTION_BYTES].rstrip(b",").decode(errors="replace")
                target = self._targets.get(name)
                if target:
                    writer.write(b"up\n" if self._health.get(name, Health()).up else b"down\n")
                    await writer.drain()
                    loop = asyncio.get_running_loop()
                    if name not in self._probes and is_due(self._probed_s.get(name), loop.time(), target):
                        self._probed_s[name] = loop.time()
                        task = loop.create_task(self._probe(name, target))
                        self._probes[name] = task
                        task.add_done_callback(lambda _: self._forget(name))
        writer.close()

    def _forget(self, name: str) -> None:
        self._probes.pop(name, None)

    async def _probe(self, name: str, target: Target) -> None:
        before = self._health.get(name, Health())
        after = judge(before, good=await self._ping(target), rise=target.rise, fall=target.fall)
        if self._targets.get(name) != target:  # it went, or changed, in the meantime
            return
        self._health[name] = after
        if after.up != before.up:
            log.info("ping", member=name, address=target.address, up=after.up)

    async def _ping(self, target: Target) -> bool:
        """One echo request; whether the member itself answered in time."""
        while (number := int.from_bytes(os.urandom(2), "big")) in self._pending:  # others cannot know it
            pass
        six = ":" in target.address
        raw = self._sockets[socket.AF_INET6 if six else socket.AF_INET]
        answered = asyncio.Event()
        self._pending[number] = target.address, answered
        try:
            raw.sendto(echo_request(number, six=six), (target.address, 0))
            async with asyncio.timeout(target.timeout_s):
                return await answered.wait()
        except (OSError, TimeoutError):
            return False
        finally:
            self._pending.pop(number, None)

    def _on_packet(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            packet, sender = raw.recvfrom(2048)
            number = parse_echo_reply(packet, six=raw.family == socket.AF_INET6)
            asked, answered = self._pending.get(-1 if number is None else number, ("", None))
            if answered and is_from(sender[0], asked):
                answered.set()


def _make_sockets() -> list[socket.socket]:
    return [
        socket.create_server(("127.0.0.1", PING_PORT)),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    ]
