"""The figures of the whole road: the demo's own run, and the same fault with the advert interval Octavia uses."""

import json
from pathlib import Path

from bench.rows import Row, row
from vrata.cli.demo import tell
from vrata.sandbox.demo.manifests import echo_deployment
from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.demo.story import apply_until_answer, cut_active_host
from vrata.sandbox.lifecycle import Sandbox, silent
from vrata.sandbox.model import Options

OCTAVIA_ADVERT_MS = 1000  # keepalived as Octavia configures it


async def peer_gap_ms() -> float:
    """The gap when the active host is cut off, with the advert interval that Octavia uses."""
    sandbox = Sandbox(Options(name="bench-peer", advert_interval_ms=OCTAVIA_ADVERT_MS))
    stage = Stage(sandbox, say=print)
    try:
        await sandbox.up(silent)
        await stage.apply(echo_deployment("hello"))
        await apply_until_answer(stage, "shop", "hello")
        await stage.pair_of("shop")
        return await cut_active_host(stage, "shop")
    finally:
        await sandbox.down()


async def measure() -> list[Row]:
    """Run the demo, then the peer."""
    await tell("bench", Path("build/demo.json"), keep=False)
    figures = json.loads(Path("build/demo.json").read_text())["figures"]
    peers: dict[str, tuple[str, float]] = {
        "apply_to_first_200_median": ("Octavia, published, not in this run", 43.0),
        "gap_host_cut_off": ("keepalived, advert 1 s", await peer_gap_ms()),
    }
    rows = []
    for figure in figures:
        peer, peer_value = peers.get(figure["id"], (None, None))
        rows.append(
            row(figure["id"], figure["value"], figure["unit"], figure["goal"], peer=peer, peer_value=peer_value)
        )
    return rows
