"""Interfaces, their addresses and policy rules of the current network namespace, asked of the kernel (rtnetlink(7)).

Only questions: changes go through `vrata.net.ip`. An answer takes a fraction of a millisecond, an `ip` that is started
for it ten or twenty, and an agent looks at every instance again and again.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vrata.net.routes import Route

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_INTERFACE = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths, TOS, table, protocol, scope, type, flags
_RULE = struct.Struct("=BBBBBxxBI")  # fib_rule_hdr: family, destination and source length, TOS, table, action, flags
_REQUEST, _MULTI, _DUMP = 0x1, 0x2, 0x300
_ERROR, _DONE = 2, 3
_GETLINK, _GETADDR, _GETROUTE, _GETRULE = 18, 22, 26, 34
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_EXT_MASK = 1, 3, 4, 10, 29
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_UNICAST, _LOCAL = 1, 2
_IFF_UP = 0x1
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE = 2, 6, 15
_SCOPE_GLOBAL = 0
_NAME_MAX = 15
_BUFFER = 256 * 1024

_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


@dataclass(frozen=True)
class Address:
    """An address with its prefix length; `is_global`: not of this link or host only."""

    cidr: str
    is_global: bool


@dataclass(frozen=True)
class Link:
    """One interface; `master` is the index of the bridge it is plugged into."""

    index: int
    name: str
    mac_address: str
    mtu: int
    master: int | None
    addresses: tuple[Address, ...] = ()
    is_up: bool = True


def list_links() -> tuple[Link, ...]:
    """Every interface with its addresses; OSError if the kernel gives no answer."""
    addresses: dict[int, list[Address]] = {}
    for message in _ask(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _DUMP):
        _, prefix, _, scope, index = _ADDRESS.unpack_from(message)
        found = _attributes(message[_ADDRESS.size :])
        address = ipaddress.ip_address(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS])
        addresses.setdefault(index, []).append(Address(f"{address}/{prefix}", scope == _SCOPE_GLOBAL))
    links = (_link(message) for message in _ask(_GETLINK, _interfaces(), _DUMP))
    return tuple(replace(one, addresses=tuple(addresses.get(one.index, ()))) for one in links)


def find_link(name: str) -> Link | None:
    """The interface of this name, without its addresses; None if there is none."""
    if not 0 < len(name) <= _NAME_MAX:
        return None
    try:
        [message] = _ask(_GETLINK, _interfaces() + _encode(_IFLA_IFNAME, name.encode() + b"\0"))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(message)


def list_routes() -> frozenset[Route]:
    """Every route of one interface; of those in the local table only what is given to loopback."""
    found = set()
    for message in _ask(_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), _DUMP):
        family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(message)
        attributes = _attributes(message[_ROUTE.size :])
        index = _number(attributes.get(_RTA_OIF))
        if index is None or kind not in (_UNICAST, _LOCAL) or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        everything = bytes(4 if family == socket.AF_INET else 16)
        to = f"{ipaddress.ip_address(attributes.get(_RTA_DST, everything))}/{length}"
        via = str(ipaddress.ip_address(attributes[_RTA_GATEWAY])) if _RTA_GATEWAY in attributes else ""
        with contextlib.suppress(OSError):  # an interface that has just gone
            dev = socket.if_indextoname(index)
            found.add(Route(to, dev, via, _number(attributes.get(_RTA_TABLE)) or table, kind == _LOCAL))
    return frozenset(one for one in found if not one.local or one.dev == "lo")


def list_source_rules(priority: int) -> frozenset[tuple[str, int]]:
    """(source address, table) of the policy rules of this priority that look at a single source."""
    found = set()
    for message in _ask(_GETRULE, _RULE.pack(0, 0, 0, 0, 0, 0, 0), _DUMP):
        attributes = _attributes(message[_RULE.size :])
        if _number(attributes.get(_FRA_PRIORITY)) == priority and _FRA_SRC in attributes:
            source = str(ipaddress.ip_address(attributes[_FRA_SRC]))
            found.add((source, _number(attributes.get(_FRA_TABLE)) or 0))
    return frozenset(found)


def _interfaces() -> bytes:
    return _INTERFACE.pack(0, 0, 0, 0, 0) + _encode(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))


def _link(message: bytes) -> Link:
    found = _attributes(message[_INTERFACE.size :])
    _, _, index, flags, _ = _INTERFACE.unpack_from(message)
    return Link(
        index=index,
        name=found[_IFLA_IFNAME].rstrip(b"\0").decode(),
        mac_address=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(_IFLA_MTU)) or 0,
        master=_number(found.get(_IFLA_MASTER)),
        is_up=bool(flags & _IFF_UP),
    )


def _ask(kind: int, payload: bytes, flags: int = 0) -> Iterator[bytes]:
    """The messages of the answer, each without its header."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | flags, 1, 0) + payload)
        while True:
            data = kernel.recv(_BUFFER)
            while data:
                length, answer, answer_flags, _, _ = _HEADER.unpack_from(data)
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", data, _HEADER.size)[0]
                    raise OSError(code, "the kernel refuses to list interfaces")
                yield data[_HEADER.size : length]
                if not answer_flags & _MULTI:
                    return
                data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _encode(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(struct.unpack("=I", value)[0])
