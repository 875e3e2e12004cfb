"""Health of members that only the agent can check: Octavia's rise and fall, as pure values. Does no I/O.

Octavia health monitor: `max_retries` good answers in a row make ONLINE, `max_retries_down` bad ones make ERROR.
"""

import re
from dataclasses import dataclass

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, HealthMonitor, Member
from vrata.host.forwarding import kernel_pools

MONITORS = ("HTTP", "TCP", "UDP-CONNECT")
_TOKEN = re.compile(r"[A-Za-z]{1,16}")
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Health:
    """A verdict, and how many answers in a row spoke against it."""

    up: bool = True
    against: int = 0


@dataclass(frozen=True)
class Target:
    """One member as it shall be asked."""

    member_id: str
    address: str
    port: int
    monitor: HealthMonitor


def judge(health: Health, *, good: bool, rise: int, fall: int) -> Health:
    """The verdict after one more answer: `rise` good ones in a row make it up, `fall` bad ones down."""
    if good == health.up:
        return Health(health.up)
    needed = rise if good else fall
    against = health.against + 1
    return Health(good) if against >= needed else Health(health.up, against)


def targets_of(desired: DesiredInstance) -> dict[str, Target]:
    """Every monitored member that the kernel balances over, by its id; InvalidInput for a monitor it can not have."""
    out = {}
    for pool in kernel_pools(desired):
        monitor = pool.healthmonitor
        if monitor is not None:
            _check(monitor)
            for member in pool.members:
                out[member.id] = _target(member, monitor)
    return out


def _target(member: Member, monitor: HealthMonitor) -> Target:
    port = member.monitor_port or member.protocol_port
    return Target(member.id, member.monitor_address or member.address, port, monitor)


def _check(monitor: HealthMonitor) -> None:
    if monitor.type not in MONITORS:
        raise InvalidInput(
            "healthmonitor.type", monitor.type, f"use one of {', '.join(MONITORS)} where the kernel forwards"
        )
    if monitor.type == "HTTP":
        for field, value, grammar in (
            ("http_method", monitor.http_method, _TOKEN),
            ("url_path", monitor.url_path, _PATH),
            ("domain_name", monitor.domain_name or "localhost", _HOST),
        ):
            if not grammar.fullmatch(value):
                raise InvalidInput(f"healthmonitor.{field}", value, "use plain characters")
        expected(monitor.expected_codes)


def expected(codes: str) -> tuple[range, ...]:
    """Octavia's `expected_codes`: «200», «200,202», «200-204»."""
    out = []
    for part in codes.split(","):
        low, _, high = part.strip().partition("-")
        if not re.fullmatch(r"[1-5][0-9]{2}", low) or not re.fullmatch(r"[1-5][0-9]{2}|", high):
            raise InvalidInput("healthmonitor.expected_codes", codes, "use codes such as 200, 200,202 or 200-204")
        out.append(range(int(low), int(high or low) + 1))
    return tuple(out)


def request(monitor: HealthMonitor, address: str) -> bytes:
    """The HTTP request of a monitor."""
    host = monitor.domain_name or (f"[{address}]" if ":" in address else address)
    head = f"{monitor.http_method} {monitor.url_path} HTTP/{monitor.http_version:.1f}\r\n"
    return f"{head}Host: {host}\r\nConnection: close\r\nUser-Agent: vrata\r\n\r\n".encode("ascii")


def is_expected(answer: bytes, codes: str) -> bool:
    """Whether the first line of an HTTP answer has one of the codes."""
    found = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]", answer)
    return found is not None and any(int(found[1]) in wanted for wanted in expected(codes))
