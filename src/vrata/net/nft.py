"""nftables through nft(8): rulesets go in as text in one atomic transaction, and come back as JSON."""

import json
from typing import Any

from vrata.net.command import run


async def apply(ruleset: str, netns: str | None = None) -> None:
    """Apply a ruleset text as one transaction: all of it or, with CommandFailed (line-numbered), nothing."""
    await run("nft", "-f", "-", netns=netns, stdin=ruleset)


async def list_table(family: str, table: str, netns: str | None = None) -> list[dict[str, Any]]:
    """The objects of one table (libnftables-json(5), key `nftables`), empty if there is no such table."""
    tables = json.loads(await run("nft", "-j", "list", "tables", netns=netns))["nftables"]
    if not any(entry.get("table", {}).get("name") == table and entry["table"]["family"] == family for entry in tables):
        return []
    objects: list[dict[str, Any]] = json.loads(await run("nft", "-j", "list", "table", family, table, netns=netns))[
        "nftables"
    ]
    return objects
