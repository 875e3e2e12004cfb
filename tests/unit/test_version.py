"""The version is in one place, and what repeats it agrees."""

import re
from pathlib import Path

import yaml

from vrata import __version__

ROOT = Path(__file__).parents[2]


def test_the_changelog_begins_with_the_version() -> None:
    found = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


def test_the_chart_has_the_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy/chart/Chart.yaml").read_text())
    assert (chart["version"], str(chart["appVersion"])) == (__version__, __version__)


def test_versions_are_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
