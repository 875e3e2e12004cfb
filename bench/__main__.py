"""`make bench` and `make bench-NAME`: measure figures beside their peers, print them, keep them in build/bench/.

Exits with 1 if a goal is missed, after everything asked for has been measured.
"""

import asyncio
import importlib
import sys

from bench.rows import report

NAMES = (
    "road",
    "cloud",
    "balancer",
    "failover",
    "established",
    "rebuild",
    "steady",
    "provider",
    "ingress",
    "churn",
    "node",
)


def main(names: list[str]) -> int:
    """Run the benchmarks named, all of them if none is."""
    for unknown in set(names) - set(NAMES):
        print(f"bench: there is no {unknown!r}; use {', '.join(NAMES)}", file=sys.stderr)
        return 2
    missed = []
    for name in names or NAMES:
        rows = asyncio.run(importlib.import_module(f"bench.{name}").measure())
        report(name, rows)
        missed += [one.id for one in rows if not one.met]
    if missed:
        print(f"\ngoals missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
