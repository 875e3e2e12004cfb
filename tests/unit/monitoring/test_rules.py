"""Prometheus rules: promtool reads them, each alert fires for what it names and for nothing else, each has its runbook."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.figures import HAPROXY, known_metrics
from tests.support.promql import PROMTOOL, metrics_in

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/monitoring/rules.yaml"
RUNBOOKS = "docs/operate/runbooks.md"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
BOARDS = sorted((ROOT / "deploy/monitoring/boards").glob("*.json"))
GRAFANA_COLUMNS = 24
MINUTE_S, DAYS_S = 60, 86400

# Series as promtool writes them: a value a minute. What a healthy installation shows:
HEALTHY = {
    'vrata_cloud_hosts{alive="true"}': "3x100",
    "vrata_cloud_load_balancers_without_standby": "0x100",
    'vrata_cloud_failover_seconds_count{cause="silence"}': "5x100",
    'vrata_cloud_failover_seconds_count{cause="handover"}': "0+1x100",
    "vrata_cloud_longest_pending_seconds": "0 3 1 0x100",
    'vrata_cloud_load_balancers{provisioning_status="ACTIVE",operating_status="ONLINE"}': "9x100",
    'vrata_cloud_write_processor_seconds_bucket{le="0.05"}': "0+60x100",
    'vrata_cloud_write_processor_seconds_bucket{le="0.2"}': "0+60x100",
    'vrata_cloud_write_processor_seconds_bucket{le="+Inf"}': "0+60x100",
    'vrata_cloud_requests_total{api="network",method="GET",status="200"}': "0+600x100",
    'vrata_cloud_requests_total{api="network",method="GET",status="503"}': "0+1x100",
    'vrata_cloud_external_addresses{subnet="a",state="free"}': "50x100",
    'vrata_cloud_external_addresses{subnet="a",state="used"}': "50x100",
    'vrata_cloud_certificate_end_timestamp_seconds{of="server"}': f"{90 * DAYS_S}x100",
    'vrata_cloud_certificate_end_timestamp_seconds{of="host"}': f"{11 * DAYS_S}x100",
    'vrata_cloud_disk_bytes{state="free"}': "800x100",
    'vrata_cloud_disk_bytes{state="used"}': "200x100",
    'vrata_ready{part="provider",instance="a"}': "1x100",
    'vrata_ready{part="provider",instance="b"}': "0 0 1x100",
    'vrata_ready{part="ingress"}': "1x100",
    'vrata_provider_leader{instance="a"}': "1x100",
    'vrata_provider_leader{instance="b"}': "0x100",
    'vrata_ingress_leader{instance="a"}': "1x100",
    'cloudprovider_openstack_reconcile_errors_total{operation="loadbalancer_ensure"}': "2x100",
    'openstack_api_requests_total{request="loadbalancer_get"}': "0+60x100",
    'openstack_api_request_errors_total{request="loadbalancer_get"}': "0+6x100",
    "vrata_ingress_passes_failed_total": "1x100",
    "vrata_haproxy_reloads_refused_total": "0x100",
    'vrata_ingress_certificate_end_timestamp_seconds{secret="default/web"}': f"{60 * DAYS_S}x100",
    'vrata_watch_failing{resource="services"}': "0 1 0x100",
    'vrata_unreadable_objects{resource="services"}': "0x100",
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total": "0x100",
    "vrata_node_repairs_total": "1x100",
}
# What makes each alert fire, beside or in place of that.
BROKEN: dict[str, dict[str, str]] = {
    "VrataHostSilent": {'vrata_cloud_hosts{alive="false"}': "1x100"},
    "VrataPairWithoutStandby": {"vrata_cloud_load_balancers_without_standby": "2x100"},
    "VrataFailoversTooOften": {'vrata_cloud_failover_seconds_count{cause="silence"}': "0+1x100"},
    "VrataBuildDoesNotEnd": {"vrata_cloud_longest_pending_seconds": "0+60x100"},
    "VrataLoadBalancerInError": {
        'vrata_cloud_load_balancers{provisioning_status="ERROR",operating_status="ONLINE"}': "1x100"
    },
    "VrataWritesSlow": {
        'vrata_cloud_write_processor_seconds_bucket{le="0.05"}': "0x100",
        'vrata_cloud_write_processor_seconds_bucket{le="0.2"}': "0+60x100",
    },
    "VrataRequestsFail": {'vrata_cloud_requests_total{api="network",method="GET",status="503"}': "0+600x100"},
    "VrataAddressesNearlyUsedUp": {'vrata_cloud_external_addresses{subnet="a",state="free"}': "4x100"},
    "VrataCloudCertificateEnds": {'vrata_cloud_certificate_end_timestamp_seconds{of="server"}': f"{13 * DAYS_S}x100"},
    "VrataHostCertificateEnds": {'vrata_cloud_certificate_end_timestamp_seconds{of="host"}': f"{4 * DAYS_S}x100"},
    "VrataDiskNearlyFull": {'vrata_cloud_disk_bytes{state="free"}': "9x100"},
    "VrataProviderNotReady": {'vrata_ready{part="provider",instance="b"}': "0x100"},
    "VrataProviderWithoutLeader": {'vrata_provider_leader{instance="a"}': "0x100"},
    "VrataReconcileErrors": {
        'cloudprovider_openstack_reconcile_errors_total{operation="loadbalancer_ensure"}': "0+1x100"
    },
    "VrataCloudRefusesCalls": {'openstack_api_request_errors_total{request="loadbalancer_get"}': "0+59x100"},
    "VrataIngressNotReady": {'vrata_ready{part="ingress"}': "_x100"},  # there is none
    "VrataIngressWithoutLeader": {'vrata_ingress_leader{instance="a"}': "0x100"},
    "VrataIngressPassesFail": {"vrata_ingress_passes_failed_total": "0+2x100"},
    "VrataReloadRefused": {"vrata_haproxy_reloads_refused_total": "0+1x100"},
    "VrataIngressCertificateEnds": {
        'vrata_ingress_certificate_end_timestamp_seconds{secret="default/web"}': f"{13 * DAYS_S}x100"
    },
    "VrataWatchFails": {'vrata_watch_failing{resource="services"}': "1x100"},
    "VrataObjectsUnreadable": {'vrata_unreadable_objects{resource="services"}': "1x100"},
    "VrataNodeRulesRefused": {"kubeproxy_sync_proxy_rules_nftables_sync_failures_total": "0+1x100"},
    "VrataNodeRulesChanged": {"vrata_node_repairs_total": "0+1x100"},
}
promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool; `tools/setup test` installs Debian's prometheus")


def case(name: str, changes: Mapping[str, str], firing: Sequence[str]) -> dict[str, Any]:
    """One test of promtool: which alerts fire after an hour and a half."""
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing]
    return {
        "name": name, "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in {**HEALTHY, **changes}.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{90 * MINUTE_S}s",
                "exp_samples": samples,
            }
        ],
    }  # fmt: skip


@promtool
def test_promtool_reads_the_rules() -> None:
    done = subprocess.run([PROMTOOL, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@promtool
def test_each_alert_fires_for_what_it_names_and_for_nothing_else(tmp_path: Path) -> None:
    cases = [case("healthy", {}, []), *(case(alert, changes, [alert]) for alert, changes in BROKEN.items())]
    tests = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    command = [PROMTOOL, "test", "rules", str(tmp_path / "test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case() -> None:
    assert BROKEN.keys() == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{alert.lower()}"


def test_each_alert_has_a_runbook_and_each_runbook_its_alert() -> None:
    sections = re.findall(r"^### (\w+)$", (ROOT / RUNBOOKS).read_text(), re.MULTILINE)
    assert sections == list(ALERTS)


@promtool
def test_every_expression_of_a_board_can_be_parsed(tmp_path: Path) -> None:
    rules = [{"record": "x", "expr": one.replace("$__rate_interval", "5m")} for _, one in board_expressions()]
    groups = [{"name": f"board-{number}", "rules": [rule]} for number, rule in enumerate(rules)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    command = [PROMTOOL, "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_boards_are_what_grafana_loads() -> None:
    boards = {path.stem: json.loads(path.read_text()) for path in BOARDS}
    assert len(boards) > 2
    for name, board in boards.items():
        assert board["uid"] == name
        assert board["schemaVersion"] >= 39
        assert {one["name"] for one in board["templating"]["list"]} == {"datasource"}
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        cells = [cell for panel in board["panels"] for cell in cells_of(panel["gridPos"])]
        assert len(set(cells)) == len(cells), "panels overlap"
        assert all(0 <= x < GRAFANA_COLUMNS for x, _ in cells)
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def cells_of(position: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(position["x"], position["x"] + position["w"]):
        for y in range(position["y"], position["y"] + position["h"]):
            yield x, y


def board_expressions() -> Iterator[tuple[str, str]]:
    """(which panel, expression) of all boards."""
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_rules_and_boards_use_the_figures_of_every_part() -> None:
    text = "".join(expression for _, expression in board_expressions()) + RULES.read_text()
    for part in ("vrata_cloud_", "vrata_ingress_", "vrata_provider_", "kubeproxy_", "vrata_ready", "haproxy_"):
        assert part in text


def test_a_metric_or_label_that_is_not_there_would_be_noticed() -> None:
    known = {"vrata_x": frozenset({"a"})}
    assert list(metrics_in('sum by (a, pod) (rate(vrata_x{a="vrata_z{b}"}[5m]))', known)) == [
        ("vrata_x", frozenset("a"))
    ]
    assert list(metrics_in('sum by (b) (vrata_x{c=~"y"})', known)) == [
        ("", frozenset("b")),
        ("vrata_x", frozenset("c")),
    ]
    assert list(metrics_in("vrata_y > 0", known)) == [("vrata_y", frozenset())]


def test_rules_and_boards_name_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    known = known_metrics(tmp_path) | HAPROXY
    for where, expression in (*((alert, rule["expr"]) for alert, rule in ALERTS.items()), *board_expressions()):
        for name, labels in metrics_in(expression, known):
            assert name in known, f"{where}: {name or 'no metric of it'} {sorted(labels)}"
            assert labels <= known[name], f"{where}: {name} has no {sorted(labels - known[name])}"
    for series in (*HEALTHY, *(one for changes in BROKEN.values() for one in changes)):
        name, _, words = series.partition("{")
        assert set(re.findall(r"(\w+)=", words)) - {"instance"} <= known[name], series
