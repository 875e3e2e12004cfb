"""Each part of the chart at work with the token of its own ServiceAccount: nothing is refused, and no right is left over."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.helm import CHART, EVERYTHING, helm, render
from tests.support.kubernetes import Cluster, own_cluster, wait_for
from tests.support.pki import issue
from tests.support.ports import free_port
from tests.support.rights import account, asked, unused
from tests.system.ingress.site import Echoes, Site, endpoint, ingress, reachable, secret, service

from vrata.base import clock

SYSTEM = "vrata-system"
# As the chart's securityContext and a container runtime have it: one capability, /proc/sys for reading.
NODES_OWN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--no-new-privs")
READ_ONLY = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Cluster]:
    """An API server with the chart in it; nobody runs its pods."""
    with own_cluster(tmp_path_factory.mktemp("rights")) as (own, _server):
        said = helm("install", "vrata", str(CHART), "-n", SYSTEM, "--create-namespace", *VALUES, home=home, cluster=own)
        assert said.status == 0, said.err
        yield own


VALUES = (*EVERYTHING, "--set", "provider.restrictAnnotations=false,ingress.tcpServices=null,ingress.udpServices=null")


@pytest.fixture(scope="module")
def objects(home: Path) -> list[dict[str, Any]]:
    return render(*VALUES, home=home, namespace=SYSTEM)


def counted(cluster: Cluster, name: str) -> int:
    """How often an event on the object was told."""
    events = cluster.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
    return sum(one["count"] for one in events)


def test_ingress_controller(cluster: Cluster, objects: list[dict[str, Any]], tmp_path: Path) -> None:
    name, echoes = "vrata-ingress", Echoes()
    with contextlib.ExitStack() as stack:
        stack.callback(echoes.stop)
        front, kubeconfig = stack.enter_context(account(cluster, SYSTEM, name, tmp_path))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vr-")))
        options = ["--publish-service", f"{SYSTEM}/{name}", "--lease", f"{SYSTEM}/{name}", "--spare-backends", "4"]
        options += ["--tcp-services-configmap", f"{SYSTEM}/tcp-services"]
        site = Site(Cluster(kubeconfig, tmp_path), folder, *options)
        stack.callback(site.stop)
        site.start()
        site.cluster = cluster  # which writes what the tests need
        status = '{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.77"}]}}}'
        cluster.kubectl("-n", SYSTEM, "patch", "service", name, "--subresource=status", "-p", status)
        headers = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "headers"}, "data": {"X-A": "b"}}
        # The elder is a guest's, and will name hosts that are others' by then: these are written down.
        cluster.kubectl("create", "namespace", "guest")
        elder = ingress("elder", ("elder.example", "Prefix", "/", "web"))
        elder["metadata"]["namespace"] = "guest"
        site.apply(elder)
        made = cluster.get("-n", "guest", "ingress", "elder")["metadata"]["creationTimestamp"]
        wait_for(lambda: clock.rfc3339(clock.now()) > made, "what comes next is younger")
        site.apply(
            service("web"),
            endpoint("web", "one", echoes.port("one")),
            headers,
            secret("cert", issue("rights.example", "rights.example")),
            ingress(
                "good", ("rights.example", "Prefix", "/", "web"), tls={"cert": ["rights.example"]},
                annotations={"custom-headers": "default/headers"},
            ),
            ingress("second", ("second.example", "Prefix", "/", "web")),
            ingress("wrong", ("wrong.example", "Prefix", "/", "web"), annotations={"whitelist-source-range": "all"}),
        )  # fmt: skip
        wait_for(lambda: site.ask("rights.example", "/")[0] in (200, 308), "it is served")
        wait_for(lambda: cluster.get("ingress", "good")["status"]["loadBalancer"], "its status is written")
        wait_for(lambda: counted(cluster, "wrong"), "what is wrong is told")
        record = (
            "-n",
            SYSTEM,
            "get",
            "configmap",
            f"{name}-hosts",
            "--ignore-not-found",
            "-o",
            "jsonpath={.data.hosts}",
        )

        def written(host: str) -> bool:
            return host in cluster.kubectl(*record)

        for host in ("rights.example", "second.example"):
            elder["spec"]["rules"][0]["host"] = host
            site.apply(elder)
            wait_for(partial(written, host), "whose it was is written down")
        before = counted(cluster, "wrong")
        assert site.process
        site.process.send_signal(signal.SIGTERM)
        site.process.wait(90)
        site.cluster = Cluster(kubeconfig, tmp_path)
        site.start()  # finds the event there
        wait_for(lambda: counted(cluster, "wrong") > before, "it is told again")

    assert not front.forbidden
    assert unused(objects, name, asked(front)) == []


def bundle(cluster: Cluster) -> str:
    """Whom the API server is to trust."""
    found = cluster.get("validatingwebhookconfiguration", "vrata-webhook")["webhooks"][0]["clientConfig"]
    return str(found.get("caBundle", ""))


def test_webhook(cluster: Cluster, objects: list[dict[str, Any]], tmp_path: Path) -> None:
    name, port = "vrata-webhook", free_port()
    argv = [sys.executable, "-m", "vrata", "ingress", "webhook", "--port", str(port)]
    argv += ["--tls-secret", f"{SYSTEM}/{name}", "--webhook-configuration", name]
    with account(cluster, SYSTEM, name, tmp_path) as (front, kubeconfig):
        process = subprocess.Popen([*argv, "--kubeconfig", str(kubeconfig)], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: bundle(cluster), "the configuration trusts it")
            wait_for(lambda: any("/ingresses" in path for _, path, _ in front.seen), "it reads Ingresses")
            wait_for(lambda: reachable(port), "it serves")
        finally:
            process.terminate()
            assert process.wait(90) == 0
    assert not front.forbidden
    assert unused(objects, name, asked(front)) == []


def test_an_upgrade_leaves_the_webhooks_certificate(cluster: Cluster, home: Path, tmp_path: Path) -> None:
    """Secret and configuration are filled by the webhook, and an upgrade does not empty them."""
    before = (bundle(cluster), cluster.get("-n", SYSTEM, "secret", "vrata-webhook")["data"])
    assert all(before)
    more = ("--set", "ingress.webhook.failurePolicy=Fail")
    said = helm("upgrade", "vrata", str(CHART), "-n", SYSTEM, *VALUES, *more, home=home, cluster=cluster)
    assert said.status == 0, said.err
    found = cluster.get("validatingwebhookconfiguration", "vrata-webhook")["webhooks"][0]
    assert found["failurePolicy"] == "Fail"
    assert (bundle(cluster), cluster.get("-n", SYSTEM, "secret", "vrata-webhook")["data"]) == before


@pytest.fixture
def node() -> Iterator[str]:
    """The network of a node."""
    name = f"vr-rights-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-q", "-w", f"{setting}=1"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


SHARED = """
apiVersion: v1
kind: Service
metadata: {name: first}
spec: {externalIPs: [192.0.2.9], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: second}
spec: {externalIPs: [192.0.2.9], ports: [{port: 80}]}
"""


def test_node_proxy(cluster: Cluster, objects: list[dict[str, Any]], node: str, tmp_path: Path) -> None:
    """In a network of its own that reaches the API server through a relay; confined as the chart says."""
    name = "vrata-node"
    cluster.kubectl("delete", "endpointslices", "--all")  # endpoints on loopback, which a node does not have
    cluster.kubectl("apply", "-f", "-", stdin=SHARED)

    def told() -> int:
        return counted(cluster, "first") + counted(cluster, "second")

    def more_than(before: int) -> bool:
        return told() > before

    with account(cluster, SYSTEM, name, tmp_path) as (front, kubeconfig):
        there = f"127.0.0.1:{front.port}"
        way = [
            sys.executable,
            "-m",
            "vrata",
            "relay",
            "--kubeconfig",
            str(kubeconfig),
            "--netns",
            node,
            "--listen",
            there,
        ]
        kubeconfig.write_text(kubeconfig.read_text().replace("localhost", "127.0.0.1"))
        relay = subprocess.Popen(way, stderr=subprocess.DEVNULL)
        argv = ["ip", "netns", "exec", node, "sh", "-c", READ_ONLY, "sh", *NODES_OWN, sys.executable, "-m", "vrata"]
        argv += ["node", "--kubeconfig", str(kubeconfig), "--node", "worker-0", "--healthz-port", "0"]
        try:
            for _ in range(2):  # the second one finds the event there
                before = told()
                with (tmp_path / "log").open("ab") as log:
                    process = subprocess.Popen([*argv, "--metrics-port", "0"], stderr=log)
                try:
                    wait_for(partial(more_than, before), "it says who has the address")
                finally:
                    process.terminate()
                    process.wait(90)
        finally:
            relay.terminate()
            relay.wait(90)
    tables = ["ip", "netns", "exec", node, "nft", "list", "tables"]
    assert "ip vrata-node" in subprocess.run(tables, check=True, capture_output=True, text=True).stdout
    assert not front.forbidden
    assert unused(objects, name, asked(front)) == []


def test_a_right_that_is_missing_would_be_noticed(cluster: Cluster, home: Path, tmp_path: Path) -> None:
    """Each rule is one that a part needs: without it the part is refused something."""
    role = cluster.get("clusterrole", "vrata-webhook")
    wanted = role["rules"]
    patch = json.dumps({"rules": [one for one in wanted if "ingresses" not in one["resources"]]})
    cluster.kubectl("patch", "clusterrole", "vrata-webhook", "--type=merge", "-p", patch)
    with account(cluster, SYSTEM, "vrata-webhook", tmp_path) as (front, kubeconfig):
        argv = [sys.executable, "-m", "vrata", "ingress", "webhook", "--port", str(free_port())]
        argv += ["--tls-secret", f"{SYSTEM}/vrata-webhook", "--webhook-configuration", "vrata-webhook"]
        process = subprocess.Popen([*argv, "--kubeconfig", str(kubeconfig)], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: front.forbidden, "it is refused something")
        finally:
            process.terminate()
            process.wait(90)
    cluster.kubectl("patch", "clusterrole", "vrata-webhook", "--type=merge", "-p", json.dumps({"rules": wanted}))
