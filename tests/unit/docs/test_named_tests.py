"""A test that the documentation names is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = {f"/{one.relative_to(ROOT)}": one.read_text() for one in (ROOT / "tests").rglob("test_*.py")}


def named(page: str) -> Iterator[str]:
    """Files and functions of tests, as a page writes them between backticks."""
    yield from re.findall(r"`((?:[\w/]+/)?test_\w+(?:\.py)?)`", (ROOT / "docs" / page).read_text())


def is_there(name: str) -> bool:
    """Whether it is the end of a file's path, with or without .py, or the name of a function."""
    end = f"/{name.removesuffix('.py')}.py"
    return any(path.endswith(end) or f"def {name}(" in text for path, text in TESTS.items())


@pytest.mark.parametrize("page", ["ingress.md", "ingress-annotations.md", "api.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    names = set(named(page))
    assert len(names) > 10
    assert sorted(name for name in names if not is_there(name)) == []


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    assert not is_there("test_nothing.py")
    assert not is_there("test_every_test")
