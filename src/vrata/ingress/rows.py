"""Rows of a route map: how a request finds the one backend that the Ingress v1 documentation gives it. Pure.

HAProxy looks a request up as `<host><path>/` and an END, and takes the longest row that this begins with (map_beg).
A Prefix is a row with a slash at its end, so that it matches whole path elements; an Exact path is one with slash and
END, which no longer row can match and no path may contain. So one look finds Exact before Prefix and the longest Prefix
before all others, as the documentation asks («Multiple matches»). A request is tried with its host, then with the
wildcard that the host's first label falls under, then with ANY.
"""

import re
from collections.abc import Container, Iterator

from vrata.ingress.model import RowKey

ANY = "*"
END = "\x01"  # HAProxy refuses requests with control characters in their path (RFC 9112, section 3)


def prefix_row(host: str, path: str) -> RowKey:
    """The row of a Prefix; `/shop` and `/shop/` are the same one."""
    return RowKey(f"{host}{path.rstrip('/')}/")


def exact_row(host: str, path: str) -> RowKey:
    """The row of an Exact path."""
    return RowKey(f"{host}{path}/{END}")


def moved_row(row: RowKey, host: str) -> RowKey:
    """The same path of another host."""
    return RowKey(f"{host}/{row.partition('/')[2]}")


def pattern_of(host: str, pattern: str) -> str:
    """The row of a path that is a regular expression: in any case, and for all that begins so (as ingress-nginx has it)."""
    return f"(?i)^{re.escape(host)}{pattern}"


def host_of_pattern(key: str) -> str:
    """The host that such a row belongs to."""
    return key.removeprefix("(?i)^").partition("/")[0].replace("\\", "")


def host_of(row: RowKey) -> str:
    """The host a row belongs to."""
    return row.partition("/")[0]


def candidates(host: str) -> Iterator[str]:
    """The hosts whose rules a request for `host` is tried with, in order."""
    yield host
    yield f"{ANY}.{host.partition('.')[2]}"
    yield ANY


def find_rows(rows: Container[RowKey], host: str, path: str) -> list[RowKey]:
    """The rows that are for a request, the one that HAProxy takes first."""
    found: list[RowKey] = []
    for candidate in candidates(host):
        asked = f"{candidate}{path}/{END}"
        lengths = range(len(asked), len(candidate), -1)
        found += [RowKey(asked[:length]) for length in lengths if asked[:length] in rows]
    return found
