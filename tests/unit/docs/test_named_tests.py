"""Every test that a page names exists; docs/reviewers.md has one for every promise of docs/security.md; others name none."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TESTS = {f"/{one.relative_to(ROOT)}": one.read_text() for one in (ROOT / "tests").rglob("test_*.py")}
REVIEWERS = (DOCS / "reviewers.md").read_text()
ROLES = ("Anonymous client", "Tenant", "Namespace user", "Host", "Operator")


def named(text: str) -> Iterator[str]:
    """Files and functions of tests, as a page writes them between backticks; `…` stands for the rest of a name."""
    yield from re.findall(r"`((?:[\w/]+/)?test_\w+(?:\.py)?(?:::\w+)?…?)`", text)


def is_there(name: str) -> bool:
    """Whether it is the end of a file's path, with or without .py, or a function, of that file if it names one."""
    if name.endswith("…"):
        return any(f"def {name.removesuffix('…')}" in text for text in TESTS.values())
    file, _, function = name.partition("::")
    end = f"/{file.removesuffix('.py')}.py"
    if any(path.endswith(end) and f"def {function}(" in text for path, text in TESTS.items()):
        return True
    return not function and any(path.endswith(end) or f"def {name}(" in text for path, text in TESTS.items())


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    return re.split(r"^#+ ", text.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_test_that_is_named_is_there() -> None:
    names = set(named(REVIEWERS))
    assert len(names) > 150
    assert sorted(name for name in names if not is_there(name)) == []


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    assert is_there("test_every_test_that…")
    assert is_there("unit/docs/test_named_tests.py::section") == is_there("test_named_tests.py::section") is True
    assert not is_there("test_nothing.py")
    assert not is_there("test_every_test")
    assert not is_there("test_no_such…")
    assert not is_there("unit/docs/test_links.py::section")


@pytest.mark.parametrize(
    "page", [page for page in DOCS.glob("*.md") if page.name != "reviewers.md"], ids=lambda page: page.name
)
def test_pages_for_readers_name_no_tests(page: Path) -> None:
    assert list(named(page.read_text())) == []


@pytest.mark.parametrize("role", ROLES)
def test_every_promise_has_a_test(role: str) -> None:
    promises = re.findall(r"^- (.+)$", section((DOCS / "security.md").read_text(), f"## {role}"), re.MULTILINE)
    rows = re.findall(r"^\| (.+) \| (.*) \|$", section(REVIEWERS, f"### Security: {role}"), re.MULTILINE)
    tested = [behaviour for behaviour, tests in rows if "test_" in tests]
    assert len(promises) > 3
    assert tested == promises
