"""`vrata doctor` in a cluster with the chart: what is wrong there is named, with the remedy."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.helm import CHART, GIVEN, helm
from tests.support.kubernetes import Cluster, own_cluster
from tests.support.rights import account

from vrata.ingress.webhook_certificate import issue

SYSTEM = "vrata-system"
DOCTOR = [sys.executable, "-m", "vrata", "doctor", "--output", "json", "--namespace", SYSTEM]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("helm")
    with own_cluster(tmp_path_factory.mktemp("doctor")) as (own, _server):
        words = ("install", "vrata", str(CHART), "-n", SYSTEM, "--create-namespace", *GIVEN)
        said = helm(*words, home=home, cluster=own)
        assert said.status == 0, said.err
        yield own


def doctor(kubeconfig: Path, *words: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """Every check by its name; of several of one name the last."""
    command = [*DOCTOR, "--kubeconfig", str(kubeconfig), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"HOME": "/nowhere"})
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    return {one["name"]: one for one in json.loads(done.stdout)}


def test_a_service_without_an_address_and_a_webhook_without_an_authority(cluster: Cluster) -> None:
    found = doctor(cluster.kubeconfig, status=1)
    assert found[f"Service {SYSTEM}/vrata-ingress"]["found"] == "has no address"
    assert found["webhook vrata-webhook"]["found"] == "its configuration trusts no authority"
    assert found["IngressClass"]["found"] == "vrata"
    for part in ("provider", "ingress"):
        assert found[f"rights of {part}"]["verdict"] == "ok"

    status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}})
    cluster.kubectl(
        "-n", SYSTEM, "patch", "service", "vrata-ingress", "--subresource=status", "--type=merge", "-p", status
    )
    bundle = base64.b64encode(issue(["x"]).authorities.encode()).decode()
    patch = json.dumps([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}])
    cluster.kubectl("patch", "validatingwebhookconfiguration", "vrata-webhook", "--type=json", "-p", patch)
    found = doctor(cluster.kubeconfig)
    assert found[f"Service {SYSTEM}/vrata-ingress"]["found"] == "192.0.2.7"
    assert found["webhook vrata-webhook"]["verdict"] == "ok"


def test_each_part_with_its_own_account_and_a_right_that_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    with account(cluster, SYSTEM, "vrata-provider", tmp_path) as (_front, kubeconfig):
        assert doctor(kubeconfig, "--part", "provider")["rights of provider"]["found"].startswith("all ")
        assert "may not" in doctor(kubeconfig, "--part", "ingress", status=1)["right of ingress"]["found"]
        rules = cluster.get("clusterrole", "vrata-provider")["rules"]
        kept = json.dumps({"rules": [one for one in rules if "endpointslices" not in one["resources"]]})
        cluster.kubectl("patch", "clusterrole", "vrata-provider", "--type=merge", "-p", kept)
        found = doctor(kubeconfig, "--part", "provider", status=1)["right of provider"]
        assert found["found"].endswith("endpointslices")
        assert "bind its ClusterRole" in found["remedy"]
        cluster.kubectl("patch", "clusterrole", "vrata-provider", "--type=merge", "-p", json.dumps({"rules": rules}))
    with account(cluster, SYSTEM, "vrata-ingress", tmp_path) as (_front, kubeconfig):
        found = doctor(kubeconfig, "--part", "ingress")
        assert found["rights of ingress"]["verdict"] == "ok"
        assert found["webhook"]["remedy"] == "ask with the kubeconfig of an administrator"


def test_an_api_server_that_is_not_there_and_a_kubeconfig_that_is_none(cluster: Cluster, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.write_text(cluster.kubeconfig.read_text().replace("127.0.0.1:", "127.0.0.1:1"))
    lines = [
        line if "server:" not in line else "    server: https://127.0.0.1:1" for line in away.read_text().splitlines()
    ]
    away.write_text("\n".join(lines))
    assert doctor(away, status=1)["API server https://127.0.0.1:1"]["verdict"] == "wrong"
    assert "kubeconfig" in doctor(tmp_path / "none", status=1)
