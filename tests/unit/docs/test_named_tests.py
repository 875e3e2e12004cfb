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


SECURITY = (ROOT / "docs/security.md").read_text()


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py(?:::\w+)?)`", SECURITY))))
def test_the_test_of_every_promise_is_there(named: str) -> None:
    file, _, function = named.partition("::")
    path = ROOT / "tests" / file
    assert path.is_file()
    assert not function or f"def {function}(" in path.read_text()


def test_every_promise_names_its_test() -> None:
    rows = [line for line in SECURITY.splitlines() if re.match(r"\| [a-z].* \| .* \|$", line)]
    promises = [line for line in rows if not line.startswith("| role") and line.count("|") == 3]
    headings = ("| must not | test |", "| may, and must be able to rely on | test |")
    bare = [line for line in promises if "test_" not in line and line not in headings]
    assert len(promises) > 40
    assert bare == []
