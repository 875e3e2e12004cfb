"""Lists of the key manager (Barbican v1, «Secrets»): what a query may ask for, order, slices with links beside them.

A parameter that is no filter is refused: a client that asks for some must not be given all.
"""

import operator
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from vrata.cloud.http import Answer, ApiError, Call
from vrata.cloud.store import Row

PAGE, PAGE_MAX = 10, 100
_PAGING = frozenset({"limit", "offset", "marker"})
_BOUNDS = {"gte:": operator.ge, "gt:": operator.gt, "lte:": operator.le, "lt:": operator.lt}


def bad_query(why: str) -> ApiError:
    """400 as Barbican begins it."""
    return ApiError(400, f"URI provided invalid query string parameters: {why}")


def asked(call: Call, *names: str) -> dict[str, str]:
    """The filters of the query string; 400 for a name that is none of these. An empty value asks for nothing."""
    query = dict(call.query)
    unknown = query.keys() - {*names, *_PAGING}
    if unknown:
        raise bad_query(f"{min(unknown)!r} is none of {', '.join(sorted((*names, *_PAGING)))}.")
    return {name: query[name] for name in names if query.get(name)}


def between(text: str) -> Callable[[datetime | None], bool]:
    """Whether a time is what `gt:TIME,lte:TIME` or `TIME` asks for; 400 for what is no time."""
    bounds = []
    for part in text.split(","):
        prefix = next((one for one in _BOUNDS if part.startswith(one)), "")
        bounds.append((_BOUNDS.get(prefix, operator.eq), _moment(part.removeprefix(prefix))))
    return lambda moment: moment is not None and all(holds(moment, bound) for holds, bound in bounds)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise bad_query(f"{text!r} is no time in ISO 8601.") from error


def ordered(rows: list[Row], text: str, columns: dict[str, str]) -> list[Row]:
    """In the order of `name:asc,created:desc`; `columns` are the keys that it may name."""
    for key, _, way in reversed([part.partition(":") for part in text.split(",")]):
        if key not in columns or way not in {"", "asc", "desc"}:
            raise bad_query(f"sort {text!r}: use {', '.join(columns)}, each with :asc or :desc.")
        name = columns[key]
        rows = sorted(rows, key=lambda row, name=name: (row[name] is not None, row[name] or 0), reverse=way == "desc")  # type: ignore[misc]
    return rows


def page(call: Call, rows: Sequence[Row], collection: str, show_row: Callable[[Call, Row], Any]) -> Answer:
    """A slice of the rows with the total and links to the slices beside it."""
    query = dict(call.query)
    start, limit = natural(query.get("offset"), 0), min(natural(query.get("limit"), PAGE) or PAGE, PAGE_MAX)
    if query.get("marker"):
        start = 1 + next((at for at, row in enumerate(rows) if row["id"] == query["marker"]), len(rows))
    body: Row = {collection: [show_row(call, row) for row in rows[start : start + limit]], "total": len(rows)}
    kept = [pair for pair in call.query if pair[0] not in _PAGING]

    def link(offset: int) -> str:
        return f"{call.url}?{urlencode([*kept, ('limit', limit), ('offset', offset)])}"

    if start + limit < len(rows):
        body["next"] = link(start + limit)
    if start:
        body["previous"] = link(max(0, start - limit))
    return Answer(body=body)


def natural(text: str | None, default: int) -> int:
    """A number of the query string; the default for what is none, as Barbican takes it."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default
