"""`vrata ingress check` with real files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vrata.base.errors import InvalidInput
from vrata.cli.ingress import command

MANIFESTS = """
kind: Service
metadata: {name: web}
---
kind: List
items:
- kind: Ingress
  metadata:
    name: web
    namespace: team
    annotations:
      nginx.ingress.kubernetes.io/server-snippet: "return 200;"
      nginx.ingress.kubernetes.io/limit-rps: "5"
      other.example/x: "1"
"""


def test_report_has_each_verdict_and_problem(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFESTS)
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path), "--output", "json"])
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)
    verdicts = {each["annotation"].rpartition("/")[2]: each["verdict"] for each in report["annotations"]}
    assert report["ingress"] == "team/web"
    assert report["left_out"]
    assert verdicts == {"limit-rps": "differently", "server-snippet": "no"}
    assert len(report["problems"]) == 1


def test_ingress_without_annotations_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("{kind: Ingress, metadata: {name: web}}")
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path / "web.yaml")])
    assert result.exit_code == 0
    assert "Ingress default/web" in result.stdout


def test_controller_keeps_its_options() -> None:
    result = CliRunner().invoke(command, ["--manifest"])
    assert result.exit_code == 0
    assert "kind: Deployment" in result.stdout


def test_neither_files_nor_the_cluster_says_what_to_give() -> None:
    result = CliRunner().invoke(command, ["check"])
    assert result.exit_code != 0
    assert "--cluster" in str(result.exception)


@pytest.mark.parametrize("text", ["a: [1", "b: *c", "{{ helm }}", "a: 2026-99-99", "\x01", "[" * 5000])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "good.yaml").write_text(MANIFESTS)
    (tmp_path / "torn.yaml").write_text(text)
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    assert isinstance(result.exception, InvalidInput)
    assert "torn.yaml" in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    "text", ["metadata: x", "metadata: {annotations: [a]}", "metadata: [a]", "metadata:", "metadata: {annotations: x}"]
)
def test_an_ingress_that_is_none_has_no_annotations(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(f"kind: Ingress\n{text}\n---\nkind: List\nitems: 5\n")
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    assert "1 Ingresses; annotations: none" in result.stdout
