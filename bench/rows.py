"""One measured figure beside its peer, and how a run's rows are kept and printed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

OUTPUT = Path("build/bench")


@dataclass(frozen=True)
class Row:
    """`value` meets `goal` if it is at most (`least`: at least) that. `ratio` is the value by the peer's."""

    id: str
    value: float
    unit: str
    goal: float | None
    met: bool
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def row(
    id_: str, value: float, unit: str, goal: float | None, *, least: bool = False, peer: str | None = None,
    peer_value: float | None = None,
) -> Row:  # fmt: skip
    """A figure whose goal is about its value."""
    ratio = round(value / peer_value, 4) if peer_value else None
    return Row(id_, round(value, 3), unit, goal, _met(value, goal, least), peer, _rounded(peer_value), ratio)


def ratio_row(id_: str, value: float, unit: str, goal: float, peer: str, peer_value: float) -> Row:
    """A figure whose goal is about its ratio to the peer's, at least."""
    ratio = value / peer_value if peer_value else 0.0
    return Row(id_, round(value, 3), unit, goal, ratio >= goal, peer, _rounded(peer_value), round(ratio, 4))


def _met(value: float, goal: float | None, least: bool) -> bool:
    return goal is None or (value >= goal if least else value <= goal)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def report(name: str, rows: list[Row]) -> None:
    """Write build/bench/NAME.json and print the table."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.json").write_text(json.dumps([asdict(one) for one in rows], indent=2) + "\n")
    print(f"\n{name:<36} {'value':>11} {'unit':<10} {'goal':>8} met  {'peer':<34} {'its value':>11} ratio")
    for one in rows:
        goal = "-" if one.goal is None else f"{one.goal:g}"
        peer = f"{one.peer or '-':<34} {'-' if one.peer_value is None else one.peer_value:>11} {one.ratio or '-'}"
        print(f"{one.id:<36} {one.value:>11} {one.unit:<10} {goal:>8} {'yes' if one.met else 'NO ':<4} {peer}")


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
