"""The sandbox's own server: restarts, crashes, a full disk, tokens, logs. These always start their own."""

import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.kubernetes import Cluster, OwnServer, own_cluster, wait_for


class Client:
    """Plain HTTPS to a server, as its kubeconfig says."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        authority = b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """The status and the decoded answer; OSError if the server is not there."""
        headers = {"content-type": "application/json"}
        given = self.token if token is None else token
        if given:
            headers["authorization"] = f"Bearer {given}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text[:1] in b"{[" else text.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def create(self, name: str, size: int = 1) -> tuple[int, Any]:
        """Create a ConfigMap in `default`."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "y" * size}}
        return self.call("POST", "/api/v1/namespaces/default/configmaps", body)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, OwnServer]]:
    with own_cluster(tmp_path_factory.mktemp("own")) as found:
        yield found


def test_a_killed_server_forgets_nothing_it_answered(own: tuple[Cluster, OwnServer]) -> None:
    cluster, server = own
    client = Client(cluster.kubeconfig)
    answered: list[str] = []
    versions: list[int] = []

    def write() -> None:
        for i in range(10_000):
            try:
                status, obj = client.create(f"crash-{i}")
            except (OSError, HTTPException):  # killed amid an answer
                return
            assert status == 201
            answered.append(f"crash-{i}")
            versions.append(int(obj["metadata"]["resourceVersion"]))

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: len(answered) > 50, "some writes")
    server.kill()
    writer.join()
    server.start()
    client = Client(cluster.kubeconfig)
    _, listed = client.call("GET", "/api/v1/namespaces/default/configmaps")
    assert set(answered) <= {item["metadata"]["name"] for item in listed["items"]}
    assert int(listed["metadata"]["resourceVersion"]) >= max(versions)
    path = f"/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={versions[10]}"
    request = urllib.request.Request(client.server + path, headers={"authorization": f"Bearer {client.token}"})
    with urllib.request.urlopen(request, context=client._context, timeout=60) as answer:
        seen = [json.loads(line)["object"]["metadata"]["name"] for line in answer]
    assert seen[: len(answered) - 11] == answered[11:]


def test_allocations_survive_a_restart(own: tuple[Cluster, OwnServer]) -> None:
    cluster, server = own
    client = Client(cluster.kubeconfig)
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31234}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kept"}, "spec": spec}
    assert client.call("POST", "/api/v1/namespaces/default/services", body)[0] == 201
    assert server.stop() == 0
    server.start()
    other = {**body, "metadata": {"name": "other"}}
    status, answer = Client(cluster.kubeconfig).call("POST", "/api/v1/namespaces/default/services", other)
    assert status == 422
    assert "provided port is already allocated" in answer["message"]
    service = cluster.get("svc", "kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"


def test_a_wrong_or_missing_token_is_turned_away(own: tuple[Cluster, OwnServer]) -> None:
    client = Client(own[0].kubeconfig)
    for token in ("", "wrong"):
        status, answer = client.call("GET", "/api/v1/namespaces", token=token)
        assert (status, answer["reason"], answer["message"]) == (401, "Unauthorized", "Unauthorized")
    assert client.call("GET", "/readyz", token="")[0] == 200
    assert client.call("GET", "/version")[1]["gitVersion"] == "v1.37.0+vrata"


def test_secrets_of_the_server_are_for_its_owner(own: tuple[Cluster, OwnServer]) -> None:
    data = own[1].directory / "data"
    for name in ("token", "ca.key", "server.key"):
        assert (data / name).stat().st_mode & 0o077 == 0
    assert (data / "ca.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    with own_cluster(tmp_path, file_bytes_max=1_000_000) as (cluster, _server):
        client = Client(cluster.kubeconfig)
        answer: Any = None
        for i in range(400):
            status, answer = client.create(f"big-{i}", 20_000)
            if status != 201:
                break
        assert status == 500
        assert answer["reason"] == "InternalError"
        assert "the store could not be written" in answer["message"]
        listed = client.call("GET", "/api/v1/namespaces/default/configmaps")[1]
        assert sum(one["metadata"]["name"].startswith("big-") for one in listed["items"]) == i
        assert client.call("GET", f"/api/v1/namespaces/default/configmaps/big-{i}")[0] == 404


class _Kubelet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"asked {self.path}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Quiet."""


@pytest.fixture
def kubelet() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Kubelet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_logs_come_from_the_nodes_kubelet(own: tuple[Cluster, OwnServer], kubelet: int) -> None:
    cluster = own[0]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n-{os.getpid()}"}}
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.37.0+vrata"},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(node | {"status": status}))
    name = node["metadata"]["name"]  # type: ignore[index]
    assert cluster.kubectl("get", "node", name).split()[5:8] == [name, "Ready", "<none>"]
    assert "Ready" in cluster.kubectl("describe", "node", name)
    containers = [{"name": "main", "image": "vrata/echo"}, {"name": "side", "image": "vrata/echo"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": name, "containers": containers},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    said = cluster.kubectl("logs", "p", "-c", "main", "--tail=5", "--timestamps")
    assert said.startswith("asked /containerLogs/default/p/main?")
    assert "tailLines=5" in said
    assert "container nope is not valid for pod p" in cluster.refused("logs", "p", "-c", "nope")
    cluster.kubectl("delete", "pod", "p", "--wait=false")
    marked = cluster.get("pod", "p")["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    cluster.kubectl("delete", "pod", "p", "--grace-period=0", "--force")
    assert "NotFound" in cluster.refused("get", "pod", "p")


def test_a_server_stops_while_somebody_watches(own: tuple[Cluster, OwnServer]) -> None:
    cluster, server = own
    with cluster.started("get", "configmap", "-w", "--output-watch-events") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline()
        assert server.stop() == 0
    server.start()
