"""One pair for all tests of the data path: it starts once, and each test gives it another desired state."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.system.balancing.ground import Ground, ground


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def pair() -> AsyncIterator[Ground]:
    """The pair, its members and its client."""
    with tempfile.TemporaryDirectory(prefix="vr-") as name:
        async with ground(Path(name)) as made:
            yield made
