"""Rights in the sandbox's API server, asked by kubectl with tokens of ServiceAccounts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.apiserver.test_server import Client
from tests.support.kubernetes import Cluster, OwnServer, own_cluster

READER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch, patch]}
  - {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
"""
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, OwnServer]]:
    with own_cluster(tmp_path_factory.mktemp("access")) as found:
        found[0].kubectl("create", "serviceaccount", "reader")
        found[0].kubectl("apply", "-f", "-", stdin=READER)
        yield found


@pytest.fixture
def reader(own: tuple[Cluster, OwnServer], tmp_path: Path) -> Cluster:
    """kubectl with the token of the ServiceAccount."""
    cluster, _ = own
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", "reader").strip()}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return Cluster(tmp_path / "kubeconfig", tmp_path / "cache")


def test_an_account_may_what_its_roles_say_and_no_more(own: tuple[Cluster, OwnServer], reader: Cluster) -> None:
    assert "kube-root-ca.crt" in reader.kubectl("get", "configmaps")
    said = reader.refused("get", "secrets")
    assert 'User "system:serviceaccount:default:reader" cannot list resource "secrets" in API group ""' in said
    assert 'in the namespace "default"' in said
    assert "cannot list" in reader.refused("-n", "kube-system", "get", "configmaps")
    assert "at the cluster scope" in reader.refused("get", "nodes")
    assert "cannot create" in reader.refused("create", "configmap", "mine")
    assert "cannot delete" in reader.refused("delete", "configmap", "kube-root-ca.crt")
    assert own[0].run("get", "configmap", "kube-root-ca.crt").status == 0


def test_an_apply_that_creates_needs_the_right_to_create(reader: Cluster) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}})
    assert "cannot create" in reader.refused("apply", "--server-side", "-f", "-", stdin=body)
    known = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}})
    reader.kubectl("apply", "--server-side", "-f", "-", stdin=known)


def test_nobody_grants_what_is_not_theirs(reader: Cluster) -> None:
    said = reader.refused("create", "role", "more", "--verb=get", "--resource=secrets")
    assert "is attempting to grant RBAC permissions not currently held" in said
    reader.kubectl("create", "role", "same", "--verb=get", "--resource=configmaps")


def test_can_i_says_what_is_allowed(own: tuple[Cluster, OwnServer], reader: Cluster) -> None:
    assert reader.kubectl("auth", "can-i", "list", "configmaps").strip() == "yes"
    assert reader.run("auth", "can-i", "list", "secrets").out.startswith("no")
    account = "--as=system:serviceaccount:default:reader"
    assert own[0].run("auth", "can-i", "delete", "configmaps", account).out.startswith("no")
    assert own[0].kubectl("auth", "can-i", "*", "*").strip() == "yes"
    assert "cannot impersonate" in reader.refused("get", "configmaps", "--as=somebody")


def test_a_token_ends_with_its_account(own: tuple[Cluster, OwnServer]) -> None:
    cluster, _ = own
    client = Client(cluster.kubeconfig)
    cluster.kubectl("create", "serviceaccount", "short")
    token = cluster.kubectl("create", "token", "short").strip()
    review: dict[str, Any] = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}
    assert client.call("POST", REVIEW, review, token=token)[0] == 201
    assert client.call("GET", MAPS, token=token)[0] == 403
    assert client.call("GET", MAPS, token=token[:-2] + "AA")[0] == 401
    cluster.kubectl("delete", "serviceaccount", "short")
    cluster.kubectl("create", "serviceaccount", "short")
    assert client.call("GET", MAPS, token=token)[0] == 401
    assert "may not specify a duration less than 10 minutes" in cluster.refused(
        "create", "token", "short", "--duration=1m"
    )


def test_rights_change_at_once_and_survive_a_restart(own: tuple[Cluster, OwnServer], reader: Cluster) -> None:
    cluster, server = own
    assert server.stop() == 0
    server.start()
    reader.kubectl("get", "configmaps")
    cluster.kubectl("delete", "rolebinding", "reader")
    assert "cannot list" in reader.refused("get", "configmaps")
    cluster.kubectl("apply", "-f", "-", stdin=READER)
    reader.kubectl("get", "configmaps")


def test_an_anonymous_client_learns_the_version_and_no_more(own: tuple[Cluster, OwnServer]) -> None:
    client = Client(own[0].kubeconfig)
    assert client.call("GET", "/version", token="")[0] == 200
    assert client.call("GET", "/apis", token="")[0] == 401
    assert client.call("GET", MAPS, token="")[0] == 401
