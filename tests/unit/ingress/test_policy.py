"""What annotations ask for becomes one line of words, and nothing that anybody writes becomes more than one of them."""

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.annotations.test_annotations import GOOD, HOSTILE_TEXT, NAMES

from vrata.ingress.annotations.parse import NGINX, parse_annotations
from vrata.ingress.endpoints import backend_key
from vrata.ingress.model import NO_POLICY, BackendKey, Policy, Route, Scheme, Slot
from vrata.ingress.places import (
    PLAIN_KINDS,
    ROW_BYTES,
    SLOW_KINDS,
    TLS_KINDS,
    Kind,
    kind_of,
    place,
    policy_name,
    rows_of_policy,
)
from vrata.ingress.policy import canary_of, cookie_at, join, plain_start, policy_of, redirect_to

LINE = re.compile(r"([a-z-]+=[A-Za-z0-9/:*,._~%-]*( |\Z))*", re.ASCII)


def words(annotations: dict[str, str], ingress: str = "team/web") -> dict[str, str]:
    options, problems = parse_annotations(ingress, {NGINX + name: text for name, text in annotations.items()})
    assert not problems
    pairs = (word.partition("=") for word in policy_of(ingress, options).split())
    return {name: unquote(value) for name, _, value in pairs}


def test_nothing_asked_for_is_no_policy() -> None:
    assert words({}) == {}
    assert words({"enable-cors": "false", "ssl-redirect": "true"}) == {}


def test_a_list_is_one_word() -> None:
    assert words({"whitelist-source-range": "10.0.0.0/8, 2001:db8::/32"}) == {
        "allow": "10.0.0.0/8,2001:0db8:0000:0000:0000:0000:0000:0000/32"
    }


def test_blanks_and_semicolons_are_quoted() -> None:
    (line,) = [policy_of("a/b", parse_annotations("a/b", {NGINX + "hsts": "max-age=60; preload"})[0])]
    assert line == "hsts=max-age%3D60%3B%20preload"


def test_of_two_time_outs_the_longer_one_counts_and_only_a_long_one_is_for_websockets() -> None:
    assert words({"proxy-read-timeout": "5", "proxy-send-timeout": "7"}) == {"timeout": "7000"}
    assert words({"proxy-read-timeout": "2h"}) == {"timeout": "7200000", "tunnel": "7200000"}


def test_errors_that_a_class_has_another_service_answer_for_may_be_left_to_the_pods() -> None:
    asked = {"custom-http-errors": "404,503"}
    assert words(asked) == {"errors": "404,503", "errors-of": "team/web"}
    assert words(asked | {"disable-proxy-intercept-errors": "true"}) == {}


def test_only_what_shall_not_be_logged_is_said() -> None:
    assert words({"enable-access-log": "false"}) == {"quiet": "1"}
    assert words({"enable-access-log": "true"}) == {}


def test_two_ingresses_do_not_share_a_limit() -> None:
    asked = {"limit-rps": "2"}
    one, other = words(asked, "team/one"), words(asked, "team/other")
    assert one["limit-second"] == "10"
    assert one["limit"] != other["limit"]


@pytest.mark.parametrize(("asked", "burst"), [("1", 1), ("4", 3), ("5", 5), ("1000", 50)])
def test_a_burst_is_counted_over_as_many_seconds_or_minutes_and_never_more_than_asked_for(
    asked: str, burst: int
) -> None:
    said = words({"limit-rps": "2", "limit-rpm": "7", "limit-burst-multiplier": asked})
    assert (said["limit-burst"], said["limit-second"], said["limit-minute"]) == (
        str(burst),
        str(2 * burst),
        str(7 * burst),
    )


def test_a_weight_of_nothing_is_no_weight() -> None:
    options, _ = parse_annotations("a/b", {NGINX + "canary": "true", NGINX + "canary-by-header": "X-Canary"})
    assert options.canary
    assert canary_of(options.canary) == "canary=1 canary-header=x-canary"


@given(st.lists(st.tuples(st.sampled_from(NAMES), HOSTILE_TEXT), max_size=6))
def test_whatever_is_written_the_line_is_words(values: list[tuple[str, str]]) -> None:
    annotations = {NGINX + name: GOOD.get(name, "true") + text for name, text in values}
    annotations |= {NGINX + name: text for name, text in values if len(text) % 2}
    options, _ = parse_annotations("team/web", annotations)
    canary = canary_of(options.canary) if options.canary else NO_POLICY
    assert LINE.fullmatch(join(policy_of("team/web", options), canary, redirect_to("a.example")))


def test_a_long_policy_is_several_rows() -> None:
    networks = ",".join(f"10.{number // 256}.{number % 256}.0/25" for number in range(9000))
    asked = {NGINX + "whitelist-source-range": networks, NGINX + "enable-access-log": "false"}
    policy = policy_of("team/web", parse_annotations("team/web", asked)[0])
    rows = rows_of_policy(policy)
    name = policy_name(policy)
    assert list(rows)[-1] == name, "the one that counts them comes last"
    assert rows[name] == f"parts={len(rows) - 1} quiet=1"
    assert "".join(rows[f"{name}/{number}"] for number in range(1, len(rows))) == policy
    assert all(0 < len(text) <= ROW_BYTES and text == text.strip() for text in rows.values())
    assert rows_of_policy(Policy("timeout=5")) == {policy_name(Policy("timeout=5")): "timeout=5"}


