"""UDP flows that the kernel tracks, beside what should be: pure (`vrata.net.conntrack` reads and deletes them).

UDP has no end that could be seen, and a flow keeps the endpoint, or the nobody, that its first packet met. So flows are
compared with what is balanced now: after each change, regularly, and after a restart.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_TUPLE = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


@dataclass(frozen=True)
class Target:
    """An address and a port."""

    address: str
    port: int


@dataclass(frozen=True)
class Flow:
    """Where a client's packets go, and who answers: `replies` is `asked` if nobody translated it."""

    asked: Target
    replies: Target


@dataclass(frozen=True)
class Frontends:
    """Where clients ask, and who may answer there. `ports`: on the machine's own addresses, whichever they are."""

    addresses: Mapping[Target, frozenset[Target]] = field(default_factory=dict)
    ports: Mapping[int, frozenset[Target]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.ports)


def parse_flows(text: str) -> Iterator[Flow]:
    """The output of `conntrack -L -p udp`."""
    for line in text.splitlines():
        tuples = _TUPLE.findall(line)
        if len(tuples) == 2:
            (_, asked, _, port), (replies, _, reply_port, _) = tuples
            yield Flow(Target(asked, int(port)), Target(replies, int(reply_port)))


def stale_flows(flows: Iterable[Flow], frontends: Frontends, own: frozenset[str]) -> frozenset[Flow]:
    """Flows that keep an endpoint that is gone, or that met nobody where somebody is now. `own`: the machine's addresses."""
    found = set()
    for flow in flows:
        alive = frontends.addresses.get(flow.asked)
        if alive is None and flow.asked.address in own:
            alive = frontends.ports.get(flow.asked.port)
        if alive is None:
            continue
        translated = flow.replies != flow.asked
        if (translated and flow.replies not in alive) or (not translated and alive):
            found.add(flow)
    return frozenset(found)
