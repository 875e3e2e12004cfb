"""`make bench-churn`: ten thousand random changes of Ingresses, Services, pods and certificates under constant load.

It is the test of the same name (`tests/system/ingress/test_churn.py`), made longer; that also compares the HAProxy which was
changed live with one started anew from the same objects.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.rows import Row, row

CHANGES = 10_000
TEST = "tests/system/ingress/test_churn.py"


async def measure() -> list[Row]:
    """What went wrong, which should be nothing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        environment = os.environ | {"VRATA_CHURN": str(CHANGES), "VRATA_CHURN_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "-q", TEST]
        ended = subprocess.run(command, env=environment, check=False)  # noqa: ASYNC221 - nothing else is to be done
        found = json.loads(report.read_text())
    print(f"{CHANGES} changes: {found}, the test ended with {ended.returncode}", flush=True)
    return [
        row("churn_failed_requests", float(found["failed"]), f"of {found['answered']}", 0.0),
        row("churn_broken_websockets", float(found["broken"]), "of 5", 0.0),
        row("churn_reloads", float(found["reloads"]), "reloads", 0.0),
        row("churn_ends_unlike_a_fresh_start", float(ended.returncode != 0), "tests failed", 0.0),
    ]
