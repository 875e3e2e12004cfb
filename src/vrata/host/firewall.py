"""Security groups on an instance's legs, and before the targets of floating addresses, as nftables rules (nft(8)).

What is judged is a packet as it came, before any translation. What the pair needs among itself (VRRP, HAProxy's peers,
conntrackd; `vrata.host.pair_guard` has judged it) and IPv6's neighbour discovery always enter, and answers to what
went out. Does no I/O.
"""

import re

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, Firewall, FirewallRule
from vrata.host.pair_guard import CONNTRACK_PORT, PEERS_PORT
from vrata.host.rules import Chain, Table, braces, cidrs_of

TABLE = "inet vrata_firewall"
_ICMP = {"icmp": ("icmp", 4), "ipv6-icmp": ("icmpv6", 6)}
_NAMED = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}
_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_FAMILIES = {"IPv4": (4, "ip"), "IPv6": (6, "ip6")}
_DISCOVERY = braces(
    ("nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert", "nd-redirect",
     "mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report")
)  # fmt: skip


def compile_firewall(desired: DesiredInstance) -> Table:
    """The table of an instance; an empty one where everything may enter through every leg."""
    guarded = [leg for leg in desired.legs if leg.firewall is not None]
    if not guarded:
        return Table(TABLE)
    chains = {}
    for leg in guarded:
        assert leg.firewall is not None
        chains[f"leg_{leg.name}"] = Chain(
            ("ct state established,related accept", *_pair(desired), *compile_rules(leg.firewall), "drop")
        )
    # After connection tracking (-200), before any translation (-100).
    hook = "type filter hook prerouting priority -160; policy accept;"
    chains["enter"] = Chain(tuple(f'iifname "{leg.name}" goto leg_{leg.name}' for leg in guarded), hook)
    return Table(TABLE, {}, chains)


def _pair(desired: DesiredInstance) -> list[str]:
    rules = [f"icmpv6 type {_DISCOVERY} accept"]
    for version, ip in _FAMILIES.values():
        peers = cidrs_of("vrrp.peers", desired.vrrp.peers, version)
        if peers:
            rules += [
                f"{ip} saddr {braces(peers)} meta l4proto 112 accept",
                f"{ip} saddr {braces(peers)} tcp dport {PEERS_PORT} accept",
                f"{ip} saddr {braces(peers)} udp dport {CONNTRACK_PORT} accept",
            ]
    return rules


def compile_rules(firewall: Firewall) -> list[str]:
    """One nft rule for each of the firewall's; what none accepts goes on to the next rule."""
    return [" ".join((f"meta nfproto {rule.ethertype.lower()}", *_words(rule))) for rule in firewall.rules]


def compile_rules4(firewall: Firewall) -> list[str]:
    """The same for a table of IPv4 alone, which does not know the word for a family."""
    words = [_words(rule) for rule in firewall.rules if rule.ethertype != "IPv6"]
    return [" ".join(one) for one in words]


def _words(rule: FirewallRule) -> list[str]:
    if rule.ethertype not in _FAMILIES:
        raise InvalidInput("firewall.ethertype", rule.ethertype, "use IPv4 or IPv6")
    version, ip = _FAMILIES[rule.ethertype]
    words: list[str] = []
    if rule.remotes:
        remotes = cidrs_of("firewall.remotes", rule.remotes, version)
        if len(remotes) == 0:
            raise InvalidInput("firewall.remotes", rule.remotes, f"use {rule.ethertype} networks")
        words.append(f"{ip} saddr {braces(remotes)}")
    if rule.protocol is not None:
        words += _protocol(rule)
    return [*words, "accept"]


def _protocol(rule: FirewallRule) -> list[str]:
    protocol, low, high = str(rule.protocol), rule.port_range_min, rule.port_range_max
    if protocol in _ICMP:
        name, version = _ICMP[protocol]
        if (version == 6) != (rule.ethertype == "IPv6"):
            raise InvalidInput("firewall.protocol", protocol, f"use the ICMP of {rule.ethertype}")
        words = [f"{name} type {_within('port_range_min', low, 255)}"] if low is not None else [f"meta l4proto {name}"]
        return [*words, f"{name} code {_within('port_range_max', high, 255)}"] if high is not None else words
    if not re.fullmatch(r"[0-9]{1,3}", protocol) and protocol not in _NAMED:
        raise InvalidInput("firewall.protocol", protocol, f"use a number or one of {', '.join(_NAMED)}")
    number = _within("protocol", _NAMED.get(protocol) or int(protocol), 255)
    low, high = (high if low is None else low), (low if high is None else high)
    if low is None or high is None:
        return [f"meta l4proto {number}"]
    if number not in _WITH_PORTS:
        raise InvalidInput("firewall.port_range_min", low, f"protocol {protocol} has no ports")
    first, last = _within("port_range_min", low, 65_535), _within("port_range_max", high, 65_535)
    if first > last:
        raise InvalidInput("firewall.port_range_min", first, "use one that is not above port_range_max")
    return [f"{_WITH_PORTS[number]} dport {first}-{last}" if first != last else f"{_WITH_PORTS[number]} dport {first}"]


def _within(field: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidInput(f"firewall.{field}", value, f"use a number from 0 to {most}")
    return value
