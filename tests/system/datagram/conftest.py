"""Fixtures of the system tests of what nftables carries."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name: Unix sockets live in it, and their paths hold 107 characters."""
    with tempfile.TemporaryDirectory(prefix="vr-") as name:
        yield Path(name)


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    """What is opened on it is closed with the test."""
    with contextlib.ExitStack() as stack:
        yield stack
