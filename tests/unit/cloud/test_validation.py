"""What a body may hold: fields, and the rules of listeners, pools, monitors and members."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud import fields
from vrata.cloud.balancing import model, rules
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


def test_what_the_kernel_lacks_is_501() -> None:
    for check, values in (
        (model.check_listener, {"protocol": "SCTP"}),
        (model.check_pool, {"protocol": "SCTP", "lb_algorithm": "ROUND_ROBIN"}),
    ):
        with pytest.raises(Broken, match="SCTP") as refused:
            check(values)
        assert refused.value.status == 501


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"protocol": "TERMINATED_HTTPS"}, "certificate container reference must be provided"),
        ({"protocol": "HTTP", "default_tls_container_ref": "x"}, "not allowed on HTTP"),
        ({"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "tls_versions": ["TLSv9"]}, "TLSv9"),
        ({"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "tls_versions": []}, "Empty TLS version"),
        ({"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "alpn_protocols": ["h3"]}, "h3"),
        ({"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "tls_ciphers": "A\nB"}, "tls_ciphers"),
        (
            {"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "client_authentication": "MANDATORY"},
            "requires a client CA",
        ),
        ({"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "x", "hsts_preload": True}, "hsts_max_age"),
        ({"protocol": "HTTP", "hsts_max_age": 5}, "HSTS"),
        ({"protocol": "UDP", "insert_headers": {"X-Forwarded-For": "true"}}, "insert-headers"),
        ({"protocol": "TCP", "l7policies": [{}]}, "L7 policies"),
    ],
)
def test_a_listener_that_makes_no_sense_is_told_why(values: dict[str, Any], word: str) -> None:
    with pytest.raises(Broken, match=word) as refused:
        model.check_listener(values)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"action": "REDIRECT_TO_URL"}, "redirect_url must not be None"),
        ({"action": "REDIRECT_TO_URL", "redirect_url": "ftp://x"}, "Not a valid URL"),
        ({"action": "REDIRECT_TO_URL", "redirect_url": "http://x/\r\nSet-Cookie: a"}, "Not a valid URL"),
        (
            {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://x", "redirect_http_code": 200},
            "redirect_http_code",
        ),
        ({"action": "REDIRECT_TO_POOL"}, "redirect_pool_id must not be None"),
    ],
)
def test_a_policy_that_makes_no_sense_is_told_why(values: dict[str, Any], word: str) -> None:
    with pytest.raises(Broken, match=word):
        rules.check_policy(values)


def test_a_policy_keeps_only_what_its_action_uses() -> None:
    given = {"action": "REJECT", "redirect_url": "http://x", "redirect_http_code": 301, "redirect_pool_id": "p"}
    kept = rules.check_policy(given)
    assert [kept[name] for name in ("redirect_url", "redirect_http_code", "redirect_pool_id")] == [None, None, None]
    assert rules.check_policy({"action": "REDIRECT_TO_URL", "redirect_url": "http://x"})["redirect_http_code"] == 302


@pytest.mark.parametrize(
    ("kind", "compare", "key", "value", "word"),
    [
        ("HEADER", "EQUAL_TO", None, "a", "requires a key"),
        ("HEADER", "EQUAL_TO", "a b", "a", "Invalid key"),
        ("HEADER", "REGEX", "a", "(", "Invalid regular expression"),
        ("COOKIE", "EQUAL_TO", "a", "b;c", "unsupported characters"),
        ("FILE_TYPE", "CONTAINS", None, "png", "comparison type"),
        ("SSL_CONN_HAS_CERT", "EQUAL_TO", None, "no", "boolean True"),
        ("SSL_VERIFY_RESULT", "EQUAL_TO", None, "-1", "non-negative"),
        ("SSL_DN_FIELD", "EQUAL_TO", "1", "x", "distinguished name"),
        ("PATH", "STARTS_WITH", None, "/a\nb", "unsupported characters"),
        ("PATH", "STARTS_WITH", None, "", "requires a value"),
    ],
)
def test_a_rule_that_makes_no_sense_is_told_why(
    kind: str, compare: str, key: str | None, value: str, word: str
) -> None:
    with pytest.raises(Broken, match=word):
        rules.check_rule({"type": kind, "compare_type": compare, "key": key, "value": value})


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
