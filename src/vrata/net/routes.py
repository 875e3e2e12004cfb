"""Routes as values: pure."""

from dataclasses import dataclass

MAIN_TABLE, LOCAL_TABLE = 254, 255


@dataclass(frozen=True)
class Route:
    """Where packets to a network go: out of an interface, perhaps by a gateway, or in (`local`)."""

    to: str
    dev: str
    via: str = ""
    table: int = MAIN_TABLE
    local: bool = False
