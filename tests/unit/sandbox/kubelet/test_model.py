"""The kubelet's pure half: expansion of variables, the downward API, statuses."""

import msgspec
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


def test_a_container_that_ended_well_makes_the_pod_succeed() -> None:
    status = pod_status(POD, running(RunningContainer(exit_code=0)), "10.10.0.20", "now")
    assert status["phase"] == "Succeeded"
    status = pod_status(POD, running(RunningContainer(exit_code=3)), "10.10.0.20", "now")
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
