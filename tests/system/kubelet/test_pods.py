"""The life of pods on a node: processes, probes, restarts, logs, the way out, and a kubelet that dies."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import wait_for
from tests.system.kubelet.node import ADDRESS, NODE, Node, node, pod

from vrata.net import daemon
from vrata.net.command import inside


@pytest.fixture(scope="module")
def worker() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="vr-") as folder, node(Path(folder)) as made:
        yield made


def field(name: str, path: str) -> dict[str, object]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def test_a_command_runs_with_its_variables_and_its_words_are_the_log(worker: Node) -> None:
    script = "echo $WHO $IP $HOST $APP $SAID; echo two; echo three; exec sleep 1000"
    env = [
        field("WHO", "metadata.name"),
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        field("APP", "metadata.labels['app']"),
        {"name": "SAID", "value": "$(WHO)-$$(WHO)"},
    ]
    worker.apply(pod("words", "sh", "-c", script, env=env))
    worker.until_ready("words")
    status = worker.cluster.get("pod", "words")["status"]
    wait_for(lambda: "three" in worker.cluster.kubectl("logs", "words"), "the log is there")
    assert worker.cluster.kubectl("logs", "words").splitlines()[0] == (
        f"words {status['podIP']} {ADDRESS} words words-$(WHO)"
    )
    assert worker.cluster.kubectl("logs", "words", "--tail=2").splitlines() == ["two", "three"]
    assert "no" in worker.cluster.refused("logs", "words", "--previous")


def test_logs_are_followed_while_they_grow(worker: Node) -> None:
    worker.apply(pod("chatter", "sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done"))
    worker.until_ready("chatter")
    with worker.cluster.started("logs", "-f", "chatter") as following:
        assert following.stdout
        assert [following.stdout.readline().strip() for _ in range(8)] == [f"line {n}" for n in range(1, 9)]


def test_readiness_follows_each_kind_of_probe_both_ways(worker: Node) -> None:
    flag = worker.folder / "ready"
    often = {"periodSeconds": 1, "failureThreshold": 1}
    ports = [{"name": "http", "containerPort": 8080}]
    worker.apply(
        pod("by-http", ports=ports, readinessProbe={"httpGet": {"path": "/healthz", "port": "http"}, **often}),
        pod("by-tcp", ports=ports, readinessProbe={"tcpSocket": {"port": 8080}, **often}),
        pod("by-exec", "sleep", "1000", readinessProbe={"exec": {"command": ["test", "-f", str(flag)]}, **often}),
        pod("wrong-status", ports=ports, readinessProbe={"httpGet": {"path": "/status/500", "port": 8080}, **often}),
        pod("wrong-port", ports=ports, readinessProbe={"tcpSocket": {"port": 8081}, **often}),
    )
    worker.until_ready("by-http")
    worker.until_ready("by-tcp")
    assert not worker.is_ready("by-exec")
    flag.touch()
    worker.until_ready("by-exec")
    flag.unlink()
    wait_for(lambda: not worker.is_ready("by-exec"), "it is unready again")
    assert worker.container("by-exec")["restartCount"] == 0
    for name in ("wrong-status", "wrong-port"):
        assert worker.container(name)["phase"] == "Running"
        assert not worker.is_ready(name)


def test_a_failed_liveness_probe_restarts_and_keeps_the_old_log(worker: Node) -> None:
    flag = worker.folder / "alive"
    often = {"periodSeconds": 1, "failureThreshold": 1}
    ports = [{"containerPort": 8080}]
    by_exec = {
        "exec": {"command": ["test", "-f", str(flag)]},
        **often,
        "failureThreshold": 3,
    }  # a shell may start slowly
    worker.apply(
        pod("mortal", "sh", "-c", f"echo born $$; touch {flag}; exec sleep 1000", livenessProbe=by_exec),
        pod("sick-http", ports=ports, livenessProbe={"httpGet": {"path": "/status/500", "port": 8080}, **often}),
        pod("sick-tcp", ports=ports, livenessProbe={"tcpSocket": {"port": 8081}, **often}),
    )
    worker.until_ready("mortal")
    first = worker.pid("mortal")
    wait_for(lambda: "born" in worker.cluster.kubectl("logs", "mortal"), "it speaks")
    flag.unlink()
    wait_for(lambda: worker.container("mortal")["restartCount"] >= 1, "it is restarted")
    worker.until_ready("mortal")
    assert worker.pid("mortal") != first
    assert worker.cluster.kubectl("logs", "mortal", "--previous").startswith("born")
    for name in ("sick-http", "sick-tcp"):
        wait_for(lambda name=name: worker.container(name)["restartCount"] >= 1, f"{name} is restarted")  # type: ignore[misc]
    worker.cluster.kubectl("delete", "pod", "sick-http", "sick-tcp", "--wait=false")


def test_an_ended_process_is_restarted_or_not_as_its_policy_says(worker: Node) -> None:
    worker.apply(
        pod("again", "sh", "-c", "echo once; exit 3"),
        pod("well", "true", policy="OnFailure"),
        pod("ill", "sh", "-c", "exit 4", policy="Never"),
    )
    wait_for(lambda: worker.container("again").get("restartCount", 0) >= 2, "it is restarted")
    assert worker.container("again")["lastState"]["terminated"]["exitCode"] == 3
    assert worker.cluster.kubectl("logs", "again", "--previous") == "once\n"
    wait_for(lambda: worker.container("well")["phase"] == "Succeeded", "it succeeds")
    wait_for(lambda: worker.container("ill")["phase"] == "Failed", "it fails")
    assert worker.container("ill")["state"]["terminated"]["exitCode"] == 4
    assert (worker.container("ill")["restartCount"], worker.container("well")["restartCount"]) == (0, 0)
    worker.cluster.kubectl("delete", "pod", "again", "--wait=false")


def test_a_container_that_drops_its_capabilities_has_none(worker: Node) -> None:
    script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; exec sleep 1000"
    asked = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    worker.apply(pod("confined", "sh", "-c", script, securityContext=asked))
    worker.until_ready("confined")
    wait_for(lambda: "NoNewPrivs" in worker.cluster.kubectl("logs", "confined"), "the log is there")
    assert worker.cluster.kubectl("logs", "confined").split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def test_a_pod_that_cannot_start_says_why(worker: Node) -> None:
    worker.apply(pod("typo", "/no/such/program"), pod("image", image="nginx:latest"))

    def message(name: str) -> str:
        return str(worker.container(name).get("state", {}).get("waiting", {}).get("message", ""))

    wait_for(lambda: message("typo"), "a message")
    assert message("typo") == "cannot start: '/no/such/program' is no program on this machine; correct `command`"
    wait_for(lambda: message("image"), "a message")
    assert "image 'nginx:latest' has no files here; give `command`" in message("image")


def test_a_pod_ends_by_its_hook_its_signal_and_at_last_by_force(worker: Node) -> None:
    story = worker.folder / "story"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo hook >> {story}"]}}}
    script = f"trap 'echo term >> {story}; exit 0' TERM; while :; do sleep 0.05; done"
    worker.apply(
        pod("gentle", "sh", "-c", script, grace_s=600, lifecycle=hook),
        pod("stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", grace_s=1),
    )
    worker.until_ready("gentle")
    worker.until_ready("stubborn")
    records = [worker.record("gentle"), worker.record("stubborn")]
    worker.cluster.kubectl("delete", "pod", "gentle", "stubborn", "--timeout=90s")
    assert story.read_text().split() == ["hook", "term"]
    for record in records:
        assert record
        assert worker.is_gone(record)


def test_a_killed_kubelet_adopts_what_runs_and_removes_what_was_deleted_meanwhile(worker: Node) -> None:
    worker.apply(pod("kept", "sleep", "1000"), pod("dropped", "sleep", "1000"))
    worker.until_ready("kept")
    worker.until_ready("dropped")
    process, record = daemon.identify(worker.pid("kept")), worker.record("dropped")
    assert process
    assert record
    worker.kill()
    assert daemon.is_alive(process)
    worker.cluster.kubectl("delete", "pod", "dropped", "--force", "--grace-period=0")
    worker.apply(pod("born", "sleep", "1000"))
    worker.start()
    worker.until_ready("born")
    wait_for(lambda: worker.is_gone(record), "what was deleted is removed")
    worker.until_ready("kept")
    assert worker.pid("kept") == process.pid
    assert daemon.is_alive(process)
    assert worker.container("kept")["restartCount"] == 0
    os.kill(process.pid, 9)
    wait_for(lambda: worker.container("kept")["restartCount"] == 1, "an adopted process is still looked after")


def test_a_pod_of_another_node_is_none_of_its_business(worker: Node) -> None:
    worker.apply(pod("elsewhere", "sleep", "1000", node="worker-8"), pod("here", "sleep", "1000"))
    worker.until_ready("here")
    assert worker.record("elsewhere") is None
    worker.cluster.kubectl("delete", "pod", "elsewhere", "--force", "--grace-period=0")


def test_z_nothing_is_left_when_all_pods_are_deleted(worker: Node) -> None:
    listed = json.loads(worker.cluster.kubectl("get", "pods", "-o", "json"))["items"]
    records = [record for item in listed if (record := worker.record(item["metadata"]["name"]))]
    assert records
    worker.cluster.kubectl("delete", "pods", "--all", "--timeout=90s")
    for record in records:
        wait_for(lambda record=record: worker.is_gone(record), f"{record.key} is gone")  # type: ignore[misc]
    left = subprocess.run(
        inside(worker.machine.netns, "ip", "-br", "link", "show", "master", "pods"), capture_output=True, check=True
    )
    assert left.stdout == b""
    assert not list((worker.state / "pods").iterdir())
    assert worker.cluster.get("node", NODE)["status"]["conditions"][0]["status"] == "True"
