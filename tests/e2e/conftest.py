"""One sandbox for all stories, on its own API server or on the one that VRATA_TEST_KUBECONFIG names."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.lifecycle import Sandbox
from vrata.sandbox.model import Options


@pytest.fixture(scope="session")
def sandbox_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test's sandboxes keep their files."""
    folder = tmp_path_factory.mktemp("sandboxes")
    os.environ["VRATA_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
async def stage(sandbox_home: Path) -> AsyncIterator[Stage]:
    """The sandbox, up, with everything that the stories need to act on it."""
    assert sandbox_home.is_dir()
    outside = os.environ.get("VRATA_TEST_KUBECONFIG", "")
    sandbox = Sandbox(Options(name=f"e2e-{os.getpid()}", kubeconfig=outside))
    try:
        await sandbox.up(lambda title, seconds: print(f"{title}: {seconds:.1f} s"))
        yield Stage(sandbox, say=print)
    finally:
        await sandbox.down()
