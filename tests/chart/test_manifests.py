"""The manifests that the program prints are the chart's, and name no image of their own."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.support.helm import DIGEST, ROOT

from vrata.base.errors import InvalidInput
from vrata.cli.main import cli
from vrata.kube.manifests import IMAGE

PARTS = ("ingress", "provider")
tool_loader = importlib.machinery.SourceFileLoader("manifests", str(ROOT / "tools/manifests"))
tool_spec = importlib.util.spec_from_loader("manifests", tool_loader)
assert tool_spec
tool = importlib.util.module_from_spec(tool_spec)
tool_loader.exec_module(tool)


@pytest.mark.parametrize("part", PARTS)
def test_a_manifest_is_what_the_chart_makes(part: str) -> None:
    assert (ROOT / "src/vrata" / part / "manifest.yaml").read_text() == tool.render(part), "run tools/manifests"


@pytest.mark.parametrize("part", PARTS)
def test_it_names_the_image_that_is_given(part: str) -> None:
    image = f"registry.example:5000/team/vrata@{DIGEST}"
    result = CliRunner().invoke(cli, [part, "--manifest", "--image", image])
    assert result.exit_code == 0, result.output
    (deployment,) = (one for one in yaml.safe_load_all(result.stdout) if one["kind"] == "Deployment")
    assert [one["image"] for one in deployment["spec"]["template"]["spec"]["containers"]] == [image]
    assert IMAGE not in result.stdout


@pytest.mark.parametrize("part", PARTS)
def test_without_an_image_nothing_is_printed_and_one_line_says_what_to_give(part: str) -> None:
    result = CliRunner().invoke(cli, [part, "--manifest"])
    assert isinstance(result.exception, InvalidInput)
    assert result.stdout == ""
    assert "--image" in str(result.exception)
    assert "\n" not in str(result.exception)


def test_no_file_names_an_image_of_ours_that_others_could_register() -> None:
    """Neither source nor pages: only the echo server's, which is a program and no image."""
    folders = [ROOT / name for name in ("src", "docs", "deploy")]
    word = "vrata/" + "vrata"
    texts = [path for folder in folders for kind in ("*.py", "*.md", "*.yaml") for path in folder.rglob(kind)]
    found = [
        path
        for path in (*texts, *Path(ROOT).glob("*.md"))
        if f"{word}`" in (text := path.read_text()) or f"image: {word}" in text
    ]
    assert found == []
