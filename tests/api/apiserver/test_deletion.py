"""Owners, finalizers, namespaces and definitions: what goes, what stays, in which order."""

import json
from typing import Any

from tests.api.apiserver.manifests import CRD, SERVICE
from tests.support.kubernetes import Cluster, wait_for


def _configmap(name: str, **meta: Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}})


def _family(cluster: Cluster, namespace: str, **reference: Any) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=_configmap("owner"))
    uid = cluster.get("-n", namespace, "configmap", "owner")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, **reference}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=_configmap("child", ownerReferences=[owner]))


def _gone(cluster: Cluster, namespace: str, name: str) -> bool:
    return "NotFound" in cluster.run("-n", namespace, "get", "configmap", name).err


def test_dependents_follow_their_owner(cluster: Cluster, namespace: str) -> None:
    _family(cluster, namespace)
    cluster.kubectl("-n", namespace, "delete", "configmap", "owner", "--cascade=background")
    wait_for(lambda: _gone(cluster, namespace, "child"), "the dependent is collected")


def test_foreground_waits_for_blocking_dependents(cluster: Cluster, namespace: str) -> None:
    _family(cluster, namespace, blockOwnerDeletion=True)
    cluster.kubectl(
        "-n", namespace, "patch", "configmap", "child", "-p", '{"metadata":{"finalizers":["vrata.example.com/x"]}}'
    )
    cluster.kubectl("-n", namespace, "delete", "configmap", "owner", "--cascade=foreground", "--wait=false")
    wait_for(
        lambda: cluster.get("-n", namespace, "configmap", "child")["metadata"].get("deletionTimestamp"),
        "the child is marked",
    )
    assert cluster.get("-n", namespace, "configmap", "owner")["metadata"]["finalizers"] == ["foregroundDeletion"]
    cluster.kubectl(
        "-n", namespace, "patch", "configmap", "child", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    wait_for(lambda: _gone(cluster, namespace, "owner") and _gone(cluster, namespace, "child"), "both go")


def test_orphans_stay(cluster: Cluster, namespace: str) -> None:
    _family(cluster, namespace)
    cluster.kubectl("-n", namespace, "delete", "configmap", "owner", "--cascade=orphan")
    assert "ownerReferences" not in cluster.get("-n", namespace, "configmap", "child")["metadata"]


def test_a_finalizer_holds_an_object(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=_configmap("held", finalizers=["vrata.example.com/x"]))
    cluster.kubectl("-n", namespace, "delete", "configmap", "held", "--wait=false")
    assert cluster.get("-n", namespace, "configmap", "held")["metadata"]["deletionTimestamp"]
    cluster.kubectl(
        "-n",
        namespace,
        "patch",
        "configmap",
        "held",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/metadata/finalizers"}]',
    )
    assert _gone(cluster, namespace, "held")


def test_a_deleted_namespace_is_emptied(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-gone"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("-n", name, "create", "-f", "-", stdin=SERVICE)
    cluster.kubectl("-n", name, "create", "-f", "-", stdin=_configmap("held", finalizers=["vrata.example.com/x"]))
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    wait_for(lambda: "NotFound" in cluster.run("-n", name, "get", "svc", "web").err, "the Service goes")
    assert cluster.get("namespace", name)["status"]["phase"] == "Terminating"
    said = cluster.refused("-n", name, "create", "-f", "-", stdin=_configmap("late"))
    assert "because it is being terminated" in said
    cluster.kubectl("-n", name, "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    wait_for(lambda: "NotFound" in cluster.run("get", "namespace", name).err, "the namespace goes")


def test_delete_by_label_and_all(cluster: Cluster, namespace: str) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1"}), ("c", {"x": "2"})):
        cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=_configmap(name, labels=labels))
    cluster.kubectl("-n", namespace, "delete", "configmap", "-l", "x=1")
    left = [item["metadata"]["name"] for item in cluster.get("-n", namespace, "configmap", "-l", "x")["items"]]
    assert left == ["c"]


def test_custom_resources_live_and_die_with_their_definition(cluster: Cluster, namespace: str) -> None:
    plural = namespace.replace("-", "") + "s"
    kind = plural[:-1].capitalize()
    definition = CRD.replace("PLURAL", plural).replace("KIND", kind)
    name = f"{plural}.vrata.example.com"
    cluster.kubectl("apply", "-f", "-", stdin=definition)
    try:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=90s")
        wait_for(lambda: cluster.run("-n", namespace, "get", name).status == 0, "the resource is served")
        thing = {"apiVersion": "vrata.example.com/v1", "kind": kind, "metadata": {"name": "t"}}
        body = json.dumps(thing | {"spec": {"size": 3, "free": {"any": [1]}}})
        cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=body)
        assert cluster.get("-n", namespace, name, "t")["spec"] == {"size": 3, "color": "red", "free": {"any": [1]}}
        assert cluster.kubectl("-n", namespace, "get", name).split() == ["NAME", "SIZE", "t", "3"]
        cluster.kubectl("-n", namespace, "scale", name, "t", "--replicas=4")
        assert cluster.get("-n", namespace, name, "t")["spec"]["size"] == 4
        bad = json.dumps(thing | {"spec": {"size": 33, "color": "green"}})
        said = cluster.refused("-n", namespace, "apply", "-f", "-", stdin=bad)
        assert "spec.size in body should be less than or equal to 9" in said
        assert 'spec.color: Unsupported value: "green": supported values: "red", "blue"' in said
        unknown = json.dumps(thing | {"spec": {"size": 3, "sice": 1}})
        assert 'unknown field "spec.sice"' in cluster.refused("-n", namespace, "apply", "-f", "-", stdin=unknown)
    finally:
        cluster.kubectl("delete", "crd", name, "--timeout=90s")
    assert cluster.run("-n", namespace, "get", name).status != 0
