"""nftables through nft(8): rulesets go in as text, in one atomic transaction."""

from vrata.net.command import run


async def apply(ruleset: str, netns: str | None = None) -> None:
    """Apply a ruleset text as one transaction: all of it or, with CommandFailed (line-numbered), nothing."""
    await run("nft", "-f", "-", netns=netns, stdin=ruleset)
