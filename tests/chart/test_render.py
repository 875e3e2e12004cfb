"""What the chart makes of its values: strict about them, and as little right for each part as its work needs."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.helm import CHART, EVERYTHING, GIVEN, helm, render

from vrata import __version__
from vrata.cli.main import cli

Json = dict[str, Any]
WORKLOADS = ("Deployment", "DaemonSet")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")


@pytest.fixture(scope="module")
def everything(home: Path) -> list[Json]:
    return render(*EVERYTHING, home=home)


def containers(objects: list[Json]) -> list[tuple[str, Json, Json]]:
    """(name of the workload, pod spec, container)."""
    pods = [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in objects if one["kind"] in WORKLOADS]
    return [(name, pod, container) for name, pod in pods for container in pod["containers"]]


@pytest.mark.parametrize("values", [GIVEN, EVERYTHING], ids=["least", "everything"])
def test_helm_finds_nothing_to_say(home: Path, values: tuple[str, ...]) -> None:
    said = helm("lint", "--strict", str(CHART), *values, home=home)
    assert said.status == 0, said.out + said.err


@pytest.mark.parametrize(
    ("values", "named", "remedy"),
    [
        ("provider.cloud.existingSecret=c", "image.repository: empty", "make image"),
        ("image.repository=r/v", "provider.cloud: no credentials", "--set-file provider.cloud.config=cloud.conf"),
        (
            "image.repository=r/v,provider.cloud.existingSecret=c,provider.cloud.config=x",
            "provider.cloud: both",
            "leave one of them empty",
        ),
        (
            "image.repository=r/v,provider.cloud.existingSecret=c,node.enabled=true",
            "node.apiServer.host: empty",
            "set it to",
        ),
        (
            "image.repository=r/v,provider.cloud.existingSecret=c,provider.controllers={route}",
            "provider.clusterCidr: empty",
            "set it, or remove route",
        ),
    ],
)
def test_what_is_missing_is_named_in_one_line_with_the_remedy(home: Path, values: str, named: str, remedy: str) -> None:
    said = helm("template", "vrata", str(CHART), "--set", values, home=home)
    assert said.status
    assert not said.out
    (line,) = (one for one in said.err.splitlines() if one.startswith("Error: "))
    assert named in line
    assert remedy in line


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("provider.replcias=3", "'replcias' not allowed"),
        ("image.repositry=x", "'repositry' not allowed"),
        ("ingres.enabled=false", "'ingres' not allowed"),
        ("ingress.webhook.enabeld=true", "'enabeld' not allowed"),
        ("image.digest=sha256:abc", "/image/digest"),
        ("image.repository=HTTP://x", "/image/repository"),
        ("provider.controllers={services}", "/provider/controllers/0"),
        ("provider.replicas=two", "/provider/replicas"),
        ("ingress.tcpServices.9000=example", "/ingress/tcpServices/9000"),
        ("ingress.tcpServices.http=a/b:80", "/ingress/tcpServices"),
        ("node.apiServer.port=70000", "/node/apiServer/port"),
        ("ingress.podCidrs={10.0.0.0}", "/ingress/podCidrs/0"),
    ],
)
def test_a_value_that_is_misspelt_or_wrong_is_refused_by_its_place(home: Path, wrong: str, named: str) -> None:
    said = helm("template", "vrata", str(CHART), *GIVEN, "--set", wrong, home=home)
    assert said.status
    assert named in said.err


def test_the_schema_knows_every_value_and_takes_no_other() -> None:
    """Of each object of values.yaml, but where names are the user's own."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part: Json, value: Json, path: str) -> None:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" not in part:
            return
        assert part["additionalProperties"] is False, path
        optional = {"global"} if not path else {"requests", "limits"}
        assert set(part["properties"]) - optional == set(value) - optional, path
        for name, below in value.items():
            if isinstance(below, dict):
                compare(part["properties"][name], below, f"{path}/{name}")

    compare(schema, values, "")


