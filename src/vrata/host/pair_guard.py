"""Lets in what the instances of a pair send each other, from the peer alone, as nftables rules (nft(8)).

VRRP, HAProxy's peers and conntrackd trust whoever reaches them, and an instance's first leg is on a tenant's network. A
packet of theirs enters only with the peer's IP and MAC address, and VRRP only with a TTL of 255, which no router passes
on (RFC 9568, section 5.1.1.3). Everything else of these protocols is dropped before any other rule sees it. What merely
passes through a gateway is not judged. Does no I/O.

keepalived's own `check_unicast_src` is not used: a new instance must hear the ones that it replaces, which are no peers of
it any more.
"""

import ipaddress
import re

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance
from vrata.host.rules import Chain, Table, braces

TABLE = "inet vrata_pair"
PEERS_PORT = 1025
CONNTRACK_PORT = 3780
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_WORDS = {4: ("ip", "ttl"), 6: ("ip6", "hoplimit")}


def compile_pair_guard(desired: DesiredInstance) -> Table:
    """The table of an instance. Where MAC addresses are not known (an older cloud), IP addresses have to do."""
    vrrp, leg = desired.vrrp, desired.legs[0].name
    source = _address("vrrp.source", vrrp.source)
    family, ttl = _WORDS[source.version]
    addresses = [one.address for one in vrrp.neighbours] or [*vrrp.peers, *vrrp.ghosts]
    macs = tuple(one.mac_address for one in vrrp.neighbours) or vrrp.peer_macs
    senders = _senders(family, [str(_address("vrrp.neighbours", one)) for one in addresses], macs)
    vrrp_rules = [f'iifname "{leg}" {sender} {family} {ttl} 255 accept' for sender in senders]
    pair_rules = [f'iifname "{leg}" {sender} accept' for sender in senders]
    to_daemons = f"{family} daddr {source}"
    return Table(
        TABLE,
        {"forged": ("counter", "")},
        {
            "vrrp": Chain((*vrrp_rules, "fib daddr type { local, broadcast, multicast } counter name forged drop")),
            "daemons": Chain((*pair_rules, "counter name forged drop")),
            "enter": Chain(
                (
                    "meta l4proto 112 goto vrrp",
                    f"{to_daemons} udp dport {CONNTRACK_PORT} goto daemons",
                    f"{to_daemons} tcp dport {PEERS_PORT} goto daemons",
                ),
                # Before the table that notes when the peer was heard last (priority raw, -300).
                "type filter hook prerouting priority -310; policy accept;",
            ),
        },
    )


def mac_address(value: str) -> str:
    """A peer's MAC address in lower case; InvalidInput if it is none."""
    if not _MAC.fullmatch(value):
        raise InvalidInput("vrrp.peer_macs", value, "use six octets such as fa:16:3e:00:00:01")
    return value.lower()


def _senders(family: str, addresses: list[str], macs: tuple[str, ...]) -> list[str]:
    if not addresses:
        return []
    if len(macs) != len(addresses):
        return [f"{family} saddr {braces(addresses)}"]
    pairs = (f"{mac_address(mac)} . {address}" for address, mac in zip(addresses, macs, strict=True))
    return [f"ether saddr . {family} saddr {braces(pairs)}"]


def _address(field: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
