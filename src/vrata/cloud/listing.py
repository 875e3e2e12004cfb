"""Lists as OpenStack answers them: filters on any attribute, tags, sort, marker pages, chosen fields, page links.

The same for Neutron and Octavia (octavia/api/common/pagination.py); both refuse a filter that they do not know.
Rows come in as the API shows them, so a filter means what the user sees.

The query string is read once, into sets: a list costs time in proportion to its rows plus the query, never their product.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from vrata.cloud.http import ApiError, Call

CONTROL = frozenset(
    {"limit", "marker", "page_reverse", "sort", "sort_key", "sort_dir", "fields", "tags", "tags-any", "not-tags",
     "not-tags-any"}
)  # fmt: skip
TRUE = frozenset({"true", "1", "yes"})
FALSE = frozenset({"false", "0", "no"})
_NULL = frozenset({"", "null", "None"})


@dataclass(frozen=True)
class Style:
    """Where the two APIs differ."""

    page: int | None  # page size when none is asked for
    links: bool  # are there even where they lead nowhere
    aliases: Mapping[str, str]
    unknown: Callable[[Sequence[str]], ApiError]  # names that are no filter: a list must not answer as if they were not


NEUTRON = Style(
    page=None, links=False, aliases={"tenant_id": "project_id"},
    unknown=lambda names: ApiError(400, f"{list(names)} is invalid attribute for filtering", "HTTPBadRequest"),
)  # fmt: skip
OCTAVIA = Style(
    page=1000, links=True, aliases={"tenant_id": "project_id"},
    unknown=lambda _names: ApiError(400, "One or more arguments are either duplicate or invalid"),
)  # fmt: skip


def page(
    call: Call,
    rows: Sequence[dict[str, Any]],
    collection: str,
    style: Style,
    *,
    known: Sequence[str],
    done: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The answer's body: the asked-for page of the rows that match, and links to its neighbours.

    `done` names filters that the query has applied already.
    """
    rows = _sorted(kept(call, rows, style, known=known, done=done), call, known)
    reverse = call.flag("page_reverse")
    query = dict(call.query)
    limit = _limit(query.get("limit"), style)
    start, stop = 0, len(rows)
    marker = query.get("marker")
    if marker is not None:
        at = next((index for index, row in enumerate(rows) if row.get("id") == marker), None)
        if at is None:
            raise ApiError(400, f"Supplied pagination marker '{marker}' is not valid.", "InvalidInput")
        start, stop = (0, at) if reverse else (at + 1, stop)
    if limit is not None:
        start, stop = (max(start, stop - limit), stop) if reverse else (start, min(stop, start + limit))
    shown = rows[start:stop]
    body: dict[str, Any] = {collection: select_fields(call, shown)}
    links = _links(call, shown, (start > 0, stop < len(rows))) if limit is not None else []
    if links or style.links:
        body[f"{collection}_links"] = links
    return body


