"""What mkdocs does not do by itself (hooks of mkdocs.yml): pages from beside docs/, and contents out of docs/index.md."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
SCRIPT = ROOT / "build/docs-assets/mermaid.min.js"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Sections and pages in the order of docs/index.md."""
    nav: list[Any] = [{"Start": "index.md"}]
    for section in (ROOT / "docs/index.md").read_text().split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        found = re.findall(r"\[([^\]]+)\]\(([^)#]+\.md)\)", body)
        nav.append({title.partition(":")[0]: [_page(name, link) for name, link in found]})
    config.nav = nav
    return config


def _page(name: str, link: str) -> dict[str, str]:
    return {f"ADR {name}" if name.isdigit() else name[:1].upper() + name[1:]: link.removeprefix("../")}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that stand beside docs/ in the repository, and the script that draws diagrams."""
    for name in BESIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=str(SCRIPT)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/: to pages of the site where there is one, else their text alone."""
    own = page.file.src_uri
    here = posixpath.dirname(own if own in BESIDE else f"docs/{own}")

    def moved(found: re.Match[str]) -> str:
        text, link, anchor = found[1], found[2], found[3]
        if "://" in link or link.startswith("mailto:"):
            return found[0]
        target = posixpath.normpath(posixpath.join(here, link))
        source = target.removeprefix("docs/")
        if files.get_file_from_path(source) is not None:
            start = "" if own in BESIDE else posixpath.dirname(own)
            return f"[{text}]({posixpath.relpath(source, start or '.')}{anchor})"
        return text

    return _LINK.sub(moved, markdown)
