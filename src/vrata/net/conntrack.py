"""Tracked UDP flows that should not be: read and dropped with conntrack(8)."""

import structlog

from vrata.net.command import CommandFailed, run
from vrata.net.flows import Frontends, parse_flows, stale_flows

log = structlog.get_logger(__name__)


async def forget_stale_flows(frontends: Frontends, own: frozenset[str], netns: str | None = None) -> None:
    """Drop them; one command for all clients of an endpoint. What goes wrong is logged: the next look tries again."""
    if not frontends:
        return
    try:
        listed = [await run("conntrack", "-L", "-p", "udp", "-f", family, netns=netns) for family in ("ipv4", "ipv6")]
    except CommandFailed as error:
        log.warning("tracked flows not read", error=str(error))
        return
    for flow in stale_flows(parse_flows("\n".join(listed)), frontends, own):
        match = ["--orig-dst", flow.asked.address, "--orig-port-dst", str(flow.asked.port)]
        match += ["--reply-src", flow.replies.address, "--reply-port-src", str(flow.replies.port)]
        try:
            await run("conntrack", "-D", "-p", "udp", *match, netns=netns)
        except CommandFailed as error:
            if "0 flow entries" not in error.stderr:
                log.warning("tracked flows not removed", match=" ".join(match), error=str(error))
