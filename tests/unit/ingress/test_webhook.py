"""What the admission webhook lets in is what the controller serves."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import CLASSES

from vrata.ingress.webhook import review


def ask(
    *, host: str = "a.example", class_name: str = "vrata", operation: str = "CREATE", **annotations: str
) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    words = {f"nginx.ingress.kubernetes.io/{name.replace('_', '-')}": text for name, text in annotations.items()}
    entry = {
        "metadata": {"name": "web", "namespace": "team", "annotations": words},
        "spec": {"ingressClassName": class_name, "rules": [{"host": host, "http": {"paths": paths}}]},
    }
    answer = review({"request": {"uid": "u", "operation": operation, "object": entry}}, CLASSES)["response"]
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
            assert isinstance(review(asked, CLASSES)["response"]["allowed"], bool)


def test_no_question_says_what_to_send() -> None:
    with pytest.raises(ValueError, match="AdmissionReview"):
        review({}, CLASSES)
