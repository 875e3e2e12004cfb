"""nftables through nft(8): rulesets go in as text, in one atomic transaction."""

from collections import deque

from vrata.net.command import run

TIMEOUT_S = 20.0
BYTES_A_SECOND = 500_000  # of a ruleset, at the least
# The last processes that wrote for this one: by these `vrata.net.rules_watch` knows its own changes.
writers: deque[int] = deque(maxlen=64)


async def apply(ruleset: str, netns: str | None = None) -> None:
    """Apply a ruleset text as one transaction: all of it or, with CommandFailed (line-numbered), nothing."""
    timeout_s = TIMEOUT_S + len(ruleset) / BYTES_A_SECOND
    await run("nft", "-f", "-", netns=netns, stdin=ruleset, timeout_s=timeout_s, started=writers.append)
