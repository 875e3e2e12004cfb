"""`vrata ingress check` with real files."""

import json
from pathlib import Path

from click.testing import CliRunner

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