def test_every_value_is_explained_or_named_by_itself() -> None:
    """Each block of values.yaml has a comment."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    tops = [line for line in lines if re.match(r"[a-z]+:$", line)]
    assert len(tops) == 5
    for before, line in pairwise(lines):
        assert line not in tops or before.startswith("#"), line


def test_the_image_is_the_one_that_is_given(home: Path, everything: list[Json]) -> None:
    digest = "sha256:" + "0" * 64
    assert {one["image"] for _, _, one in containers(everything)} == {f"registry.example/vrata@{digest}"}
    tagged = render(*GIVEN, "--set", "image.digest=,image.tag=1.2.3,image.pullSecrets={pull}", home=home)
    assert {one["image"] for _, _, one in containers(tagged)} == {"registry.example/vrata:1.2.3"}
    assert all(pod["imagePullSecrets"] == [{"name": "pull"}] for _, pod, _ in containers(tagged))
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    untagged = render(*GIVEN, "--set", "image.digest=", home=home)
    assert {one["image"] for _, _, one in containers(untagged)} == {f"registry.example/vrata:{version}"}


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_no_file_of_the_chart_names_a_repository() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["repository"] == values["image"]["digest"] == values["image"]["tag"] == ""
    for template in CHART.rglob("templates/**/*.yaml"):
        assert "image:" not in template.read_text(), template


def test_pods_are_confined(everything: list[Json]) -> None:
    """Neither root nor capabilities; the node proxy has the ones it needs by name."""
    for name, pod, container in containers(everything):
        own, context = pod["securityContext"], container["securityContext"]
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        if name.endswith("-node"):
            assert context["capabilities"]["add"] == ["NET_ADMIN"]
            continue
        assert "add" not in context["capabilities"]
        assert own["runAsNonRoot"] is True
        assert own["runAsUser"] == own["runAsGroup"] == 65532


def test_every_container_has_probes_resources_and_a_place_to_write(everything: list[Json]) -> None:
    for name, pod, container in containers(everything):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        ports = {one["name"] for one in container["ports"]}
        assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} <= ports
        assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]


def test_commands_fit_the_program(everything: list[Json]) -> None:
    for _, _, container in containers(everything):
        words = [re.sub(r"\$\(([A-Z_]+)\)", "192.0.2.7", one) for one in container["command"] + container["args"]]
        context = cli.make_context("vrata", words[1:], resilient_parsing=False)
        command: Any = cli
        rest = words[1:]
        while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
            command = command.get_command(context, rest.pop(0))
        command.make_context(words[1], rest)


def test_each_part_has_an_account_of_its_own_that_nobody_else_is_bound_to(everything: list[Json]) -> None:
    named = {one["metadata"]["name"] for one in everything if one["kind"] == "ServiceAccount"}
    accounts = {name: pod["serviceAccountName"] for name, pod, _ in containers(everything)}
    assert accounts == {name: name for name in named}
    for binding in (one for one in everything if one["kind"].endswith("Binding")):
        name = binding["metadata"]["name"]
        assert binding["roleRef"]["name"] == name
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}]


def test_no_rule_has_a_star_and_no_part_writes_secrets_but_its_own(everything: list[Json]) -> None:
    for role in (one for one in everything if one["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["apiGroups"] + rule["resources"]
            writes = set(rule["verbs"]) - {"get", "list", "watch"}
            if writes and "secrets" in rule["resources"]:
                assert role["kind"] == "Role"
                assert rule["resourceNames"] == [role["metadata"]["name"]]


def test_two_replicas_are_spread_and_may_not_go_at_once(everything: list[Json]) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in everything if one["kind"] == "PodDisruptionBudget"}
    for one in (one for one in everything if one["kind"] == "Deployment"):
        assert one["spec"]["replicas"] == 2
        spread = one["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {entry["topologyKey"] for entry in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        budget = budgets.pop(one["metadata"]["name"])
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == one["spec"]["selector"]
    assert not budgets


def test_a_single_replica_has_no_budget_that_keeps_a_node_from_being_drained(home: Path) -> None:
    objects = render(*GIVEN, "--set", "provider.replicas=1,ingress.replicas=1,ingress.webhook.replicas=1", home=home)
    assert not [one for one in objects if one["kind"] == "PodDisruptionBudget"]


def test_selectors_of_parts_do_not_meet_and_no_version_is_in_them(everything: list[Json]) -> None:
    selectors = [one["spec"]["selector"]["matchLabels"] for one in everything if one["kind"] in WORKLOADS]
    assert len({tuple(sorted(one.items())) for one in selectors}) == len(selectors)
    assert all(not {"helm.sh/chart", "app.kubernetes.io/version"} & one.keys() for one in selectors)


def test_metrics_are_monitored_where_that_is_asked_for(home: Path, everything: list[Json]) -> None:
    assert not [one for one in everything if one["kind"] == "ServiceMonitor"]
    objects = render(*GIVEN, "--set", "provider.serviceMonitor=true,ingress.serviceMonitor=true", home=home)
    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    for monitor in (one for one in objects if one["kind"] == "ServiceMonitor"):
        service = services[f"{monitor['metadata']['name']}-metrics"]
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [one for one in services.values() if wanted.items() <= one["metadata"]["labels"].items()]
        assert found == [service]
        ports = {one["name"] for one in service["spec"]["ports"]}
        assert {one["port"] for one in monitor["spec"]["endpoints"]} == ports
    assert len([one for one in objects if one["kind"] == "ServiceMonitor"]) == 2


def test_credentials_may_be_given_and_a_change_restarts_the_provider(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cloud.conf").write_text("[Global]\nauth-url = https://a.example/v3\n")
    values = ("--set", "image.repository=r/v", "--set-file", f"provider.cloud.config={tmp_path / 'cloud.conf'}")
    first = render(*values, home=home)
    (secret,) = (one for one in first if one["kind"] == "Secret" and "cloud.conf" in one.get("data", {}))
    (tmp_path / "cloud.conf").write_text("[Global]\nauth-url = https://b.example/v3\n")
    templates = [
        next(one for one in objects if one["metadata"]["name"] == "vrata-provider" and one["kind"] == "Deployment")
        for objects in (first, render(*values, home=home))
    ]
    volumes = templates[0]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "cloud-config", "secret": {"secretName": secret["metadata"]["name"]}} in volumes
    assert templates[0]["spec"]["template"]["metadata"] != templates[1]["spec"]["template"]["metadata"]


@pytest.mark.parametrize(
    ("networks", "blocks"),
    [
        ("10.1.0.0/16", [("0.0.0.0/0", ["10.1.0.0/16"])]),
        ("fd00::/56", [("::/0", ["fd00::/56"])]),
        ("10.1.0.0/16,fd00::/56", [("0.0.0.0/0", ["10.1.0.0/16"]), ("::/0", ["fd00::/56"])]),
        ("", [("0.0.0.0/0", None), ("::/0", None)]),
    ],
)
def test_clients_of_each_family_come_from_outside_the_pods_networks(
    home: Path, networks: str, blocks: list[tuple[str, list[str] | None]]
) -> None:
    objects = render(
        *GIVEN, "--set", f"ingress.podCidrs={{{networks}}}" if networks else "ingress.podCidrs=null", home=home
    )
    (policy,) = (
        one for one in objects if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "vrata-ingress"
    )
    found = [entry["ipBlock"] for entry in policy["spec"]["ingress"][0]["from"]]
    assert [(one["cidr"], one.get("except")) for one in found] == blocks


def test_a_provider_on_the_nodes_network_runs_where_there_is_no_other_yet(home: Path) -> None:
    """Its own tolerations stay."""
    for on, count in (("true", 3), ("false", 2)):
        objects = render(*GIVEN, "--set", f"provider.hostNetwork={on}", home=home)
        (pod,) = (pod for name, pod, _ in containers(objects) if name == "vrata-provider")
        keys = [one["key"] for one in pod["tolerations"]]
        assert len(keys) == count
        assert ("node.kubernetes.io/not-ready" in keys) is (on == "true")


def test_parts_that_are_off_leave_nothing(home: Path) -> None:
    off = "provider.enabled=false,ingress.enabled=false"
    assert render("--set", off, home=home) == []


def test_a_release_of_another_name_has_names_of_its_own(home: Path, everything: list[Json]) -> None:
    others = render(*EVERYTHING, home=home, name="second", namespace="elsewhere")
    fixed = {("IngressClass", "vrata"), ("ConfigMap", "tcp-services"), ("ConfigMap", "udp-services")}
    names = [{(one["kind"], one["metadata"]["name"]) for one in objects} for objects in (everything, others)]
    assert names[0] & names[1] == fixed
    assert all(name.startswith("second-vrata-") for kind, name in names[1] - fixed)


MONITORING = (
    "monitoring.prometheusRule.enabled=true,monitoring.dashboards=true,monitoring.labels.release=prometheus",
    "provider.serviceMonitor=true,ingress.serviceMonitor=true",
)
SHIPPED = CHART.parent / "monitoring"


def test_monitoring_is_off_unless_asked_for(everything: list[Json]) -> None:
    assert not {"PrometheusRule", "ServiceMonitor"} & {one["kind"] for one in everything}
    assert not [one for one in everything if "grafana_dashboard" in one["metadata"].get("labels", {})]


@pytest.mark.parametrize(
    ("more", "left_out"),
    [
        ("node.enabled=false", {"vrata-cloud", "vrata-node"}),
        ("ingress.enabled=false,monitoring.prometheusRule.cloud=true", {"vrata-ingress", "vrata-node"}),
        ("node.enabled=true,node.apiServer.host=192.0.2.1", {"vrata-cloud"}),
    ],
)
def test_alerts_are_those_of_the_file_for_the_parts_that_are_installed(
    home: Path, more: str, left_out: set[str]
) -> None:
    base = "monitoring.prometheusRule.runbookBase=https://git.example/vrata/"
    objects = render(*GIVEN, "--set", ",".join((*MONITORING, more, base)), home=home)
    (rule,) = (one for one in objects if one["kind"] == "PrometheusRule")
    shipped = yaml.safe_load((SHIPPED / "rules.yaml").read_text())["groups"]
    for one in (one for group in shipped for one in group["rules"]):
        one["annotations"]["runbook_url"] = f"https://git.example/vrata/{one['annotations']['runbook_url']}"
    assert rule["spec"]["groups"] == [group for group in shipped if group["name"] not in left_out]
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_boards_are_the_files_in_a_config_map_that_grafana_finds(home: Path) -> None:
    objects = render(*GIVEN, "--set", ",".join(MONITORING), home=home)
    (found,) = (one for one in objects if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1")
    assert found["data"] == {path.name: path.read_text() for path in (SHIPPED / "boards").iterdir()}


def test_service_monitors_name_ports_that_exist_and_keep_our_labels(home: Path) -> None:
    """The Prometheus operator adds a label `service`, which vrata_ingress_backend_info has, too."""
    objects = render(*GIVEN, "--set", ",".join(MONITORING), home=home)
    ports = {port["name"] for _, _, container in containers(objects) for port in container["ports"]}
    monitors = [one for one in objects if one["kind"] == "ServiceMonitor"]
    assert {one["metadata"]["name"] for one in monitors} == {"vrata-provider", "vrata-ingress"}
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert all(one["port"] in ports and one["honorLabels"] for one in monitor["spec"]["endpoints"])
