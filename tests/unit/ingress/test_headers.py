"""Headers out of ConfigMaps: what is set, and what is told instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.test_policy import LINE

from vrata.ingress.headers import HEADERS, MOST, Headers, headers_in
from vrata.ingress.model import SecretKey
from vrata.ingress.policy import headers_of
from vrata.kube.objects import ConfigMap, ObjectMeta

KEY = SecretKey(f"team/extra{HEADERS}")


def read(data: dict[str, str]) -> Headers | tuple[str, str]:
    return headers_in(KEY, ConfigMap(ObjectMeta(name="extra"), data))


def test_a_key_is_a_header() -> None:
    found = read({"X-Frame-Options": "DENY\n", "Content-Security-Policy": "default-src 'self'"})
    assert found == Headers((("Content-Security-Policy", "default-src 'self'"), ("X-Frame-Options", "DENY")))
    assert headers_of(found) == ("headers=Content-Security-Policy:default-src%20%27self%27,X-Frame-Options:DENY")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"Content-Length": "1"}, "it is of the connection itself"),
        ({"X One": "1"}, "it is no name of a header"),
        ({"X-One:": "1"}, "it is no name of a header"),
        ({"X-One": "a\r\nX-Two: b"}, "printable ASCII"),
        ({"X-One": "a" * 1025}, "at most 1,024"),
        ({f"X-{number}": "1" for number in range(MOST + 1)}, f"at most {MOST}"),
    ],
)
def test_what_is_wrong_is_told(data: dict[str, str], reason: str) -> None:
    found = read(data)
    assert isinstance(found, tuple)
    assert found[0] == "InvalidConfigMap"
    assert reason in found[1]


def test_a_missing_one_is_told() -> None:
    assert headers_in(KEY, None) == (
        "ConfigMapNotFound",
        "no ConfigMap 'team/extra'; create it, then its headers are set",
    )


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=5))
def test_whatever_is_written_the_policy_is_one_word(data: dict[str, str]) -> None:
    found = read(data)
    if isinstance(found, Headers):
        assert LINE.fullmatch(headers_of(found))
