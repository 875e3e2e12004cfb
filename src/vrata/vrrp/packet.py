"""The VRRPv3 good-bye: an advertisement with priority 0 (RFC 9568, section 5.2), as bytes. Does no I/O.

keepalived sends one when it ends by itself. For one that was killed somebody else must, or the standby waits out its
timer while nobody holds the addresses.
"""

import ipaddress
import struct

PROTOCOL = 112
_VERSION_AND_TYPE = 0x31


def encode_goodbye(router_id: int, advert_interval_ms: int, source: str, peer: str, virtual: tuple[str, ...]) -> bytes:
    """The VRRP message for one unicast peer; `virtual` are the advertised addresses (plain, of the source's family)."""
    addresses = b"".join(ipaddress.ip_address(address).packed for address in virtual)
    head = struct.pack("!BBBBH", _VERSION_AND_TYPE, router_id, 0, len(virtual), advert_interval_ms // 10)
    body = head + b"\0\0" + addresses
    check = _checksum(_pseudo_header(source, peer, len(body)) + body)
    return head + struct.pack("!H", check) + addresses


def _pseudo_header(source: str, peer: str, length: int) -> bytes:
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(peer)
    if one.version == 6:
        return one.packed + other.packed + struct.pack("!IHBB", length, 0, 0, PROTOCOL)
    return one.packed + other.packed + struct.pack("!BBH", 0, PROTOCOL, length)


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
