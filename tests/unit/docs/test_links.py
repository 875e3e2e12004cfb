"""Links and anchors of README and docs lead somewhere, every page is in the index, and says at its top for whom it is."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Targets of all links, but for those in code."""
    yield from _LINK.findall(_CODE.sub("code", _FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """Of all headings, as GitHub makes them; a heading that occurs again has a number."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = next(n for n in range(len(found) + 1) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def broken(text: str, page: Path) -> list[str]:
    """Links of a page that lead nowhere; addresses of other sites are not asked."""
    found = []
    for link in links(text):
        parts = urlsplit(link)
        if parts.scheme in {"http", "https"} and parts.netloc:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        reads = target.suffix == ".md" and target.is_file()
        if not target.exists() or (parts.fragment and not (reads and parts.fragment in anchors(target.read_text()))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert broken((ROOT / page).read_text(), ROOT / page) == []


def test_a_broken_link_would_be_noticed() -> None:
    page = ROOT / "docs/index.md"
    text = "# A `b`: c\n# A `b`: c\n[x](#a-b-c) [x](#a-b-c-1) [x](../README.md#quick-start) `[x](none.md)`\n"
    assert broken(text, page) == ["#a-b-c", "#a-b-c-1"]  # of docs/index.md, which has none of these headings
    assert anchors(text) == {"a-b-c", "a-b-c-1"}
    assert broken("[x](none.md) [x](../README.md#none) [x](ftp://example.com/x)", page) == [
        "none.md", "../README.md#none", "ftp://example.com/x",
    ]  # fmt: skip


def test_every_page_is_in_the_index() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in links((ROOT / "docs/index.md").read_text())}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page.name != "index.md"}
    assert sorted(str(page.relative_to(ROOT)) for page in pages - listed) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/") and "/adr/" not in page])
def test_every_page_says_at_its_top_for_whom_it_is(page: str) -> None:
    title, first, *_ = (ROOT / page).read_text().split("\n\n")
    assert title.startswith("# ")
    assert first.startswith("This page is for ")
