"""Helm's whole life of a release against the sandbox's API server: dry run, install, upgrade, rollback, uninstall."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.helm import CHART, EVERYTHING, GIVEN, helm
from tests.support.kubernetes import Cluster, Said, own_cluster

SYSTEM = "vrata-system"
KINDS = (
    "deployments,daemonsets,services,secrets,configmaps,serviceaccounts,poddisruptionbudgets,networkpolicies,roles,"
    "rolebindings,clusterroles,clusterrolebindings,validatingwebhookconfigurations,ingressclasses"
)
OURS = ("-l", "app.kubernetes.io/instance=vrata")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory.mktemp("install")) as (own, _server):
        own.kubectl("create", "namespace", SYSTEM)
        yield own


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def release(cluster: Cluster, home: Path, verb: str, *arguments: str) -> Said:
    return helm(verb, "vrata", *arguments, "--namespace", SYSTEM, home=home, cluster=cluster)


def left(cluster: Cluster) -> list[str]:
    """What of the release is in the cluster."""
    return cluster.kubectl("get", KINDS, "-n", SYSTEM, *OURS, "-o", "name").split()


def test_every_kind_is_taken_by_the_server_without_a_warning(cluster: Cluster, home: Path) -> None:
    said = helm("template", "vrata", str(CHART), "-n", SYSTEM, *EVERYTHING, home=home)
    assert said.status == 0, said.err
    answer = cluster.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=said.out)
    assert answer.status == 0, answer.err
    assert answer.err == ""
    assert len(answer.out.splitlines()) == said.out.count("\nkind: ")
    assert left(cluster) == []


def test_a_release_is_installed_changed_turned_back_and_removed(cluster: Cluster, home: Path) -> None:
    assert release(cluster, home, "install", str(CHART), *GIVEN).status == 0
    installed = sorted(left(cluster))
    deployment = ("-n", SYSTEM, "deployment", "vrata-provider")
    assert cluster.get(*deployment)["spec"]["replicas"] == 2

    more = ("--set", "provider.replicas=3,node.enabled=true,node.apiServer.host=192.0.2.1")
    assert release(cluster, home, "upgrade", str(CHART), *GIVEN, *more).status == 0
    assert cluster.get(*deployment)["spec"]["replicas"] == 3
    assert "daemonset.apps/vrata-node" in left(cluster)

    assert release(cluster, home, "rollback", "1").status == 0
    assert cluster.get(*deployment)["spec"]["replicas"] == 2
    assert sorted(left(cluster)) == installed
    history = json.loads(release(cluster, home, "history", "-o", "json").out)
    assert [one["revision"] for one in history] == [1, 2, 3]

    assert release(cluster, home, "uninstall").status == 0
    assert left(cluster) == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("--set", "image.repository=r/v"), "provider.cloud: no credentials"),
        (("--set", "provider.cloud.existingSecret=c"), "image.repository: empty"),
        ((*GIVEN, "--set", "provider.replcias=3"), "'replcias' not allowed"),
    ],
)
def test_a_refused_installation_leaves_nothing(
    cluster: Cluster, home: Path, values: tuple[str, ...], named: str
) -> None:
    said = release(cluster, home, "install", str(CHART), *values)
    assert said.status
    assert named in said.err
    assert left(cluster) == []
    assert cluster.get("-n", SYSTEM, "secrets")["items"] == []
    assert release(cluster, home, "status").status
