"""What a body may hold: fields, and the rules of listeners, pools, monitors and members."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud import fields
from vrata.cloud.balancing import model
from vrata.cloud.balancing.broken import Broken
from vrata.cloud.identity import passwords

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
SHAPES = {"listener": model.LISTENER, "pool": model.POOL, "member": model.MEMBER, "monitor": model.MONITOR}


@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_any_body_is_checked_or_refused_by_name_never_by_accident(shape: str, data: st.DataObject) -> None:
    declared = SHAPES[shape]
    body = data.draw(st.dictionaries(st.sampled_from([*declared, "nonsense"]), json_values, max_size=5))
    try:
        values = fields.parse(body, declared)
    except fields.Problem as problem:
        if problem.name not in {*declared, "nonsense"}:
            raise
        return
    assert "nonsense" not in values
    for name, value in values.items():
        if declared[name].choices and value is not None:
            assert value in declared[name].choices


@given(st.text(alphabet="\x00\n\r\x1b\x7f", min_size=1))
def test_control_characters_are_refused_in_every_string(text: str) -> None:
    body = {"name": f"a{text}b"}
    with pytest.raises(fields.Problem):
        fields.parse(body, {"name": fields.Field()})


MONITOR: dict[str, Any] = {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"url_path": "no-slash"},
        {"url_path": '/with"quote'},
        {"url_path": "/with space"},
        {"expected_codes": "20"},
        {"expected_codes": "200-"},
        {"expected_codes": "299-200"},
        {"expected_codes": "200;300"},
        {"domain_name": "example.org"},
        {"domain_name": "a b", "http_version": 1.1},
        {"type": "UDP-CONNECT"},
        {"type": "TCP", "url_path": "/"},
    ],
)
def test_a_monitor_that_breaks_a_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Broken) as refused:
        model.check_monitor(MONITOR | wrong, "HTTP")
    assert refused.value.status == 400


def test_an_http_monitor_gets_https_defaults() -> None:
    checked = model.check_monitor(MONITOR, "HTTP")
    assert (checked["http_method"], checked["url_path"], checked["expected_codes"]) == ("GET", "/", "200")


@pytest.mark.parametrize(
    ("persistence", "good"),
    [
        ({"type": "SOURCE_IP"}, True),
        ({"type": "APP_COOKIE", "cookie_name": "JSESSIONID"}, True),
        ({"type": "APP_COOKIE"}, False),
        ({"type": "HTTP_COOKIE", "cookie_name": "x"}, False),
        ({"type": "APP_COOKIE", "cookie_name": "a b"}, False),
        ({"type": "APP_COOKIE", "cookie_name": "a\nserver evil 1.2.3.4"}, False),
        ({"type": "OTHER"}, False),
        ({"type": "SOURCE_IP", "more": 1}, False),
    ],
)
def test_session_persistence_obeys_its_rules(persistence: dict[str, Any], good: bool) -> None:
    pool = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "session_persistence": persistence}
    if good:
        model.check_pool(pool)
    else:
        with pytest.raises(Broken):
            model.check_pool(pool)


@pytest.mark.parametrize("protocol", ["UDP", "SCTP", "TERMINATED_HTTPS", "PROMETHEUS"])
def test_what_is_not_carried_yet_is_501(protocol: str) -> None:
    with pytest.raises(Broken) as refused:
        model.check_listener({"protocol": protocol})
    assert refused.value.status == 501


def test_listeners_have_only_pools_that_fit() -> None:
    for listener, pools in model.POOLS_OF_LISTENER.items():
        for pool in model.POOL_PROTOCOLS:
            if pool in pools:
                model.check_pair(listener, pool)
            else:
                with pytest.raises(Broken):
                    model.check_pair(listener, pool)


def test_a_secret_is_known_by_its_hash_alone() -> None:
    stored = passwords.hash_secret("secret")
    assert "secret" not in stored
    assert passwords.verify("secret", stored)
    assert not passwords.verify("Secret", stored)
    assert not passwords.verify("secret", None)
