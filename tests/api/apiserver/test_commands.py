"""The everyday kubectl commands against the API server."""

import json

from tests.api.apiserver.manifests import DEPLOYMENT, INGRESS, SERVICE
from tests.support.kubernetes import Cluster, wait_for


def test_get_prints_the_columns_of_kubernetes(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=f"{DEPLOYMENT}---{SERVICE}---{INGRESS}")
    wide = cluster.kubectl("-n", namespace, "get", "deploy,svc,ing", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[3].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    assert wide[6].split() == ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]
    assert wide[7].split()[:3] == ["ingress.networking.k8s.io/web", "vrata", "a.example.com"]
    assert cluster.kubectl("-n", namespace, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "0"
    assert "kind: Service" in cluster.kubectl("-n", namespace, "get", "svc", "web", "-o", "yaml")


def test_describe_reads_every_kind_of_the_road(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=f"{DEPLOYMENT}---{SERVICE}---{INGRESS}")
    assert "RollingUpdateStrategy:  25% max unavailable" in cluster.kubectl(
        "-n", namespace, "describe", "deploy", "web"
    )
    assert "TargetPort:               https/TCP" in cluster.kubectl("-n", namespace, "describe", "svc", "web")
    assert "web:http" in cluster.kubectl("-n", namespace, "describe", "ing", "web")


def test_edit_label_annotate_scale_and_set(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=f"{DEPLOYMENT}---{SERVICE}")
    cluster.kubectl("-n", namespace, "edit", "svc", "web", env={"EDITOR": "sed -i s/443/8443/"})
    assert [p["port"] for p in cluster.get("-n", namespace, "svc", "web")["spec"]["ports"]] == [80, 8443]
    cluster.kubectl("-n", namespace, "label", "svc", "web", "tier=front")
    cluster.kubectl("-n", namespace, "annotate", "svc", "web", "note=hello")
    meta = cluster.get("-n", namespace, "svc", "-l", "tier=front")["items"][0]["metadata"]
    assert meta["annotations"]["note"] == "hello"
    before = cluster.get("-n", namespace, "deploy", "web")["metadata"]["generation"]
    cluster.kubectl("-n", namespace, "scale", "deploy", "web", "--replicas=0", "--current-replicas=0")
    cluster.kubectl("-n", namespace, "set", "image", "deploy/web", "echo=vrata/echo:2")
    after = cluster.get("-n", namespace, "deploy", "web")
    assert after["metadata"]["generation"] == before + 1
    cluster.kubectl("-n", namespace, "label", "deploy", "web", "note=hello")
    assert cluster.get("-n", namespace, "deploy", "web")["metadata"]["generation"] == before + 1
    # A Deployment's annotations are its ReplicaSets', so its controller looks at them again.
    cluster.kubectl("-n", namespace, "annotate", "deploy", "web", "note=hello")
    assert cluster.get("-n", namespace, "deploy", "web")["metadata"]["generation"] == before + 2


def test_typed_creates_are_understood(cluster: Cluster, namespace: str) -> None:
    inside = ("-n", namespace, "create")
    cluster.kubectl(*inside, "configmap", "c", "--from-literal=a=b")
    cluster.kubectl(*inside, "secret", "generic", "s", "--from-literal=k=v")
    cluster.kubectl(*inside, "deployment", "d", "--image=vrata/echo", "--replicas=0", "--port=80")
    cluster.kubectl(*inside, "service", "clusterip", "s", "--tcp=80:http")
    cluster.kubectl(*inside, "ingress", "i", "--class=vrata", "--rule=a.example.com/x*=web:80")
    assert cluster.get("-n", namespace, "configmap", "c")["data"] == {"a": "b"}
    assert cluster.get("-n", namespace, "secret", "s")["data"] == {"k": "dg=="}
    spec = cluster.get("-n", namespace, "deploy", "d")["spec"]
    assert spec["replicas"] == 0
    assert spec["template"]["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert cluster.get("-n", namespace, "svc", "s")["spec"]["ports"][0]["targetPort"] == "http"
    path = cluster.get("-n", namespace, "ing", "i")["spec"]["rules"][0]["http"]["paths"][0]
    assert (path["path"], path["pathType"]) == ("/x", "Prefix")
    assert cluster.kubectl("auth", "can-i", "create", "services").strip() == "yes"


def test_explain_reads_the_schemas(cluster: Cluster) -> None:
    said = cluster.kubectl("explain", "ingress.spec.rules")
    assert "host\t<string>" in said
    assert "Server Version: v1." in cluster.kubectl("version")


def test_wait_sees_a_condition_arrive(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=SERVICE)
    with cluster.started("-n", namespace, "wait", "svc/web", "--for=condition=Ready", "--timeout=90s") as waiting:
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "Test",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        patch = json.dumps({"status": {"conditions": [condition]}})
        cluster.kubectl("-n", namespace, "patch", "svc", "web", "--subresource=status", "--type=merge", "-p", patch)
        assert waiting.wait(timeout=15) == 0
    found = cluster.get("-n", namespace, "svc", "web")
    assert found["status"]["conditions"] == [condition]


def test_status_and_spec_do_not_mix(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=SERVICE)
    cluster.kubectl("-n", namespace, "patch", "svc", "web", "-p", '{"spec":{"type":"LoadBalancer"}}')
    both = '{"spec":{"sessionAffinity":"ClientIP"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}'
    cluster.kubectl("-n", namespace, "patch", "svc", "web", "--subresource=status", "--type=merge", "-p", both)
    found = cluster.get("-n", namespace, "svc", "web")
    assert found["spec"]["sessionAffinity"] == "None"
    cluster.kubectl(
        "-n", namespace, "patch", "svc", "web", "--type=merge", "-p", both.replace("192.0.2.1", "192.0.2.2")
    )
    found = cluster.get("-n", namespace, "svc", "web")
    assert found["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert "192.0.2.2" not in json.dumps(found["status"])


def test_events_of_both_groups_are_the_same(cluster: Cluster, namespace: str) -> None:
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e.1", "namespace": namespace}, "type": "Warning",
        "involvedObject": {"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": namespace, "uid": "u"},
        "reason": "Tried", "message": "it did not work", "source": {"component": "vrata"}, "count": 2,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(event))
    other = cluster.get("-n", namespace, "events.v1.events.k8s.io", "e.1")
    assert (other["note"], other["regarding"]["name"], other["deprecatedCount"]) == ("it did not work", "web", 2)
    assert "it did not work" in cluster.kubectl("-n", namespace, "events")
    chosen = cluster.get("-n", namespace, "events", "--field-selector", "involvedObject.name=web,type=Warning")
    assert len(chosen["items"]) == 1
    none = cluster.get("-n", namespace, "events", "--field-selector", "involvedObject.name=other")
    assert none["items"] == []


def test_watching_shows_changes_as_they_come(cluster: Cluster, namespace: str) -> None:
    with cluster.started("-n", namespace, "get", "configmap", "-l", "seen=yes", "-w", "-o", "name") as watching:
        assert watching.stdout is not None
        cluster.kubectl("-n", namespace, "create", "configmap", "a")
        cluster.kubectl("-n", namespace, "label", "configmap", "a", "seen=yes")
        assert watching.stdout.readline().strip() == "configmap/a"
        cluster.kubectl("-n", namespace, "create", "configmap", "b")
        cluster.kubectl("-n", namespace, "label", "configmap", "b", "seen=yes")
        assert watching.stdout.readline().strip() == "configmap/b"


def test_pages_add_up(cluster: Cluster, namespace: str) -> None:
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{i:02}"}} for i in range(25)]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=manifest)
    names = cluster.kubectl("-n", namespace, "get", "configmap", "--chunk-size=7", "-o", "name").split()
    assert [name for name in names if "/c" in name] == [f"configmap/c{i:02}" for i in range(25)]


def test_rollout_follows_the_status(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    cluster.kubectl("-n", namespace, "rollout", "restart", "deploy/web")
    found = cluster.get("-n", namespace, "deploy", "web")
    assert "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"]["annotations"]
    status = {"observedGeneration": found["metadata"]["generation"]}
    patch = ("-n", namespace, "patch", "deploy", "web", "--subresource=status", "--type=merge", "-p")
    cluster.kubectl(*patch, json.dumps({"status": status}))
    assert "successfully rolled out" in cluster.kubectl(
        "-n", namespace, "rollout", "status", "deploy/web", "--timeout=90s"
    )
    wait_for(lambda: cluster.get("-n", namespace, "deploy", "web")["status"], "a status")
