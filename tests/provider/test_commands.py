"""`vrata provider plan` and `vrata provider sweep` as a person runs them: what they say, what they leave alone."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.kubernetes import Cluster
from tests.support.provided import Ground

from vrata.provider.annotations import PREFIX
from vrata.provider.call import NETWORK

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
COMMAND_S = 60.0
Said = subprocess.CompletedProcess[str]


def run(*arguments: str, stdin: str = "") -> Said:
    """`vrata provider …`."""
    argv = [sys.executable, "-m", "vrata", "provider", *arguments]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False)


def options(cloud: tuple[str, Path | None], cluster_name: str = "production") -> list[str]:
    name, clouds_file = cloud
    files = ["--clouds-file", str(clouds_file)] if clouds_file else []
    return ["--os-cloud", name, *files, "--cluster-name", cluster_name]


def manifest(name: str, **spec: Any) -> str:
    metadata: dict[str, Any] = {"name": name, "annotations": spec.pop("annotations", {})}
    whole = {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": whole})


def refused(said: Said) -> str:
    """One line on stderr, status 1 and no more."""
    assert said.returncode in (1, 2), said  # 2: the command line itself is wrong
    assert said.stdout == "", said
    assert said.stderr.startswith("vrata: "), said.stderr
    assert said.stderr.count("\n") == 1, said.stderr
    return said.stderr


@pytest.fixture
def reached(cluster: Cluster, nodes: None) -> list[str]:
    """The options that lead to the API server."""
    return ["--kubeconfig", str(cluster.kubeconfig)]


def test_a_new_service_shows_every_call_and_makes_none(
    reached: list[str], backing: tuple[str, Path | None], tmp_path: Path
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(manifest("planned"))
    said = run("plan", "-f", str(file), *reached, *options(backing))
    assert said.returncode == 0, said.stderr
    assert "Service default/planned" in said.stdout
    assert "POST load-balancer /v2.0/lbaas/loadbalancers: the Service has none" in said.stdout
    assert '"name": "kube_service_production_default_planned"' in said.stdout
    assert '"protocol_port": 30080' in said.stdout
    assert "POST network /v2.0/floatingips: the Service is external" in said.stdout
    assert said.stdout == run("plan", "-f", str(file), *reached, *options(backing)).stdout  # nothing was made
    nothing = run("sweep", *options(backing))
    assert nothing.stdout == "nothing of cluster production is in this project\n"


def test_several_manifests_come_from_standard_input_and_one_mistake_leaves_the_others(
    reached: list[str], backing: tuple[str, Path | None]
) -> None:
    items = [
        manifest("right"),
        manifest("wrong", annotations={PREFIX + "flavor-id": "big"}),
        manifest("theirs", loadBalancerClass="example.com/other"),
        manifest("inside", type="ClusterIP"),
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(one) for one in items]})
    said = run("plan", "-f", "-", "-n", "shop", *reached, *options(backing), stdin=text)
    assert said.returncode == 0, said.stderr
    _, right, wrong, theirs, inside = said.stdout.split("Service shop/")
    assert "POST" in right
    assert "flavor-id" in wrong
    assert "'big'" in wrong
    assert "POST" not in wrong
    assert "not served" in theirs
    assert "not served" in inside


async def test_a_service_that_exists_has_nothing_to_do_or_shows_what_would_change(
    ground: Ground, backing: tuple[str, Path | None]
) -> None:
    await ground.apply("web")
    await ground.served("web")
    body = await ground.service("web")
    before = await ground.balancer("web")
    reached = ["--kubeconfig", str(ground.cluster.kubeconfig), *options(backing, ground.namespace)]
    same = run("plan", "-f", "-", *reached, stdin=json.dumps(body))
    assert "nothing to do" in same.stdout, same
    body["metadata"]["annotations"][PREFIX + "connection-limit"] = "9"
    body["spec"]["ports"].append({"name": "other", "port": 443, "protocol": "TCP", "nodePort": 30443})
    said = run("plan", "-f", "-", *reached, stdin=json.dumps(body))
    assert "PUT load-balancer /v2.0/lbaas/listeners/" in said.stdout, said
    assert '"connection_limit": 9' in said.stdout
    assert "POST load-balancer /v2.0/lbaas/listeners: a new port of the Service" in said.stdout
    assert await ground.balancer("web") == before


async def test_what_a_cluster_left_is_listed_and_with_yes_removed(
    ground: Ground, backing: tuple[str, Path | None]
) -> None:
    """A deleted cluster's load balancers, addresses and groups stayed and were paid for (complaint E8)."""
    await ground.stop()
    await ground.start(manage_security_groups=True)
    await ground.apply("web")
    await ground.served("web")
    [floating] = await ground.floating()
    await ground.stop()
    mine = options(backing, ground.namespace)

    other = run("sweep", *options(backing, f"{ground.namespace}-2"), "--yes")
    assert "nothing of cluster" in other.stdout, other
    listed = run("sweep", *mine)
    assert listed.returncode == 0, listed.stderr
    assert f"load balancer {ground.name('web')}" in listed.stdout
    assert f"floating IP {floating['floating_ip_address']}" in listed.stdout
    assert "security group lb-sg-" in listed.stdout
    assert "Nothing was changed" in listed.stdout
    assert len(await ground.floating()) == 1

    assert run("sweep", *mine, "--yes").returncode == 0
    await ground.gone("web")
    assert not await ground.floating()
    groups = await ground.seen(NETWORK, "/v2.0/security-groups", "security_groups")
    assert not [one for one in groups if f"-{ground.namespace}-web" in one["name"]]
    assert "nothing of cluster" in run("sweep", *mine).stdout
    # The cluster is not gone, after all: its provider builds everything anew.
    await ground.start()
    await ground.rest()
    assert len(await ground.balancers("web")) == 1


def test_what_is_wrong_is_one_line_that_says_what_would_do(
    reached: list[str], backing: tuple[str, Path | None], tmp_path: Path
) -> None:
    cloud, text = options(backing), manifest("web")
    away = tmp_path / "kubeconfig"
    away.write_text(re.sub(r"server: \S+", "server: https://127.0.0.1:1", Path(reached[1]).read_text()))
    assert "--filename" in refused(run("plan", "-f", str(tmp_path / "none"), *reached, *cloud))
    assert "YAML" in refused(run("plan", "-f", "-", *reached, *cloud, stdin="a: [\n"))
    assert "kind Service" in refused(run("plan", "-f", "-", *reached, *cloud, stdin="kind: Pod\n"))
    assert "kubectl" in refused(run("plan", "-f", "-", *reached, *cloud, stdin=text.replace("80,", '"x",')))
    assert "nowhere" in refused(run("plan", "-f", "-", *reached, "--os-cloud", "nowhere", stdin=text))
    assert "nowhere" in refused(run("sweep", "--os-cloud", "nowhere"))
    gone = ["--kubeconfig", str(tmp_path / "gone")]
    assert "kubeconfig" in refused(run("plan", "-f", "-", *gone, *cloud, stdin=text))
    assert "API server" in refused(run("plan", "-f", "-", "--kubeconfig", str(away), *cloud, stdin=text))


@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_help_has_an_example(command: str) -> None:
    said = run(command, "--help")
    assert said.returncode == 0
    assert f"vrata provider {command}" in said.stdout.partition("Example")[2]
