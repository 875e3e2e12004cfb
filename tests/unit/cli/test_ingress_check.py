"""`vrata ingress check` with real files."""

import json
from pathlib import Path
from typing import Any

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
  apiVersion: networking.k8s.io/v1
  metadata:
    name: web
    namespace: team
    annotations:
      nginx.ingress.kubernetes.io/server-snippet: "return 200;"
      nginx.ingress.kubernetes.io/limit-rps: "5"
      other.example/x: "1"
  spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
"""

WRONG = """
kind: Ingress
apiVersion: networking.k8s.io/v1
metadata: {name: regex, annotations: {nginx.ingress.kubernetes.io/use-regex: "true"}}
spec:
  rules:
  - host: a.example
    http: {paths: [{path: /(a+)+$, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
kind: Ingress
apiVersion: networking.k8s.io/v1
metadata: {name: alone, annotations: {nginx.ingress.kubernetes.io/auth-type: basic}}
spec: {defaultBackend: {service: {name: web, port: {name: http}}}}
"""


HEAD = "kind: Ingress\napiVersion: networking.k8s.io/v1"
SPEC = "spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}"


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


def test_what_the_controller_will_say_of_paths_and_of_annotations_together_is_said(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WRONG)
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path), "--output", "json"])
    assert result.exit_code == 1
    regex, alone = json.loads(result.stdout)
    assert not regex["left_out"]
    assert "spec.rules[0].http.paths[0].path: '/(a+)+$' cannot be matched" in regex["problems"][0]
    assert alone["left_out"]
    assert "auth-type, auth-secret: one needs the other" in alone["problems"][0]


def test_a_spec_that_the_api_server_will_not_take_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    torn = "{kind: Ingress, apiVersion: networking.k8s.io/v1, metadata: {name: torn}, spec: {rules: [{host: 5}]}}"
    (tmp_path / "web.yaml").write_text(f"{torn}\n---{WRONG}")
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    assert result.exit_code == 1
    assert "Ingress default/torn\n  problem: spec.rules[0].host: '5' is no string; correct it" in result.stdout
    assert "Ingress default/regex\n" in result.stdout


def test_ingress_without_annotations_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(f"{HEAD}\nmetadata: {{name: web}}\n{SPEC}")
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path / "web.yaml")])
    assert result.exit_code == 0
    assert "Ingress default/web" in result.stdout


def test_controller_keeps_its_options() -> None:
    result = CliRunner().invoke(command, ["--manifest", "--image", "registry.example/vrata:1"])
    assert result.exit_code == 0
    assert "kind: Deployment" in result.stdout
    assert "image: registry.example/vrata:1\n" in result.stdout


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
    "text", ["metadata: x", "metadata: {annotations: [a]}", "metadata: [a]", "metadata: {annotations: x}"]
)
def test_an_ingress_that_is_none_has_no_annotations(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(f"{HEAD}\n{text}\n---\nkind: List\nitems: 5\n")
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    assert result.exit_code == 1, result.exception
    assert "is no mapping" in result.stdout
    assert "1 Ingresses; annotations: none" in result.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Ingress\napiVersion: extensions/v1beta1\nmetadata: {name: a}", "apiVersion: 'extensions/v1beta1'"),
        ("kind: Ingress\napiVersion: networking.k8s.io/v1beta1\nmetadata: {name: a}", "write networking.k8s.io/v1"),
        ("kind: Ingress\nmetadata: {name: a}", "apiVersion: None"),
        (
            f"{HEAD}\nmetadata: {{name: a, annotations: {{nginx.ingress.kubernetes.io/limit-rps: 5}}}}",
            "limit-rps]: 5 is no text",
        ),
        (
            f"{HEAD}\nmetadata: {{name: a, annotations: {{nginx.ingress.kubernetes.io/canary: true}}}}",
            "canary]: true is no text",
        ),
        (f"{HEAD}\nmetadata: {{name: a, annotations: {{x: 1.5}}}}", "annotations[x]: 1.5 is no text"),
        (f"{HEAD}\nmetadata: {{name: a, labels: {{x: on}}}}", "labels[x]: true is no text"),
    ],
)
def test_what_no_api_server_takes_is_a_problem(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    assert result.exit_code == 1, result.exception
    assert told in result.stdout
    quoted = (
        text.replace("{x: on}", "{x: 'on'}")
        .replace(": 5}", ": '5'}")
        .replace(": true}", ": 'true'}")
        .replace("1.5", "'1.5'")
    )
    if quoted != text:
        (tmp_path / "odd.yaml").write_text(quoted)
        assert "no text" not in CliRunner().invoke(command, ["check", "-f", str(tmp_path)]).stdout


def test_no_error_to_answer_for_is_no_problem(tmp_path: Path) -> None:
    written = (
        f"{HEAD}\nmetadata: {{name: a, annotations: {{nginx.ingress.kubernetes.io/custom-http-errors: ''}}}}\n{SPEC}"
    )
    (tmp_path / "web.yaml").write_text(written)
    assert CliRunner().invoke(command, ["check", "-f", str(tmp_path)]).exit_code == 0


RULES = "spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: BACKEND}]}}]}"
GOOD = f"{HEAD}\nmetadata: {{name: web}}\n" + RULES.replace("BACKEND", "{service: {name: web, port: {number: 80}}}")


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("pathType: Prefix", "pathType: prefix", '.paths[0].pathType: Unsupported value: "prefix": supported values'),
        ("pathType: Prefix, ", "", ".paths[0].pathType: Required value"),
        ("a.example", "Shop.Example", 'spec.rules[0].host: Invalid value: "Shop.Example": a lowercase RFC 1123'),
        ("{name: web}", "{name: Web_1}", 'metadata.name: Invalid value: "Web_1": a lowercase RFC 1123'),
        ("{name: web}", "{name: web, labels: {a: b c}}", 'metadata.labels: Invalid value: "b c": a valid label'),
        ("{name: web}", "{}", "metadata.name: Required value: name or generateName is required"),
        ("{name: web}", "{generateName: Web-}", 'metadata.generateName: Invalid value: "Web-": a lowercase'),
        ("name: web, port", "name: Web, port", '.backend.service.name: Invalid value: "Web": a lowercase'),
        ("number: 80", "number: 0", ".backend: Required value: port name or number is required"),
        ("number: 80", "number: 70000", "port.number: Invalid value: 70000: must be between 1 and 65535"),
        ("number: 80", "name: ABC", '.port.name: Invalid value: "ABC": must contain only alpha-numeric characters'),
        (
            "number: 80",
            "name: longer-than-fifteen",
            '.port.name: Invalid value: "longer-than-fifteen": must be no more than',
        ),
        ("number: 80", "name: '80'", '.port.name: Invalid value: "80": must contain at least one letter'),
        ("number: 80", "name: a--b", '.port.name: Invalid value: "a--b": must not contain consecutive hyphens'),
        ("number: 80", "name: a-", '.port.name: Invalid value: "a-": must not begin or end with a hyphen'),
        ("kind: Ingress", "kind: ingress", "kind: 'ingress' is not served by any API server; write Ingress"),
        ("spec: {", "metadata: {name: b}\nspec: {", "line 4: the key 'metadata' is there twice"),
        ("path: /,", "path: /, path: /b,", "the key 'path' is there twice"),
        ("path: /,", "path: x,", 'paths[0].path: Invalid value: "x": must be an absolute path'),
        ("spec: {", "spec: {ingresClassName: a, ", 'unknown field "spec.ingresClassName"; correct or remove it'),
        ("path: /,", "path: /, bakend: {},", 'unknown field "spec.rules[0].http.paths[0].bakend"'),
        ("name: web}\n", "name: web, anotations: {}}\n", 'unknown field "metadata.anotations"'),
        ("spec: {", "spec: {tls: [{hosts: [a.example], secretNme: a}], ", 'unknown field "spec.tls[0].secretNme"'),
    ],
)
def test_what_the_api_server_refuses_is_said_in_its_words(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    assert right in GOOD
    manifest = tmp_path / "web.yaml"
    manifest.write_text(GOOD)
    assert CliRunner().invoke(command, ["check", "-f", str(manifest)]).exit_code == 0
    manifest.write_text(GOOD.replace(right, wrong, 1))
    result = CliRunner().invoke(command, ["check", "-f", str(manifest)])
    assert result.exit_code == 1, result.exception
    assert told in result.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "field"),
    [
        ("a.example", "'*.*.example'", "spec.rules[0].host"),
        ("path: /,", "path: x,", "spec.rules[0].http.paths[0].path"),
        ("name: web, port", "name: Web_1, port", "spec.rules[0].http.paths[0].backend.service.name"),
        ("service: {name: web, port: {number: 80}}", "serviceName: web", "spec.rules[0].http.paths[0].backend:"),
        ("spec: {", "spec: {tls: [{hosts: [a_b.example]}], ", "spec.tls[0].hosts[0]"),
        ("spec: {", "spec: {tls: [{hosts: [a.example], secretName: X y}], ", "spec.tls[0].secretName"),
        ("{name: web}", "{name: web, ownerReferences: [{kind: X}]}", "metadata.ownerReferences[0].uid"),
    ],
)
def test_a_fault_is_told_once_whoever_finds_it(tmp_path: Path, right: str, wrong: str, field: str) -> None:
    (tmp_path / "web.yaml").write_text(GOOD.replace(right, wrong, 1))
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path)])
    told = [line for line in result.stdout.splitlines() if field in line and "unknown field" not in line]
    assert len(told) == 1, result.stdout
    assert "backend.resource" not in result.stdout


@pytest.mark.parametrize("kind", ["IngressList", "List"])
@pytest.mark.parametrize("nested", [False, True])
def test_ingresses_in_lists_are_read(tmp_path: Path, kind: str, *, nested: bool) -> None:
    """Of a list of Ingresses the items need not say what they are (`kubectl get -o yaml` of old versions)."""
    item: dict[str, Any] = {"metadata": {"name": "a", "annotations": {"nginx.ingress.kubernetes.io/limit-rps": "5"}}}
    item["spec"] = {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}
    if kind == "List":
        item |= {"kind": "Ingress", "apiVersion": "networking.k8s.io/v1"}
    whole: dict[str, Any] = {
        "kind": kind,
        "apiVersion": "v1" if kind == "List" else "networking.k8s.io/v1",
        "items": [item],
    }
    if nested:
        whole = {"kind": "List", "apiVersion": "v1", "items": [{"kind": "Secret"}, whole]}
    (tmp_path / "list.json").write_text(json.dumps(whole))
    result = CliRunner().invoke(command, ["check", "-f", str(tmp_path), "--output", "json"])
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["ingress"] == "default/a"
    assert len(report["annotations"]) == 1


def test_merged_mappings_have_no_key_twice(tmp_path: Path) -> None:
    merged = GOOD.replace("metadata: {name: web}", "metadata: {<<: {name: b, labels: {a: b}}, name: web}")
    (tmp_path / "web.yaml").write_text(merged)
    assert CliRunner().invoke(command, ["check", "-f", str(tmp_path)]).exit_code == 0
