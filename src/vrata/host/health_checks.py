"""Checks the members that the kernel balances over, from inside the instance's namespace.

`vrata.host.health` judges; the next pass changes nftables. UDP-CONNECT sends a datagram: «port unreachable», or no
neighbour to send it to, is a bad answer; silence is a good one, as with Octavia. Bounded: so many probes at once, each
with its monitor's time-out, answers read up to 4 KiB. Ends with its instance's supervisor; its verdicts stay in force.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.wire import DesiredInstance
from vrata.host.health import Health, Target, is_expected, judge, request, targets_of
from vrata.net import ip
from vrata.net.netns import in_namespace

PROBES_AT_ONCE = 32
_ANSWER_MAX = 4096
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_UNREACHABLE = frozenset({"FAILED", "INCOMPLETE"})


class HealthChecks:
    """The health checks of one instance."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._health: dict[str, Health] = {}
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(PROBES_AT_ONCE)

    def adopt(self, down: frozenset[str]) -> None:
        """Begin with an earlier agent's verdicts."""
        self._health = {member_id: Health(up=False) for member_id in down} | self._health

    def down(self) -> frozenset[str]:
        """Members that are down."""
        return frozenset(member_id for member_id, health in self._health.items() if not health.up)

    def want(self, desired: DesiredInstance, netns: str) -> None:
        """Ask exactly the members that are there now; whoever stays keeps the verdict."""
        targets = targets_of(desired)
        self._health = {key: health for key, health in self._health.items() if key in targets}
        for target in [old for old in self._tasks if targets.get(old.member_id) != old]:
            self._tasks.pop(target).cancel()
        for target in targets.values():
            if target not in self._tasks:
                self._tasks[target] = asyncio.get_running_loop().create_task(self._ask_on(target, netns))

    def stop(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _ask_on(self, target: Target, netns: str) -> None:
        while True:
            began = monotonic_s()
            async with self._slots:
                good = await ask(target, netns)
            before = self._health.get(target.member_id, Health())
            after = judge(before, good=good, rise=target.monitor.max_retries, fall=target.monitor.max_retries_down)
            self._health[target.member_id] = after
            if after.up != before.up:
                self._changed()
            await asyncio.sleep(max(0.05, target.monitor.delay - (monotonic_s() - began)))


async def ask(target: Target, netns: str) -> bool:
    """Whether the member gives a good answer within the monitor's time."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    datagram = target.monitor.type == "UDP-CONNECT"
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    try:
        made = await asyncio.to_thread(in_namespace, netns, lambda: socket.socket(family, kind | socket.SOCK_NONBLOCK))
    except OSError:
        return False
    with made:
        try:
            async with asyncio.timeout(target.monitor.timeout):
                return await (_ask_datagram(made, target) if datagram else _ask_stream(made, target))
        except TimeoutError:
            return datagram and await _has_neighbour(target.address, netns)
        except OSError:
            return False


async def _ask_datagram(made: socket.socket, target: Target) -> bool:
    loop = asyncio.get_running_loop()
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    await loop.sock_connect(made, (target.address, target.port))
    await loop.sock_sendall(made, b"X")
    await loop.sock_recv(made, _ANSWER_MAX)
    return True


async def _ask_stream(made: socket.socket, target: Target) -> bool:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, (target.address, target.port))
    if target.monitor.type == "TCP":
        return True
    await loop.sock_sendall(made, request(target.monitor, target.address))
    answer = b""
    while b"\r\n" not in answer and len(answer) < _ANSWER_MAX:
        piece = await loop.sock_recv(made, _ANSWER_MAX)
        if not piece:
            break
        answer += piece
    return is_expected(answer, target.monitor.expected_codes)


async def _has_neighbour(address: str, netns: str) -> bool:
    """False if the machine at an on-link address does not even answer ARP or neighbour discovery."""
    with contextlib.suppress(VrataError):
        where = str(ipaddress.ip_address(address))
        for entry in await ip.query("-6" if ":" in where else "-4", "neigh", "show", "to", where, netns=netns):
            if _UNREACHABLE & set(entry.get("state", ())):
                return False
    return True
