"""These tests take minutes and need machines: only `tools/test-machines` collects them."""

import os

if "VRATA_MACHINES_GROUP" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
