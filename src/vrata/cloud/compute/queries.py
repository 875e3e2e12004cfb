"""What a list of servers or flavors may be asked for (Nova v2.1, «Servers», «Flavors»). Pure.

Before 2.75 Nova passes over a parameter that it does not know; here it is refused, since a client that asks for some
servers must not be given all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vrata.cloud.http import ApiError
from vrata.cloud.listing import FALSE
from vrata.cloud.store import Row

STATES = {"ACTIVE": ("active", 1), "SHUTOFF": ("stopped", 4)}  # status -> vm_state, power_state
# What a server is compared by as it is. What no server has here is None, and matches nothing.
_EXACT: dict[str, Callable[[Row], str | None]] = {
    "uuid": lambda row: str(row["id"]),
    "status": lambda row: str(row["status"]),
    "user_id": lambda row: str(row["user_id"]),
    "availability_zone": lambda row: str(row["availability_zone"]),
    "flavor": lambda row: str(row["flavor"]["id"]),
    "vm_state": lambda row: STATES[row["status"]][0],
    "power_state": lambda row: str(STATES[row["status"]][1]),
    **dict.fromkeys(("image", "config_drive", "access_ip_v4", "access_ip_v6"), lambda _row: ""),
    **dict.fromkeys(
        ("host", "node", "hostname", "reservation_id", "key_name", "task_state", "description", "tags", "tags-any"),
        lambda _row: None,
    ),
}
_SORTED = {
    "created_at": "created_at", "updated_at": "updated_at", "display_name": "name", "uuid": "id", "vm_state": "status",
    "availability_zone": "availability_zone", "user_id": "user_id", "project_id": "project_id",
}  # fmt: skip
PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir"})
_ELSEWHERE = PAGING | {
    "name", "display_name", "ip", "ip6", "all_tenants", "project_id", "tenant_id", "deleted", "changes-since",
    "changes-before", "not-tags", "not-tags-any",
}  # fmt: skip


def refuse_unknown(query: Sequence[tuple[str, str]], known: Collection[str]) -> None:
    """400 for a parameter that would be passed over."""
    for name, _ in query:
        if name not in known:
            raise ApiError(400, f"Invalid query parameter {name!r}: use {', '.join(sorted(known))}.")


def servers(rows: list[Row], query: Sequence[tuple[str, str]]) -> list[Row]:
    """The servers that fit, in the order asked for; names and addresses are not compared here."""
    refuse_unknown(query, _ELSEWHERE | _EXACT.keys())
    asked: dict[str, set[str]] = {}
    for name, value in query:
        if name in _EXACT:
            asked.setdefault(name, set()).add(value.upper() if name == "status" else value)
    rows = [row for row in rows if all(_EXACT[name](row) in values for name, values in asked.items())]
    one = dict(query)
    if one.get("deleted", "false").lower() not in FALSE:
        return []  # what is deleted is not kept
    if "changes-since" in one:
        rows = [row for row in rows if _changed(row) >= _moment("changes-since", one)]
    if "changes-before" in one:
        rows = [row for row in rows if _changed(row) <= _moment("changes-before", one)]
    return _sorted(rows, query)


def _changed(row: Row) -> datetime:
    changed: datetime = row["updated_at"] or row["created_at"]
    return changed


def _moment(name: str, query: Mapping[str, str]) -> datetime:
    try:
        moment = datetime.fromisoformat(query[name])
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ApiError(
            400, f"Invalid input for query parameters {name}. Value: {query[name]}. it is no time"
        ) from error


def _sorted(rows: list[Row], query: Sequence[tuple[str, str]]) -> list[Row]:
    keys, ways = ([value for name, value in query if name == wanted] for wanted in ("sort_key", "sort_dir"))
    for at, key in reversed(list(enumerate(keys))):
        if key not in _SORTED:
            raise ApiError(400, f"Invalid input for query parameters sort_key. Value: {key}. use {', '.join(_SORTED)}")
        rows = _by(rows, _SORTED[key], descending=(ways[at] if at < len(ways) else "desc") == "desc")
    return rows


def _by(rows: list[Row], column: str, *, descending: bool) -> list[Row]:
    def order(row: Row) -> tuple[bool, Any]:
        return row[column] is not None, row[column] or 0

    return sorted(rows, key=order, reverse=descending)


def flavors(rows: list[Row], query: Sequence[tuple[str, str]]) -> list[Row]:
    """The flavors that fit, in the order asked for: every one is public."""
    refuse_unknown(query, PAGING | {"is_public", "minDisk", "minRam"})
    one = dict(query)
    if one.get("is_public", "none").lower() in FALSE:
        return []
    for name, column in (("minDisk", "disk"), ("minRam", "ram")):
        if name in one:
            least = _number(name, one[name])
            rows = [row for row in rows if row[column] >= least]
    columns = {"flavorid": "id", "memory_mb": "ram", "root_gb": "disk", "name": "name", "vcpus": "vcpus", "id": "id"}
    key = one.get("sort_key", "name")
    if key not in columns:
        raise ApiError(400, f"Invalid input for query parameters sort_key. Value: {key}. use {', '.join(columns)}")
    return _by(rows, columns[key], descending=one.get("sort_dir", "asc") == "desc")


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ApiError(400, f"Invalid input for query parameters {name}. Value: {text}. it is no number")
    return int(text)


def cut(rows: list[Row], query: Sequence[tuple[str, str]], most: int) -> tuple[list[Row], bool]:
    """The page that is asked for, and whether there is more behind it."""
    one, start = dict(query), 0
    if "marker" in one:
        start = next((number + 1 for number, row in enumerate(rows) if row["id"] == one["marker"]), -1)
        if start < 0:
            raise ApiError(400, f"Marker {one['marker']} could not be found.")
    shown = rows[start : start + min(most, _number("limit", one.get("limit", str(most))) or most)]
    return shown, start + len(shown) < len(rows)
