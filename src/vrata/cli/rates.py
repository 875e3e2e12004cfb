"""What `vrata top` shows, as rows of text made from what the cloud says. Does no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

PAIR_COLUMNS = (
    "name",
    "status",
    "active",
    "standby",
    "conn/s",
    "in B/s",
    "out B/s",
    "open",
    "last failover",
    "took",
    "cause",
)
EVENT_COLUMNS = ("when", "name", "host", "what", "after", "silence", "cause")
_RATES = ("total_connections", "bytes_in", "bytes_out")


@dataclass(frozen=True)
class Sample:
    """What there was at a moment of a clock that never jumps, seconds."""

    at_s: float
    pairs: list[Json]


def pair_rows(before: Sample, after: Sample, now: float) -> list[tuple[str, ...]]:
    """One row a pair, with the rates between two samples (the same one twice: none); `now` is Unix time."""
    known = {one["id"]: one["stats"] for pair in before.pairs for one in pair["instances"]}
    return [_pair_row(pair, known, after.at_s - before.at_s, now) for pair in after.pairs]


def _pair_row(pair: Json, known: dict[str, Json], seconds: float, now: float) -> tuple[str, ...]:
    there = [one for one in pair["instances"] if not one["leaving"]]
    active = [one["host"] for one in pair["instances"] if one["alive"] and one["state"] == "MASTER"]
    standby = [_standby(one) for one in there if not (one["alive"] and one["state"] == "MASTER")]
    rates = [_si(rate_of(pair["instances"], known, name, seconds)) for name in _RATES]
    is_open = sum(one["stats"]["active_connections"] for one in pair["instances"] if one["alive"])
    status = " ".join(word for word in (pair["provisioning_status"], pair["operating_status"]) if word)
    last = pair["failover"]
    failover = (_ago(now - last["at"]), _length(last["silent_s"]), last["cause"]) if last else ("-", "-", "-")
    return (
        f"{pair['name'] or pair['id']}{' (gateway)' if pair['kind'] == 'gateway' else ''}", status,
        ", ".join(active) or "none", ", ".join(standby) or "none", *rates, str(is_open), *failover,
    )  # fmt: skip


def _standby(one: Json) -> str:
    """The host, and why it would not take over if it would not."""
    if not one["alive"]:
        return f"{one['host']} (silent)"
    return one["host"] if one["state"] == "BACKUP" else f"{one['host']} ({one['state'].lower()})"


def rate_of(instances: Iterable[Json], known: dict[str, Json], counter: str, seconds: float) -> float:
    """A counter's growth a second over instances. One that is less than it was has begun anew; a new instance counts
    from where it is first seen."""
    grown = 0
    for one in instances:
        value = one["stats"][counter]
        older = known[one["id"]][counter] if one["id"] in known else value
        grown += value - older if value >= older else value
    return grown / seconds if seconds > 0 else 0.0


def event_rows(events: list[Json], names: dict[str, str], now: float) -> list[tuple[str, ...]]:
    """One row a transition, in the given order: after how long in the state before, after what silence of the peer (or
    host). `names`: of load balancers and routers by id."""
    return [
        (
            _ago(now - one["at"]), names.get(one["owner_id"], one["owner_id"]) or "-", one["host"],
            f"{one['before']} → {one['after']}",
            _length(one["lasted_s"]), _length(one["silent_s"]), one["cause"] or "-",
        )
        for one in events
    ]  # fmt: skip


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else _span(seconds)


def _ago(seconds: float) -> str:
    return f"{_span(max(0.0, seconds))} ago"  # clocks differ a little


def _span(seconds: float) -> str:
    for below, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < below:
            return f"{seconds / size:.{int(size == 1)}f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _si(value: float) -> str:
    """Three digits and a factor of a thousand."""
    factors = iter(("", "k", "M", "G", "T"))
    factor = next(factors)
    while value >= 999.5 and factor != "T":
        value, factor = value / 1000, next(factors)
    return f"{value:.{int(0.05 <= value < 99.95)}f}{factor}"
