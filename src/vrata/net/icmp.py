"""ICMP echo requests and their answers as bytes (RFC 792; RFC 4443, section 4). Does no I/O.

Anybody can send echo replies: whoever asks compares the sender, and a sequence number that others cannot know.
"""

import ipaddress
import os
import struct

_ECHO, _ECHO_REPLY = 8, 0
_ECHO6, _ECHO_REPLY6 = 128, 129
_IDENT = int.from_bytes(os.urandom(2), "big")  # of this process; others cannot know it


def is_from(sender: str, address: str) -> bool:
    """Whether a packet came from this address: `sender` as recvfrom(2) names it, with the zone of a link-local one."""
    return ipaddress.ip_address(sender.partition("%")[0]) == ipaddress.ip_address(address.partition("%")[0])


def echo_request(number: int, *, six: bool) -> bytes:
    """An ICMP message; the kernel itself fills in the checksum of ICMPv6."""
    head = struct.pack("!BBHHH", _ECHO6 if six else _ECHO, 0, 0, _IDENT, number)
    message = head + b"vrata!"
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", 0 if six else ~total & 0xFFFF) + message[4:]


def parse_echo_reply(packet: bytes, *, six: bool) -> int | None:
    """Sequence number of an answer to this process; None for every other packet. IPv4 ones carry their IP header."""
    start = 0 if six else (packet[0] & 0x0F) * 4 if packet else 0
    message = packet[start : start + 8]
    if len(message) < 8:
        return None
    kind, _, _, ident, number = struct.unpack("!BBHHH", message)
    return number if kind == (_ECHO_REPLY6 if six else _ECHO_REPLY) and ident == _IDENT else None
