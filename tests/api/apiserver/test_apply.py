"""kubectl apply, in both its kinds, and what patches do to fields and their owners."""

from tests.api.apiserver.manifests import DEPLOYMENT, INGRESS, SERVICE
from tests.support.kubernetes import Cluster

ALL = f"{DEPLOYMENT}---{SERVICE}---{INGRESS}"


def test_applying_twice_changes_nothing_the_second_time(cluster: Cluster, namespace: str) -> None:
    first = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=ALL)
    assert first.split("\n")[:3] == [
        "deployment.apps/web created",
        "service/web created",
        "ingress.networking.k8s.io/web created",
    ]
    second = cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=ALL)
    assert second.count("unchanged") == 3


def test_a_strategic_merge_keeps_what_the_manifest_does_not_name(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    patch = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"x"}]}}}}'
    cluster.kubectl("-n", namespace, "patch", "deploy", "web", "--type=strategic", "-p", patch)
    changed = DEPLOYMENT.replace('{name: A, value: "1"}, ', "").replace('"2"', '"3"')
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=changed)
    containers = cluster.get("-n", namespace, "deploy", "web")["spec"]["template"]["spec"]["containers"]
    by_name = {container["name"]: container for container in containers}
    assert set(by_name) == {"echo", "side"}
    assert by_name["echo"]["env"] == [{"name": "B", "value": "3"}]


def test_defaults_are_those_of_kubernetes(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=DEPLOYMENT)
    spec = cluster.get("-n", namespace, "deploy", "web")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["dnsPolicy"], pod["terminationGracePeriodSeconds"]) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["containers"][0]["terminationMessagePath"] == "/dev/termination-log"


def test_server_side_apply_names_the_conflicting_manager(cluster: Cluster, namespace: str) -> None:
    apply = ("-n", namespace, "apply", "--server-side", "-f", "-")
    cluster.kubectl(*apply, "--field-manager=one", stdin=DEPLOYMENT)
    other = DEPLOYMENT.replace("replicas: 0", "replicas: 1")
    said = cluster.refused(*apply, "--field-manager=two", stdin=other)
    assert 'Apply failed with 1 conflict: conflict with "one": .spec.replicas' in said
    cluster.kubectl(*apply, "--field-manager=two", "--force-conflicts", stdin=other)
    found = cluster.get("-n", namespace, "deploy", "web", "--show-managed-fields")
    assert found["spec"]["replicas"] == 1
    owners = {
        e["manager"] for e in found["metadata"]["managedFields"] if "f:replicas" in e["fieldsV1"].get("f:spec", {})
    }
    assert owners == {"two"}


def test_server_side_apply_removes_what_its_manager_no_longer_names(cluster: Cluster, namespace: str) -> None:
    apply = ("-n", namespace, "apply", "--server-side", "-f", "-")
    cluster.kubectl(*apply, stdin=DEPLOYMENT)
    cluster.kubectl("-n", namespace, "label", "deploy", "web", "mine=yes")
    cluster.kubectl(
        *apply,
        stdin=DEPLOYMENT.replace(", labels: {app: web}}\nspec", "}\nspec").replace('{name: A, value: "1"}, ', ""),
    )
    found = cluster.get("-n", namespace, "deploy", "web")
    assert found["metadata"]["labels"] == {"mine": "yes"}
    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]


def test_client_side_applies_can_be_continued_server_side(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=ALL)
    said = cluster.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=ALL)
    assert said.count("serverside-applied") == 3


def test_the_three_patch_types(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=SERVICE)
    ports = '{"spec":{"ports":[{"port":80,"targetPort":8080}]}}'
    cluster.kubectl("-n", namespace, "patch", "svc", "web", "-p", ports)
    found = cluster.get("-n", namespace, "svc", "web")["spec"]["ports"]
    assert [(p["port"], p["targetPort"]) for p in found] == [(80, 8080), (443, "https")]
    cluster.kubectl(
        "-n", namespace, "patch", "svc", "web", "--type=merge", "-p", '{"spec":{"selector":{"app":null,"b":"c"}}}'
    )
    assert cluster.get("-n", namespace, "svc", "web")["spec"]["selector"] == {"b": "c"}
    operation = '[{"op":"test","path":"/spec/ports/1/port","value":443},{"op":"remove","path":"/spec/ports/1"}]'
    cluster.kubectl("-n", namespace, "patch", "svc", "web", "--type=json", "-p", operation)
    assert len(cluster.get("-n", namespace, "svc", "web")["spec"]["ports"]) == 1


def test_a_dry_run_stores_nothing(cluster: Cluster, namespace: str) -> None:
    said = cluster.kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", stdin=SERVICE)
    assert "service/web created (server dry run)" in said
    assert "NotFound" in cluster.refused("-n", namespace, "get", "svc", "web")


def test_unknown_fields_are_named(cluster: Cluster, namespace: str) -> None:
    bad = SERVICE.replace("type: NodePort", "type: NodePort\n  foo: 1")
    assert 'strict decoding error: unknown field "spec.foo"' in cluster.refused(
        "-n", namespace, "apply", "-f", "-", stdin=bad
    )
    warned = cluster.run("-n", namespace, "apply", "--validate=warn", "-f", "-", stdin=bad)
    assert warned.status == 0
    assert 'Warning: unknown field "spec.foo"' in warned.err
    assert ".spec.foo: field not declared in schema" in cluster.refused(
        "-n", namespace, "apply", "--server-side", "--validate=ignore", "-f", "-", stdin=bad
    )
