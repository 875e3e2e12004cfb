"""Lists as Keystone answers them: filters on attributes, exact or by comparator (`name__contains`), tags, pages. Pure.

Keystone passes over a filter that it does not know and answers everything; a client that deletes what it is given then
deletes the wrong ones. So a name that is no filter of the list is refused here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from vrata.cloud.http import Answer, ApiError, Call
from vrata.cloud.listing import FALSE, tagged
from vrata.cloud.store import Row

# gophercloud writes its map of filters twice: each under its own name, and all of them as `-`.
_PASSED_OVER = frozenset({"limit", "marker", "-"})
_TAGS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_COMPARATORS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda have, asked: asked in have,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


def unknown(name: str, known: Sequence[str]) -> ApiError:
    """400 for a parameter that would be passed over."""
    return ApiError(400, f"Invalid query parameter {name!r}: this list is filtered by {', '.join(sorted(known))}.")


def flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is true where it is there, with any value but 0 or false."""
    return name in query and query[name].lower() not in FALSE


def kept(call: Call, rows: list[Row], names: Sequence[str]) -> list[Row]:
    """The rows as shown that every filter of the query string lets through; `names` are the attributes to filter by."""
    tags: dict[str, set[str]] = {}
    for key, value in call.query:
        name, _, comparator = key.partition("__")
        if key in _PASSED_OVER:
            continue
        if key in _TAGS and "tags" in names:
            tags.setdefault(key, set()).update(value.split(","))
        elif name not in names or (comparator and comparator.removeprefix("i") not in _COMPARATORS):
            raise unknown(key, names)
        elif comparator:
            rows = [row for row in rows if _compares(row.get(name), value, comparator)]
        else:
            rows = [row for row in rows if _is(row.get(name), value)]
    return [row for row in rows if tagged(row, tags)] if tags else rows


def _is(have: Any, asked: str) -> bool:
    if isinstance(have, bool):
        return have == (asked.lower() not in FALSE)
    return bool(have == asked)


def _compares(have: Any, asked: str, comparator: str) -> bool:
    if not isinstance(have, str):
        return False
    if comparator.startswith("i"):
        have, asked, comparator = have.lower(), asked.lower(), comparator[1:]
    compare = _COMPARATORS[comparator]
    return compare(have, asked)


def answer(call: Call, collection: str, rows: list[Row], names: Sequence[str]) -> Answer:
    """The collection's page that is asked for, with a link to the next one."""
    rows, query = kept(call, rows, names), dict(call.query)
    if query.get("marker"):
        at = next((index for index, row in enumerate(rows) if row.get("id") == query["marker"]), None)
        if at is None:
            raise ApiError(400, f"Marker {query['marker']!r} could not be found.")
        rows = rows[at + 1 :]
    limit = query.get("limit", "0")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise ApiError(400, f"Invalid query parameter 'limit': {limit!r} is no number.")
    shown, following = rows, None
    if 0 < int(limit) < len(rows):
        shown = rows[: int(limit)]
        pairs = [*((key, value) for key, value in call.query if key != "marker"), ("marker", shown[-1]["id"])]
        following = f"{call.url}?{urlencode(pairs)}"
    return Answer(body={collection: shown, "links": {"next": following, "previous": None, "self": call.url}})