@given(st.lists(st.from_regex(r"[a-z]{1,3}=[a-z]{1,9}", fullmatch=True), min_size=1, max_size=9).map(" ".join))
def test_no_part_of_a_policy_has_a_blank_at_its_end(text: str) -> None:
    policy = Policy((text + " ") * (1 + 30_000 // len(text)) + "x")
    *parts, _ = rows_of_policy(policy).values()
    assert "".join(parts) == policy
    assert all(part == part.strip() for part in parts)


def test_networks_are_in_order_and_do_not_overlap() -> None:
    asked = {NGINX + "denylist-source-range": "10.1.0.0/16,2001:db8::1,10.0.0.0/16,10.0.3.0/24,192.0.2.7"}
    policy = policy_of("team/web", parse_annotations("team/web", asked)[0])
    assert policy == "deny=10.0.0.0/15,192.0.2.7/32,2001:0db8:0000:0000:0000:0000:0000:0001/128"


def test_a_place_looks_for_cookies_only_where_clients_have_some() -> None:
    kinds = {(): Kind.ROUND_ROBIN, ("hash",): Kind.HASH, ("opaque",): Kind.COOKIE, ("hash", "opaque"): Kind.COOKIE}
    for asked, kind in kinds.items():
        assert kind_of(backend_key("default/web", "80", ("h2", *asked))) is kind
        encrypted, slow = (backend_key("default/web", "80", (*asked, *words)) for words in (("tls",), ("tls", "slow")))
        number = PLAIN_KINDS.index(kind)
        assert (kind_of(encrypted), kind_of(slow)) == (TLS_KINDS[number], SLOW_KINDS[number])
    assert kind_of(backend_key("default/web", "80", ("tcp",))) is Kind.TCP


def test_a_place_says_all_that_a_route_needs() -> None:
    web, new = BackendKey("default/web:80"), BackendKey("default/new:80")
    slots = {web: Slot("b-000001"), new: Slot("b-000002")}
    policy = Policy("timeout=5")
    name = policy_name(policy)
    assert place(Route(web), Scheme.HTTP, slots) == "b-000001"
    assert place(Route(web, policy=policy), Scheme.HTTP, slots) == f"b-000001/{name}"
    assert place(Route(web, policy=policy, canary=new), Scheme.HTTPS, slots) == f"b-000001+b-000002/{name}"
    assert place(Route(web, rewrite="/new/\\1"), Scheme.HTTP, slots) == "b-000001/p-0/new/\\1"
    assert place(Route(web, https_only=True, policy=policy), Scheme.HTTP, slots) == "to-https"


@pytest.mark.parametrize(
    ("pattern", "start"),
    [("/a(/|$)(.*)", "/a"), ("/b/(.*)", "/b/"), ("/a[0-9]", "/"), ("/x/a.*", "/x/"), ("/a/?$", "/"), ("/a+", "/"), ("/a", "/"),
     ("/a$", "/a"), ("/.*", "/"), ("/api/v1(?:/|$)x", "/api/v1"), ("/a/b*c", "/a/"), ("(/a|/b)", "/"), ("/ab?", "/")],
)  # fmt: skip
def test_what_a_pattern_begins_with_is_the_folder_of_all_its_paths(pattern: str, start: str) -> None:
    """Browsers send a cookie to its path and to what is below (RFC 6265, 5.1.4)."""
    assert plain_start(pattern) == start
    compiled = re.compile(pattern)
    for path in ("/a", "/a/x", "/ax", "/a1", "/b/x", "/x/a", "/x/ab", "/api/v1/x", "/a/bbc", "/aaa"):
        if compiled.match(path):
            assert path == start or path.startswith(start.rstrip("/") + "/")


def cookie_path_of(path: str) -> str:
    options, _ = parse_annotations("team/web", {NGINX + "affinity": "cookie"})
    name, _, value = cookie_at(options, path).partition("=")
    assert name == "cookie-at"
    return unquote(value)


@pytest.mark.parametrize(
    ("path", "cookie_path"),
    [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a;b", "/"), ("/x/a;b/c", "/x"), ("/x/a|b", "/x"), ("/x/[a]", "/x"),
     ("/x/a\"b", "/x"), ("/x/\u00fc", "/x"), ("/x/a b", "/x"), ("/x/{a}", "/x"),
     ("/a%3Bb", "/a%3Bb"), ("/a@b:c", "/a@b:c"), (";", "/")],
)  # fmt: skip
def test_a_cookies_path_is_one_that_clients_send_it_back_for(path: str, cookie_path: str) -> None:
    assert cookie_path_of(path) == cookie_path


WRITTEN = "".join(char for char in map(chr, range(33, 127)) if char not in '"#<>?`{}^|[]\\')  # as they are, in a path


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF)).map("/".__add__))
def test_any_rules_cookie_comes_back_to_it(path: str) -> None:
    """RFC 6265, 5.2.4 (attributes end at `;`) and 5.1.4 (what a path matches), with paths as browsers write them."""
    cookie_path = cookie_path_of(path)
    asked = quote(path, safe=WRITTEN)
    assert cookie_path == cookie_path.partition(";")[0]
    assert cookie_path.isascii()
    assert asked == cookie_path or asked.startswith(cookie_path.rstrip("/") + "/")
    deepest = len(cookie_path.rstrip("/").split("/"))
    safe = [one for one in path.rstrip("/").split("/")[deepest:] if one]
    assert not safe or not set(safe[0]) <= set(WRITTEN) - {";"}
