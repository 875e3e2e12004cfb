"""Rows of a route map: how a request finds the one backend that the Ingress v1 documentation gives it. Pure.

HAProxy looks a request up as `<host><path>/` and an END, and takes the longest row that this begins with (map_beg).
A Prefix is a row with a slash at its end, so that it matches whole path elements; an Exact path is one with slash and
END, which no longer row can match and no path may contain. So one look finds Exact before Prefix and the longest Prefix
before all others, as the documentation asks («Multiple matches»). A request is tried with its host, then with the
wildcard that the host's first label falls under, then with ANY.
"""

import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from urllib.parse import unquote

from vrata.ingress.model import Place, RowKey

ANY = "*"
_UNFIT = re.compile(r"[^!-\[\]-~\x01]", re.ASCII)  # for a row's key: `policy.lua` writes these likewise
END = "\x01"  # HAProxy refuses requests with control characters in their path (RFC 9112, section 3)


def prefix_row(host: str, path: str) -> RowKey:
    """The row of a Prefix; `/shop` and `/shop/` are the same one."""
    return RowKey(f"{host}{path.rstrip('/')}/")


def exact_row(host: str, path: str) -> RowKey:
    """The row of an Exact path."""
    return RowKey(f"{host}{path}/{END}")


def plain_rows(row: RowKey) -> Iterator[RowKey]:
    """The row of a path as servers read it that decode what they get, perhaps twice, or know no case."""
    before, text = "", str(row)
    while before != text:
        yield from (RowKey(_UNFIT.sub(_escape, one)) for one in (text, _lower(text)))
        before, text = text, unquote(text, "latin-1")


def _lower(text: str) -> str:
    return text.encode("latin-1").lower().decode("latin-1")  # ASCII only: the others are bytes of UTF-8


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02x}"


def moved_row(row: RowKey, host: str) -> RowKey:
    """The same path of another host."""
    return RowKey(f"{host}/{row.partition('/')[2]}")


def pattern_of(host: str, pattern: str) -> str:
    """The row of a path that is a regular expression: in any case, and for all that begins so (as ingress-nginx has it)."""
    # Alternatives are of the path, not of the host before it.
    return f"(?i)^{re.escape(host)}{f'(?:{pattern})' if '|' in pattern else pattern}"


def listed_patterns(host: str, patterns: Iterable[tuple[str, Place]]) -> Iterator[tuple[str, str]]:
    """Rows of the map of patterns: `host/number`, then a digest of all of the host's and their number, a place, a pattern.

    A request looks at those of its own host only, and sees by the digest that it has not looked at some of another time.
    """
    every = list(patterns)
    digest = hashlib.blake2s(repr((host, every)).encode(), digest_size=8).hexdigest()
    for number, (pattern, where) in enumerate(every):
        yield f"{host}/{number}", f"{digest} {len(every)} {where} {pattern}"


def read_patterns(rows: Mapping[str, str]) -> dict[str, tuple[tuple[str, Place], ...]]:
    """Patterns by host, in order."""
    found: dict[str, dict[int, tuple[str, Place]]] = {}
    for key, text in rows.items():
        host, _, number = key.rpartition("/")
        _, _, where, pattern = text.split(" ", 3)
        found.setdefault(host, {})[int(number)] = (pattern, Place(where))
    return {host: tuple(one for _, one in sorted(some.items())) for host, some in found.items()}


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
