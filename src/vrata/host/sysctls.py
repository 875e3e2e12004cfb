"""Kernel parameters of an instance's namespace: which ones it must have. Pure."""

from collections.abc import Iterable

ALWAYS = {
    # HAProxy listens on addresses that only the active instance holds.
    "net.ipv4.ip_nonlocal_bind": "1",
    "net.ipv6.ip_nonlocal_bind": "1",
    # Answer ARP only for what is on the asked interface, and ask with an address of it.
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}
FORWARDING = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
# A packet that tracking finds odd must not be taken for one of the peer's. Replicated connections lack window history.
LIBERAL = {"net.netfilter.nf_conntrack_tcp_be_liberal": "1"}
TRACKING = {**LIBERAL, "net.netfilter.nf_conntrack_tcp_timeout_time_wait": "10"}  # what is over makes room soon
# A machine that is gone is missed after seconds: silent UDP members have nobody else to tell. Not inherited from
# `default`, which is the whole machine's.
_NEIGHBOURS = {"base_reachable_time_ms": "3000", "delay_first_probe_time": "1"}


def neighbours(legs: Iterable[str]) -> dict[str, str]:
    """Of an instance that forwards packets between these legs."""
    return {
        f"net/{family}/neigh/{leg}/{key}": value
        for family in ("ipv4", "ipv6")
        for leg in legs
        for key, value in _NEIGHBOURS.items()
    }


def wanted(legs: Iterable[str], *, forwards: bool, tracking: dict[str, str]) -> dict[str, str]:
    """All parameters of an instance whose rules are loaded.

    `legs`: those that silent members are behind; `tracking`: parameters of connection tracking that it needs.
    """
    forwarding = FORWARDING if forwards else dict.fromkeys(FORWARDING, "0")
    return {**ALWAYS, **forwarding, **neighbours(legs), **tracking}


def all_of(legs: Iterable[str]) -> frozenset[str]:
    """The names of all that an instance may want."""
    return frozenset({**wanted(legs, forwards=True, tracking=TRACKING)})
