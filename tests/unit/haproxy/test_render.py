"""HAProxy configuration text: nobody can add a directive to it."""

import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.config_words import split_line
from tests.support.instances import HOSTILE, balancer

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance
from vrata.haproxy.render import render_config
from vrata.haproxy.words import quote
from vrata.host.render import render_haproxy

DIRECTORY = "/run/vrata"


def text_of(desired: DesiredInstance) -> str:
    return render_config(render_haproxy(desired, DIRECTORY))


@given(st.text())
@example("'")
@example('"')
@example("a'b\"c\\ $HOME #x")
def test_a_quoted_word_is_read_back_as_exactly_one_word(word: str) -> None:
    if not word.isprintable():
        with pytest.raises(InvalidInput):
            quote(word)
    else:
        assert split_line(f"a {quote(word)} b") == ["a", word, "b"]


POOL_FIELDS = ("id", "protocol", "lb_algorithm", "persistence_type", "cookie_name")
MONITOR_FIELDS = ("type", "http_method", "url_path", "expected_codes", "domain_name")
MEMBER_FIELDS = ("id", "address", "monitor_address")
LISTENER_FIELDS = ("id", "protocol", "default_pool_id", "allowed_cidrs", "insert_headers")
hostile = st.sampled_from(HOSTILE) | st.text(max_size=40)


def shape(text: str) -> list[str]:
    """The keywords of a configuration, one a line: what the file does, whatever its values are."""
    return [" ".join(line.split()[:1]) for line in text.splitlines()]


@given(
    hostile,
    st.sampled_from(
        [
            (kind, f)
            for kind, fields in (
                ("pool", POOL_FIELDS),
                ("monitor", MONITOR_FIELDS),
                ("member", MEMBER_FIELDS),
                ("listener", LISTENER_FIELDS),
            )
            for f in fields
        ]
    ),
)
def test_no_string_of_a_user_adds_a_directive(value: str, where: tuple[str, str]) -> None:
    kind, field = where
    whole = balancer()
    pool, listener = whole.pools[0], whole.listeners[0]
    replace = msgspec.structs.replace
    if kind == "pool":
        pool = replace(pool, **{field: value})
    elif kind == "monitor":
        assert pool.healthmonitor
        pool = replace(pool, healthmonitor=replace(pool.healthmonitor, **{field: value}))
    elif kind == "member":
        pool = replace(pool, members=(replace(pool.members[0], **{field: value}), *pool.members[1:]))
    else:
        listener = replace(listener, **{field: (value,) if field in ("allowed_cidrs", "insert_headers") else value})
    changed = balancer(pools=(pool, *whole.pools[1:]), listeners=(listener, *whole.listeners[1:]))
    try:
        text = text_of(changed)
    except InvalidInput:
        return
    assert set(shape(text)) <= set(shape(text_of(whole))) | {
        "balance",
        "cookie",
        "dynamic-cookie-key",
        "stick",
        "option",
    }
    assert "evil" not in " ".join(re.findall(r"^\s*server .*$", text, re.MULTILINE))
    assert not [line for line in text.splitlines() if not line.isprintable()]


def test_a_monitor_that_octavia_lacks_is_refused_and_says_what_to_use() -> None:
    pool = balancer().pools[0]
    assert pool.healthmonitor
    bad = msgspec.structs.replace(pool, healthmonitor=msgspec.structs.replace(pool.healthmonitor, type="SCTP"))
    with pytest.raises(InvalidInput, match=r"SCTP.*use one of TCP, HTTP, HTTPS, TLS-HELLO, PING"):
        text_of(balancer(pools=(bad, *balancer().pools[1:])))


def test_no_line_holds_more_words_than_haproxy_reads() -> None:
    assert max(len(line.split()) for line in text_of(balancer()).splitlines()) < 64