def kept(
    call: Call,
    rows: Sequence[dict[str, Any]],
    style: Style,
    *,
    known: Sequence[str],
    done: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """The rows that match the query."""
    wanted = _wanted(call, style, known, done)
    tags = _asked_tags(call)
    return [row for row in rows if _matches(row, wanted) and (not tags or tagged(row, tags))]


def select_fields(call: Call, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only the attributes named by `fields`, all when none is."""
    names = {name for key, value in call.query if key == "fields" for name in value.split(",")}
    if not names:
        return list(rows)
    return [{name: value for name, value in row.items() if name in names} for row in rows]


@dataclass(slots=True)
class _Filter:
    """What one attribute may be: its values as given, and those of the form `part=value` by part."""

    values: set[str] = field(default_factory=set)
    lower: set[str] = field(default_factory=set)
    parts: dict[str, set[str]] = field(default_factory=dict)

    def add(self, value: str) -> None:
        """Accept one more value."""
        self.values.add(value)
        self.lower.add(value.lower())
        part, equals, rest = value.partition("=")
        if equals:
            self.parts.setdefault(part, set()).add(rest)


def _wanted(call: Call, style: Style, known: Sequence[str], done: frozenset[str]) -> dict[str, _Filter]:
    """The filters of the query string: name and accepted values."""
    wanted: dict[str, _Filter] = {}
    names = frozenset(known)
    unknown: list[str] = []
    for raw, value in call.query:
        name = style.aliases.get(raw, raw)
        if name in CONTROL or name in done:
            continue
        if name in names:
            wanted.setdefault(name, _Filter()).add(value)
        else:
            unknown.append(raw)
    if unknown:
        raise style.unknown(list(dict.fromkeys(unknown)))
    return wanted


def _matches(row: Mapping[str, Any], wanted: Mapping[str, _Filter]) -> bool:
    return all(_one_of(row.get(name), accepted) for name, accepted in wanted.items())


def _one_of(actual: Any, accepted: _Filter) -> bool:
    if isinstance(actual, bool):
        return not accepted.lower.isdisjoint(TRUE if actual else FALSE)
    if isinstance(actual, list):
        return any(_item_matches(item, accepted) for item in actual)
    if actual is None:
        return not accepted.values.isdisjoint(_NULL)
    return str(actual) in accepted.values


def _item_matches(item: Any, accepted: _Filter) -> bool:
    """`fixed_ips=ip_address=10.0.0.5`, `listeners=<id>` or a plain element."""
    if not isinstance(item, dict):
        return str(item) in accepted.values
    if item.get("id") in accepted.values:
        return True
    return any(str(value) in accepted.parts[part] for part, value in item.items() if part in accepted.parts)


def _asked_tags(call: Call) -> dict[str, set[str]]:
    asked: dict[str, set[str]] = {}
    for name, value in call.query:
        if name in {"tags", "tags-any", "not-tags", "not-tags-any"}:
            asked.setdefault(name, set()).update(value.split(","))
    return asked


def tagged(row: Mapping[str, Any], asked: Mapping[str, set[str]]) -> bool:
    """Whether the row's tags are what the filters on tags ask for, by the name of the filter."""
    tags = set(row.get("tags") or ())
    return (
        asked.get("tags", set()) <= tags
        and ("tags-any" not in asked or bool(asked["tags-any"] & tags))
        and ("not-tags" not in asked or not asked["not-tags"] <= tags)
        and ("not-tags-any" not in asked or not asked["not-tags-any"] & tags)
    )


def _sorted(rows: list[dict[str, Any]], call: Call, known: Sequence[str]) -> list[dict[str, Any]]:
    keys = [value for name, value in call.query if name == "sort_key"]
    directions = [value for name, value in call.query if name == "sort_dir"]
    order = [(key, directions[at] if at < len(directions) else "asc") for at, key in enumerate(keys)]
    for name, value in call.query:
        if name == "sort":
            order += [(key, way or "asc") for key, _, way in (part.partition(":") for part in value.split(","))]
    names = frozenset(known)
    for key, way in order:
        if key not in names:
            raise ApiError(400, f"Supplied sort key '{key}' is not valid.", "InvalidInput")
        if way not in {"asc", "desc"}:
            raise ApiError(400, f"Supplied sort direction '{way}' is not valid.", "InvalidInput")
    first: dict[str, str] = {}
    for key, way in order:
        first.setdefault(key, way)  # a key that comes again decides nothing
    for key, way in reversed(first.items()):
        rows = sorted(rows, key=lambda row, key=key: _order(row.get(key)), reverse=way == "desc")  # type: ignore[misc]
    return rows


def _order(value: Any) -> tuple[int, Any]:
    """Null first; numbers by size, everything else as text."""
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def _limit(text: str | None, style: Style) -> int | None:
    if text is None:
        return style.page
    try:
        limit = int(text)
    except ValueError as error:
        raise ApiError(400, f"Supplied pagination limit '{text}' is not valid.", "InvalidInput") from error
    if limit < 0 and not style.links:
        raise ApiError(400, f"Supplied pagination limit '{text}' is not valid.", "InvalidInput")
    return style.page if limit <= 0 else min(limit, style.page or limit)


def _links(call: Call, shown: Sequence[Mapping[str, Any]], more: tuple[bool, bool]) -> list[dict[str, str]]:
    """Links to the neighbours of a page; `more`: is there something before it, after it."""
    if not shown:
        return []
    kept = [(name, value) for name, value in call.query if name not in {"marker", "page_reverse"}]

    def link(rel: str, marker: str, extra: list[tuple[str, str]]) -> dict[str, str]:
        return {"rel": rel, "href": f"{call.url}?{urlencode([*kept, ('marker', marker), *extra])}"}

    links = []
    if more[1]:
        links.append(link("next", shown[-1]["id"], []))
    if more[0]:
        links.append(link("previous", shown[0]["id"], [("page_reverse", "True")]))
    return links
