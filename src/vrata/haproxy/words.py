"""The words of a HAProxy configuration line: the one quoting function, and the grammars every user-given word obeys.

HAProxy configuration manual 2.6, section 2.2 (quoting) and 2.5 (times). A value outside its grammar raises
InvalidInput with field, value and remedy. Does no I/O.
"""

import ipaddress
import re

from vrata.base.errors import InvalidInput

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@=+,-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_MAX_MS = 2_147_483_647
# For servers that speak HTTP/2, which would answer an upgrade to anything else by a tunnel instead of the request: 101, and
# HEAD becomes GET. HAProxy 3.0 takes an offer of h2c away itself, and leaves `Connection`.
ONLY_WEBSOCKETS = (
    "acl upgrades req.hdr(upgrade) -m found",
    "acl upgrades req.hdr(connection) -i upgrade",
    "acl websocket req.fhdr(upgrade) -i websocket",
    "acl offers_more req.fhdr_cnt(upgrade) gt 1",
    "http-request del-header '^(connection|upgrade)$' -m reg if upgrades !websocket",
    "http-request del-header '^(connection|upgrade)$' -m reg if offers_more",
)


def quote(word: str) -> str:
    """One argument of a configuration line, exactly as given; InvalidInput for control characters.

    Single quotes make everything literal (section 2.2); a single quote itself is put in double quotes. Where HAProxy
    reads the argument as a log format, the caller also doubles the per cent signs before quoting.
    """
    if not word.isprintable():
        raise InvalidInput("text", word, "use printable characters only")
    if _PLAIN.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def check_name(field: str, value: str) -> str:
    """A name of a proxy, server or peer."""
    if not _NAME.fullmatch(value):
        raise InvalidInput(field, value, "use letters, digits and _ . : -, beginning with a letter or digit")
    return value


def number(field: str, value: int, least: int, most: int) -> int:
    """A number within its limits."""
    if not least <= value <= most:
        raise InvalidInput(field, value, f"use a number from {least} to {most}")
    return value


def milliseconds(field: str, value: int) -> int:
    """A time that HAProxy takes."""
    return number(field, value, 1, _MAX_MS)


def address_word(field: str, value: str) -> str:
    """An address; one of IPv6 in brackets."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
    if address.version == 6 and address.scope_id:
        raise InvalidInput(field, value, "use an address without a zone")
    return f"[{address}]" if address.version == 6 else str(address)


def cidr_word(field: str, value: str) -> str:
    """A network."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise InvalidInput(field, value, "use a network such as 192.0.2.0/24") from None
