"""When the peer was heard last: what makes the length of a failover a measured one. Does no I/O.

The kernel notes each advert of the peer (VRRP, RFC 9568; protocol 112) in a set whose elements expire an hour later
(nft(8)), so that what is left of the hour says how long ago it came. Nothing wakes for an advert, and it may be asked
any time after the switch: an active instance hears no more of them.
"""

import re

from vrata.base.wire import Cause
from vrata.host.rules import Chain, Table

TABLE = "inet vrata_adverts"
SET = "heard"
_KEPT_S = 3600
_SILENT_INTERVALS = 2  # a standby waits for three, and after a good-bye for less than one
_EXPIRES = re.compile(r"\bexpires ((?:\d+(?:ms|[dhms]))+)")
_PART = re.compile(r"(\d+)(ms|[dhms])")
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def table() -> Table:
    """The same for every instance, whoever its peer is at the moment: peers come and go while it remembers.

    A pair speaks unicast (`vrata.vrrp.render`); tenants' own VRRP goes to a group.
    """
    heard = ("set", f"type inet_proto; size 2; flags dynamic,timeout; timeout {_KEPT_S}s;")
    enter = Chain(
        (f"meta pkttype host meta l4proto 112 update @{SET} {{ meta l4proto }}",),
        "type filter hook prerouting priority raw; policy accept;",
    )
    return Table(TABLE, {SET: heard}, {"enter": enter})


def parse_silence(listing: str) -> float | None:
    """Seconds since the last advert, from what `nft list set` prints; None if none came within the hour."""
    left = _EXPIRES.search(listing)
    if left is None:
        return None
    left_s = sum(int(number) * _UNITS_S[unit] for number, unit in _PART.findall(left[1]))
    return max(0.0, _KEPT_S - left_s)


def cause_of(silent_s: float | None, advert_interval_ms: int) -> Cause:
    """Why an instance became active that had not heard its peer for so long."""
    if silent_s is None:
        return Cause.FIRST
    return Cause.SILENCE if silent_s * 1000 >= _SILENT_INTERVALS * advert_interval_ms else Cause.GOODBYE
