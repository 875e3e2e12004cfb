"""Connections outlive a switch between two living instances: the active one passes packets on that its peer serves.

A TCP connection ends in the HAProxy that accepted it, and the addresses move without it. So every instance takes in
packets for the virtual addresses wherever these are (a local route; nobody is told by ARP), marks the connections whose
SYN it saw, and gives packets of all others to its peer unchanged, by `dup` (nft(8)); the peer answers the client itself.
That is done only while the peer is known to live: it was active an instant ago (its adverts are heard), or it answers
the pings that `vrata.host.peer_ping` sends after a switch. Otherwise the packet takes the usual way, and the client is
reset at once instead of being kept waiting by a dead machine.

What comes from the peer's own MAC address is never sent back. Does no I/O.
"""

import hashlib
import ipaddress

from vrata.base.wire import DesiredInstance, InstanceKind
from vrata.host.forwarding import virtual_addresses
from vrata.host.pair_guard import mac_address
from vrata.host.rules import Chain, Table, braces

NAME = "vrata_handover"
# An answer to a ping proves life for so long: an agent that ends may be back by then. One that lives takes the proof back
# when the peer answers no more (`vrata.host.peer_ping`).
ECHO_ALIVE_MS = 15_000
# And an advert for so many intervals, one more than the standby waits, and as long as an agent may need to take notice.
_ADVERTS_ALIVE, _HEARD_ALIVE_MS = 4, 500
_ALIVE, _PASS = 0x76, 0x77
PROOF_OF_LIFE = ("inet", NAME, "alive", f"{{ {_ALIVE:#x} }}")  # family, table, set, element
_ADDRESSES = {4: "ip", 6: "ip6"}


def compile_handover(desired: DesiredInstance, served: tuple[int, ...]) -> tuple[Table, ...]:
    """The tables of an instance whose HAProxy listens on these ports; empty ones without a peer or a port."""
    empty = (Table(f"inet {NAME}"), Table(f"ip {NAME}"), Table(f"ip6 {NAME}"))
    vrrp = desired.vrrp
    if desired.kind is not InstanceKind.BALANCER or not served or len(vrrp.peers) != 1 or len(vrrp.peer_macs) != 1:
        return empty
    peer, mac, leg = ipaddress.ip_address(vrrp.peers[0]), mac_address(vrrp.peer_macs[0]), desired.legs[0].name
    heard = max(_ADVERTS_ALIVE * vrrp.advert_interval_ms, _HEARD_ALIVE_MS)
    source = f"ether saddr {mac} {_ADDRESSES[peer.version]} saddr {peer}"
    echo = "icmp type echo-reply" if peer.version == 4 else "icmpv6 type echo-reply"
    ports = braces(str(port) for port in sorted(set(served)))
    mine = connection_mark(desired.id)
    enter = [
        f"{source} {proof} meta mark set {_ALIVE} update @alive {{ meta mark timeout {alive_ms}ms }}"
        for proof, alive_ms in (("meta l4proto 112", heard), (echo, ECHO_ALIVE_MS))
    ]
    for version, family in _ADDRESSES.items():
        own = virtual_addresses(desired, version)
        if own:
            here = f"{family} daddr {braces(own)} tcp dport {ports} tcp flags"
            enter += [
                f"{here} & (fin | syn | rst | ack) == syn ct mark set {mine}",
                f"{here} & syn == 0 ct state invalid goto pass",
                f"{here} & syn == 0 ct mark != {mine} goto pass",
            ]
    judge = (
        f"ether saddr {mac} return",
        f"meta mark set {_ALIVE} meta mark @alive meta mark set {_PASS} return",
        "meta mark set 0",
    )
    # After connection tracking (-200) and the firewall (-160), before any translation (-100).
    hook = "type filter hook prerouting priority {}; policy accept;"
    chains = {"pass": Chain(judge), "enter": Chain(tuple(enter), hook.format(-155)), **_untracked(desired)}
    alive = {"alive": ("set", "type mark; size 16; flags dynamic,timeout; timeout 1s;")}
    four, six = peer_addresses(desired)
    out = {"ip": four, "ip6": six}
    rules = {family: f'meta mark {_PASS} dup to {to} device "{leg}" drop' for family, to in out.items()}
    leave = [Table(f"{family} {NAME}", {}, {"enter": Chain((rules[family],), hook.format(-150))}) for family in rules]
    return Table(f"inet {NAME}", alive, chains), *leave


def _untracked(desired: DesiredInstance) -> dict[str, Chain]:
    """HAProxy's own connections, to members, need no tracking, and are not slowed by it; a firewall asks for it."""
    if any(leg.firewall is not None for leg in desired.legs):
        return {}
    into, out = [], []
    for version, family in _ADDRESSES.items():
        # On a leg without a virtual address the kernel's own forwarding answers with a fixed one.
        own = [cidr for leg in desired.legs if _of(leg.virtual, version) for cidr in _of(leg.fixed, version)]
        if own:
            fixed = braces(sorted(own))
            into.append(f"{family} daddr {fixed} meta l4proto tcp notrack")
            out.append(f"{family} saddr {fixed} meta l4proto tcp notrack")
    hook = "type filter hook {} priority raw; policy accept;"
    return {
        "raw_in": Chain(tuple(into), hook.format("prerouting")),
        "raw_out": Chain(tuple(out), hook.format("output")),
    }


def _of(cidrs: tuple[str, ...], version: int) -> list[str]:
    found = (ipaddress.ip_interface(cidr).ip for cidr in cidrs)
    return [str(address) for address in found if address.version == version]


def local_addresses(desired: DesiredInstance) -> tuple[str, ...]:
    """The virtual addresses as CIDRs: whoever accepted a connection for one may go on with it without holding it."""
    if desired.kind is not InstanceKind.BALANCER:
        return ()
    return tuple(f"{a}/{32 if v == 4 else 128}" for v in _ADDRESSES for a in virtual_addresses(desired, v))


def connection_mark(instance_id: str) -> int:
    """What connections of this instance are marked with; never 0."""
    return int.from_bytes(hashlib.blake2s(instance_id.encode(), digest_size=4).digest(), "big") | 1


def peer_addresses(desired: DesiredInstance) -> tuple[str, str]:
    """Where the peer is reached on the first leg with IPv4 and with IPv6.

    One is the address VRRP speaks to; the other family has none of its own, but every leg has what its MAC address
    gives: a link-local one (RFC 4291), and the anchor of `vrata.host.render.anchored`.
    """
    peer, mac = ipaddress.ip_address(desired.vrrp.peers[0]), mac_address(desired.vrrp.peer_macs[0])
    return (str(peer) if peer.version == 4 else anchor(mac)), link_local(mac)


def anchor(mac: str) -> str:
    """An address of 169.254.0.0/16 (RFC 3927) made of the last two octets of a MAC address."""
    high, low = mac.split(":")[-2:]
    return f"169.254.{int(high, 16) or 1}.{int(low, 16)}"


def link_local(mac: str) -> str:
    """The IPv6 address that the kernel gives an interface by its MAC address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
