"""`make bench`: runs every benchmark beside its peer in the same run and prints the rows."""

import asyncio
import json
import sys
from pathlib import Path

from vrata.cli.demo import tell
from vrata.sandbox.demo.manifests import echo_deployment
from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.demo.story import apply_until_answer, cut_active_host
from vrata.sandbox.lifecycle import Sandbox
from vrata.sandbox.model import Options

OUTPUT = Path("build/bench")
OCTAVIA_ADVERT_MS = 1000  # keepalived as Octavia configures it


async def peer_gap_ms() -> float:
    """The gap when the active host is cut off, with the advert interval that Octavia uses."""
    sandbox = Sandbox(Options(name="bench-peer", advert_interval_ms=OCTAVIA_ADVERT_MS))
    stage = Stage(sandbox, say=print)
    try:
        await sandbox.up(lambda _title, _seconds: None)
        await stage.apply(echo_deployment("hello"))
        await apply_until_answer(stage, "shop", "hello")
        await stage.pair_of("shop")
        return await cut_active_host(stage, "shop")
    finally:
        await sandbox.down()


async def road() -> bool:
    """The figures of the whole road, from the demo's own run."""
    true = await tell("bench", Path("build/demo.json"), keep=False)
    figures = json.loads(Path("build/demo.json").read_text())["figures"]
    peers = {
        "apply_to_first_200_median": ("Octavia, published, not in this run", 43.0),
        "gap_host_cut_off": ("keepalived, advert 1 s", await peer_gap_ms()),
    }
    rows = []
    for figure in figures:
        peer, peer_value = peers.get(figure["id"], (None, None))
        ratio = round(figure["value"] / peer_value, 4) if peer_value else None
        rows.append({**figure, "peer": peer, "peer_value": peer_value, "ratio": ratio})
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "road.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\n{'figure':<34} {'value':>9} {'unit':<9} {'goal':>6}  {'peer':<38} {'value':>8} ratio")
    for row in rows:
        peer = f"{row['peer'] or '-':<38} {row['peer_value'] or '-':>8} {row['ratio'] or '-'}"
        print(f"{row['id']:<34} {row['value']:>9} {row['unit']:<9} {row['goal']:>6}  {peer}")
    return true


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(road()) else 1)
