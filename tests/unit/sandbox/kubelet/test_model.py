"""The kubelet's pure half: expansion of variables, the downward API, statuses."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.sandbox.kubelet.model import Pod, RunningContainer, RunningPod, expand, field_value, pod_status

POD = msgspec.convert(
    {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "worker-0", "containers": [{"name": "c"}]},
    },
    Pod,
)


def test_variables_are_expanded_as_kubernetes_does() -> None:
    env = {"NAME": "web"}
    assert expand("http://$(NAME):80/$$(NAME)/$(NONE)", env) == "http://web:80/$(NAME)/$(NONE)"


@given(st.text())
def test_text_without_variables_stays_as_it_is(text: str) -> None:
    assert expand(text.replace("$", ""), {}) == text.replace("$", "")


def test_the_downward_api_knows_the_pod() -> None:
    def value(path: str) -> str:
        return field_value(POD, path, address="10.20.0.2", host_address="10.10.0.20")

    assert value("metadata.name") == "p"
    assert value("status.podIP") == "10.20.0.2"
    assert value("status.hostIP") == "10.10.0.20"
    assert value("metadata.labels['app']") == "web"
    assert value("metadata.labels['none']") == ""


def running(container: RunningContainer) -> RunningPod:
    return RunningPod("u", "n/p", "ns", "l", "10.20.0.2", "/tmp/x", {"c": container})  # noqa: S108 - never used


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    status = pod_status(POD, running(RunningContainer(pid=1, ready=True)), "10.10.0.20", "now")
    assert status["phase"] == "Running"
    assert {entry["type"]: entry["status"] for entry in status["conditions"]}["Ready"] == "True"


@pytest.mark.parametrize(
    ("policy", "exit_code", "phase", "state"),
    [
        ("Always", 0, "Running", "waiting"),
        ("Always", 1, "Running", "waiting"),
        ("OnFailure", 0, "Succeeded", "terminated"),
        ("OnFailure", 1, "Running", "waiting"),
        ("Never", 0, "Succeeded", "terminated"),
        ("Never", 3, "Failed", "terminated"),
    ],
)
def test_a_pod_has_ended_when_nothing_of_it_starts_again(policy: str, exit_code: int, phase: str, state: str) -> None:
    """A ReplicaSet replaces a pod that ended: forty for one command that fails."""
    pod = msgspec.structs.replace(POD, spec=msgspec.structs.replace(POD.spec, restart_policy=policy))
    status = pod_status(
        pod, running(RunningContainer(exit_code=exit_code, last_exit_code=exit_code)), "10.10.0.20", "now"
    )
    assert status["phase"] == phase
    [container] = status["containerStatuses"]
    assert list(container["state"]) == [state]
    assert container["lastState"]["terminated"]["exitCode"] == exit_code
