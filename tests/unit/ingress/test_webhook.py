"""What the admission webhook lets in is what the controller serves."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import CLASS, CLASSES, make_ingress

from vrata.cli.ingress import command
from vrata.cli.ingress_check import Found, report_all
from vrata.ingress.claims import read_ingress
from vrata.ingress.explain import Cluster, explain
from vrata.ingress.table import Table
from vrata.ingress.webhook import review


def ask(
    *,
    host: str = "a.example",
    class_name: str = "vrata",
    operation: str = "CREATE",
    served: Table | None = None,
    **annotations: str,
) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    words = {f"nginx.ingress.kubernetes.io/{name.replace('_', '-')}": text for name, text in annotations.items()}
    entry = {
        "metadata": {"name": "web", "namespace": "team", "annotations": words},
        "spec": {"ingressClassName": class_name, "rules": [{"host": host, "http": {"paths": paths}}]},
    }
    answer = review({"request": {"uid": "u", "operation": operation, "object": entry}}, CLASSES, served or Table())[
        "response"
    ]
    assert answer.pop("uid") == "u"
    return dict(answer)


def test_a_good_ingress_is_let_in() -> None:
    assert ask() == {"allowed": True}
    assert ask(limit_rps="5") == {"allowed": True}


def test_a_bad_one_is_kept_out_with_field_value_and_remedy() -> None:
    answer = ask(host="not a name")
    assert not answer["allowed"]
    assert "spec.rules[0].host: 'not a name' is no DNS name" in answer["status"]["message"]
    assert not ask(limit_rps="many")["allowed"]
    assert "snippet" in ask(server_snippet="return 200;")["status"]["message"]


@pytest.mark.parametrize("host", ["a.example", "*.example", ""])
def test_a_host_of_another_namespace_is_refused_whatever_the_age(host: str) -> None:
    def served(*namespaces: str, shared_hosts: bool = False) -> Table:
        table = Table(shared_hosts=shared_hosts)
        for number, namespace in enumerate(namespaces):
            created = f"2026-01-0{number + 1}T00:00:00Z"
            one = make_ingress("web", (host, "Prefix", "/"), namespace=namespace, created=created)
            table.put(one.metadata.key, read_ingress(one))
        return table

    answer = ask(host=host, served=served("others"))
    assert not answer["allowed"]
    assert "belongs to another namespace; use another host" in answer["status"]["message"]
    assert ask(host=host, served=served("others", shared_hosts=True)) == {"allowed": True}
    assert ask(host=host, served=served("team", "others")) == {"allowed": True}
    written_again = ask(host=host, served=served("others", "team"))
    assert written_again["allowed"]
    assert "another namespace" in written_again["warnings"][0]


def test_what_has_no_effect_is_a_warning() -> None:
    answer = ask(use_port_in_redirects="/")
    assert answer["allowed"]
    assert "use-port-in-redirects" in answer["warnings"][0]


def test_others_ingresses_and_deletions_are_none_of_its_business() -> None:
    assert ask(class_name="other", host="not a name") == {"allowed": True}
    assert ask(operation="DELETE", host="not a name") == {"allowed": True}
    assert "IngressClass" in ask(class_name="nobody")["warnings"][0]


@given(st.recursive(st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_whatever_comes_is_answered_or_refused(body: Any) -> None:
    for asked in (body, {"request": body}, {"request": {"uid": "u", "operation": "CREATE", "object": body}}):
        with contextlib.suppress(ValueError):
            assert isinstance(review(asked, CLASSES, Table())["response"]["allowed"], bool)


def test_no_question_says_what_to_send() -> None:
    with pytest.raises(ValueError, match="AdmissionReview"):
        review({}, CLASSES, Table())


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("value", ["true", "false"])
def test_webhook_check_and_explain_say_what_the_controller_does(value: str, *, passthrough: bool) -> None:
    words = {"nginx.ingress.kubernetes.io/ssl-passthrough": value}
    made = make_ingress("web", ("a.example", "Prefix", "/"), annotations=words)
    left_out = read_ingress(made, passthrough=passthrough).left_out
    assert left_out == (value == "true" and not passthrough)
    asked = {"request": {"uid": "u", "operation": "CREATE", "object": msgspec.to_builtins(made)}}
    assert review(asked, CLASSES, Table(), passthrough=passthrough)["response"]["allowed"] != left_out
    (report,) = report_all([Found(made)], shared_hosts=False, passthrough=passthrough)
    assert (report["left_out"], bool(report["problems"])) == (left_out, left_out)
    told = "\n".join(explain(Cluster((made,), (CLASS,), (), (), passthrough=passthrough), "https://a.example/"))
    assert ("left out" in told) == left_out


def test_every_command_takes_what_changes_the_verdict() -> None:
    changing = {"--shared-hosts", "--ssl-passthrough"}
    for one in (command, *command.commands.values()):
        assert changing <= {option for param in one.params for option in param.opts}, one.name
