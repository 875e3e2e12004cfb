"""Fixtures of the host agent's system tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name: Unix sockets live in it, and their paths hold 107 characters."""
    with tempfile.TemporaryDirectory(prefix="vr-") as name:
        yield Path(name)
