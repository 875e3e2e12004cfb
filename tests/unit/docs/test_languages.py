"""Pages that exist in two languages say the same: headings of the same level, the same commands, links to the same places."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.ru.md"), *(ROOT / "docs").rglob("*.ru.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _original(page: Path) -> Path:
    return page.with_name(page.name.replace(".ru.md", ".md"))


def _blocks(text: str) -> list[tuple[str, str]]:
    """Commands and what they print; a diagram has words of its own."""
    return [(kind, body) for kind, body in _BLOCK.findall(text) if kind != "mermaid"]


def _levels(text: str) -> list[int]:
    return [len(found) for found in re.findall(r"^(#+) ", _BLOCK.sub("", text), re.MULTILINE)]


def _links(text: str) -> list[str]:
    """Where they lead, but not those to headings of the page itself or to its other language."""
    found = re.findall(r"\]\(([^)]+)\)", _BLOCK.sub("", text))
    return sorted(link for link in found if not link.startswith("#") and not re.search(r"README(\.ru)?\.md$", link))


def _figures(text: str) -> list[str]:
    """Numbers, without the ways in which the languages write them."""
    plain = re.sub(r"(?<=\d)[,. \u202f\u00a0](?=\d{3}\b)", "", _BLOCK.sub("", text))
    return sorted(re.findall(r"\d+", plain.replace(",", ".")))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_translation_says_what_the_original_says(page: Path) -> None:
    text, original = (ROOT / page).read_text(), (ROOT / _original(page)).read_text()
    assert _levels(text) == _levels(original)
    assert _blocks(text) == _blocks(original)
    assert _links(text) == _links(original)
    assert _figures(text) == _figures(original)


def test_there_is_a_translation() -> None:
    assert Path("README.ru.md") in PAGES
