"""One sandbox for all stories, on its own API server or on the one that VRATA_TEST_KUBECONFIG names."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.lifecycle import Sandbox
from vrata.sandbox.model import Options

# It needs the image: `make test-chart` makes it, and names it here.
collect_ignore = [] if "VRATA_TEST_IMAGE" in os.environ else ["test_containers.py"]


@pytest.fixture(scope="session")
def sandbox_home() -> Iterator[Path]:
    """Where the test's sandboxes keep their files; a short path, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        os.environ["VRATA_HOME"] = folder
        yield Path(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(sandbox_home: Path) -> AsyncIterator[Stage]:
    """The sandbox, up, with everything that the stories need to act on it."""
    assert sandbox_home.is_dir()
    outside = os.environ.get("VRATA_TEST_KUBECONFIG", "")
    sandbox = Sandbox(Options(name="e2e", kubeconfig=outside))
    try:
        await sandbox.up(print)
        yield Stage(sandbox, say=print)
    finally:
        await sandbox.down()
