"""`make bench`: runs every benchmark and prints its rows."""

import json
import subprocess
import sys
from pathlib import Path

OUTPUT = Path("build/bench")


def main() -> None:
    """The demo measures the figures of the whole road; its rows are the benchmark's."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run([sys.executable, "-m", "vrata", "demo", "--name", "bench"], check=False)
    figures = json.loads(Path("build/demo.json").read_text())["figures"]
    peers = {
        "apply_to_first_200_median": ("Octavia, published", 43.0),
        "gap_host_cut_off": ("keepalived, advert 1 s", 3650.0),
    }
    rows = []
    for figure in figures:
        peer, peer_value = peers.get(figure["id"], (None, None))
        ratio = round(figure["value"] / peer_value, 4) if peer_value else None
        rows.append({**figure, "peer": peer, "peer_value": peer_value, "ratio": ratio})
    (OUTPUT / "road.json").write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(f"{row['id']:<34} {row['value']:>10} {row['unit']:<9} goal {row['goal']:<7} ratio {row['ratio'] or '-'}")
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
