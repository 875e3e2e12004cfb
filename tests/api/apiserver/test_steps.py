"""Steps of kubectl, and the words in which a genuine Kubernetes 1.36 answered them (`answers.json`).

The cluster is the one that VRATA_TEST_KUBECONFIG names, else a server of the sandbox; `make interop-kubernetes` runs both.
The steps run in order. What differs from run to run (ages, ids, addresses, versions) is not compared.

With VRATA_RECORD=1, on a genuine cluster, the answers are written anew.
"""

import json
import os
import re
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import pytest
from tests.api.apiserver.steps import STEPS, Step, name_of
from tests.support.kubernetes import Cluster, own_cluster, wait_for

ANSWERS = Path(__file__).with_name("answers.json")
NAMESPACE = "steps"
VARIES = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\d[T ][0-9:.]+(Z| \+0000 UTC)", "TIME"),
    (r"10\.96\.\d+\.\d+|fd00:96::[0-9a-f:]+", "ADDRESS"),
    (r'resourceVersion: "\d+"', "VERSION"),
    (r"\b3[0-2]\d{3}\b", "PORT"),
    (r"\b\d+m?\d*s\b", "AGE"),
    (r"[ -]+", " "),  # columns are as wide as the longest text
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a namespace for the steps, and without any other default class of Ingresses."""
    directory, given = tmp_path_factory.mktemp("steps"), os.environ.get("VRATA_TEST_KUBECONFIG")
    if not given:
        with own_cluster(directory) as (own, _server):
            yield _prepared(own)
        return
    cluster = _prepared(Cluster(Path(given), directory / "cache"))
    yield cluster
    cluster.kubectl("delete", f"namespace/{NAMESPACE}", "ingressclass/vr-class", "--wait=false")


def _prepared(cluster: Cluster) -> Cluster:
    cluster.kubectl("create", "namespace", NAMESPACE)
    wait_for(lambda: cluster.run("-n", NAMESPACE, "get", "sa", "default").status == 0, "its ServiceAccount")
    return cluster


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, list[str]]]:
    """What Kubernetes said, by the step's name."""
    if os.environ.get("VRATA_RECORD"):
        found: dict[str, list[str]] = {}
        yield found
        ANSWERS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        yield json.loads(ANSWERS.read_text())


def _said(cluster: Cluster, step: Step) -> list[str]:
    """What kubectl said, and its status."""
    argv, sent = step
    done = cluster.run("-n", NAMESPACE, *argv, stdin=json.dumps(sent) if sent else "")
    text = done.out + done.err
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text)
    return [*text.splitlines(), f"status {done.status}"]


def _explained(lines: list[str]) -> list[str]:
    """One word a line: texts have other breaks here, and do not say what each value of a field means."""
    text = " ".join(" ".join(lines).split())
    return re.sub(r"Possible enum values: .*?(?=\w+ <|status \d|$)", "", text).split()


@pytest.mark.parametrize("step", STEPS, ids=name_of)
def test_the_answer_is_that_of_kubernetes(
    fresh: Cluster, answers: dict[str, list[str]], step: Step, request: pytest.FixtureRequest
) -> None:
    said = _said(fresh, step)
    wanted = answers.setdefault(request.node.callspec.id, said)
    if step[0][0] == "explain":
        said, wanted = _explained(said), _explained(wanted)
    assert "\n".join(unified_diff(wanted, said, "Kubernetes", "here", n=0, lineterm="")) == ""
