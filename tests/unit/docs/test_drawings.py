"""Drawings in the documentation are what the tables in the code say."""

from pathlib import Path

from vrata.host.status import TRANSITIONS

DOCS = Path(__file__).parents[3] / "docs"


def drawing() -> str:
    """The states of an instance as a Mermaid diagram."""
    lines = [f"    {before} --> {after}: {reason}" for (before, after), reason in TRANSITIONS.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> UNKNOWN", *lines, "```"])


def test_the_states_of_an_instance_are_drawn_as_the_table_has_them() -> None:
    assert drawing() in (DOCS / "failover.md").read_text(), f"put this into docs/failover.md:\n{drawing()}"
