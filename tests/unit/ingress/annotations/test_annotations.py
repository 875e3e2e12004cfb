"""Every row takes a good value and refuses a bad one; hostile text never gets into Options."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.annotations import grammar
from vrata.ingress.annotations.options import Options
from vrata.ingress.annotations.parse import NEEDS, NGINX, OURS, SWITCHES, parse_annotations
from vrata.ingress.annotations.table import ROWS, TABLE, Row, Support

GOOD = {
    "affinity": "cookie", "affinity-mode": "persistent", "affinity-canary-behavior": "legacy",
    "allowlist-source-range": "10.0.0.0/8, 2001:db8::/32", "app-root": "/app", "auth-method": "POST",
    "auth-proxy-set-headers": "told", "auth-request-redirect": "$scheme://$host/back$request_uri",
    "auth-signin-redirect-param": "return_to", "auth-realm": "Members only",
    "auth-response-headers": "X-User, X-Mail", "auth-secret": "team/users",
    "auth-secret-type": "auth-map", "auth-signin": "https://login.example/start?rd=$escaped_request_uri",
    "auth-tls-error-page": "https://help.example/", "auth-tls-match-cn": "CN=(web|[a-z]+-admin)",
    "auth-tls-secret": "team/ca", "auth-tls-verify-client": "optional", "auth-tls-verify-depth": "2",
    "auth-type": "basic", "auth-url": "http://auth.team.svc.cluster.local:8080/check", "backend-protocol": "grpc",
    "canary-by-cookie": "beta", "canary-by-header": "X-Canary", "canary-by-header-pattern": "^(eu|us)-[0-9]+$",
    "canary-by-header-value": "eu west", "canary-weight": "20", "canary-weight-total": "1000",
    "cors-allow-headers": "X-One, X-Two", "cors-allow-methods": "GET, PUT",
    "cors-allow-origin": "https://*.shop.example, https://shop.example:8443", "cors-expose-headers": "X-One",
    "cors-max-age": "600", "connection-proxy-header": "keep-alive", "default-backend": "errors",
    "mirror-host": "copies.example", "mirror-request-body": "off", "mirror-target": "http://copies.example$request_uri",
    "slow-start": "30s", "custom-http-errors": "404,503", "custom-headers": "headers", "proxy-buffering": "on",
    "proxy-request-buffering": "off", "client-body-buffer-size": "8k", "proxy-buffer-size": "16k",
    "proxy-buffers-number": "4", "proxy-busy-buffers-size": "16k", "proxy-max-temp-file-size": "0",
    "client-header-buffer-size": "4k", "large-client-header-buffers": "4 16k",
    "denylist-source-range": "192.0.2.7", "hsts": "max-age=60; preload",
    "limit-allowlist": "10.0.0.0/8", "limit-burst-multiplier": "3",
    "limit-connections": "10", "limit-rpm": "300", "limit-rps": "5", "limit-whitelist": "10.0.0.0/8",
    "load-balance": "ewma", "permanent-redirect": "https://new.example/", "permanent-redirect-code": "308",
    "proxy-body-size": "8m", "proxy-connect-timeout": "5", "proxy-next-upstream": "error timeout http_502",
    "proxy-next-upstream-tries": "3", "proxy-read-timeout": "60", "proxy-send-timeout": "60s",
    "proxy-cookie-domain": "inner.example .shop.example", "proxy-cookie-path": "/inner/ /",
    "proxy-redirect-from": "http://inner.example:8080/", "proxy-redirect-to": "$scheme://$host/",
    "proxy-ssl-ciphers": "HIGH:!aNULL", "proxy-ssl-protocols": "TLSv1.2 TLSv1.3", "proxy-ssl-verify-depth": "2",
    "proxy-ssl-name": "pods.example", "proxy-ssl-secret": "team/pods", "proxy-ssl-server-name": "on",
    "proxy-ssl-verify": "on", "rewrite-target": "/$1", "server-alias": "a.example, *.b.example",
    "satisfy": "any", "session-cookie-domain": "shop.example", "session-cookie-expires": "3600", "session-cookie-max-age": "3600",
    "session-cookie-name": "route", "session-cookie-path": "/shop", "session-cookie-samesite": "lax",
    "temporal-redirect": "/later", "temporal-redirect-code": "307", "upstream-hash-by": "$request_uri",
    "upstream-vhost": "inner.example", "whitelist-source-range": "10.0.0.0/8", "x-forwarded-prefix": "/shop",
}  # fmt: skip
CLOSED = {
    "auth-url", "auth-secret", "auth-type", "auth-tls-secret", "auth-tls-verify-client", "whitelist-source-range",
    "denylist-source-range", "proxy-ssl-verify", "proxy-ssl-secret", "satisfy", "auth-proxy-set-headers", "auth-tls-match-cn",
    "configuration-snippet",
}  # fmt: skip
HOSTILE = (
    "a\nserver x 10.0.0.1:80", "a\r\nX-Evil: 1", '"quoted"', "it's", "a\\b", "%[env(HOME)]", "}", "{", "a\x00b", "é",
    "\u2028", "\uff11", "a" * 100_000, "1\n", "/a;\n}\nlocation /x { return 200; }\n#",
    '"; access_by_lua_block { os.execute("id") } #', "/var/run/secrets/kubernetes.io/serviceaccount/token\n",
    "http://x/#;\n}}}\nssl_engine ../../../../proc/1/fd/9;\n{{{", "CN=x #(\n){}\n }}\nssl_engine x;\n#",
    "x;\r root /etc", "$(id)", "`id`", "(a+)+$", "((a*)*)*", "(?P<n>a)(?P=n)", "(", "[", "a{1,99999999999}",
)  # fmt: skip
# Addresses of redirects may have apostrophes and brackets; they are data everywhere.
LOCATIONS = {"permanent", "temporal", "signin", "error_page", "redirect_from", "redirect_to"}
BACKEND = [row for row in TABLE.values() if row.support is not Support.NO]
NAMES = [row.name for row in ROWS]
# Group -> what switches it on.
SWITCHED = {
    "canary": ("canary", "true"),
    "cors": ("enable-cors", "true"),
    "backend_tls": ("backend-protocol", "HTTPS"),
}
ENCRYPTED = {NGINX + "backend-protocol": "HTTPS"}


def find_texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, tuple):
        for item in value:
            yield from find_texts(item, name)
    elif is_dataclass(value):
        for each in fields(value):
            yield from find_texts(getattr(value, each.name), each.name)


def assert_safe(options: Options) -> None:
    for name, text in find_texts(options):
        assert text.isascii(), (name, text)
        assert text.isprintable(), (name, text)
        assert "%[" not in text, (name, text)
        assert not set(text) & set('"`'), (name, text)
        if not name.endswith("_pattern"):
            assert not set(text) & set("\\{}"), (name, text)
            assert name in LOCATIONS or not set(text) & set("[]'"), (name, text)


def test_names_are_once_in_the_table() -> None:
    assert len(TABLE) == len(ROWS)


@pytest.mark.parametrize("row", BACKEND, ids=lambda row: row.name)
def test_good_value_sets_its_field(row: Row) -> None:
    options, problems = parse_annotations("team/web", {NGINX + row.name: GOOD.get(row.name, "true")})
    assert not problems
    assert getattr(getattr(options, row.group), row.field) == row.parse(GOOD.get(row.name, "true"))
    assert not options.refused
    assert_safe(options)


@pytest.mark.parametrize("row", BACKEND, ids=lambda row: row.name)
def test_bad_value_is_a_problem_with_its_effect(row: Row) -> None:
    needed = NEEDS.get(row.name)
    switch, on = (needed[0], GOOD[needed[0]]) if needed else SWITCHED.get(row.group, ("", ""))
    for switched in ({}, {NGINX + switch: on}) if switch not in ("", row.name) else ({},):
        options, problems = parse_annotations("team/web", {**switched, NGINX + row.name: "\0"})
        assert [problem.reason for problem in problems] == ["InvalidAnnotation"]
        assert row.name in problems[0].message
        assert getattr(options, row.group) == getattr(parse_annotations("team/web", switched)[0], row.group)
        closed = row.closed and (switch in ("", row.name) or bool(switched))
        assert options.refused == closed
        assert ("the Ingress is left out" if closed else "it has no effect") in problems[0].message


def test_what_another_annotation_switches_off_is_told_and_leaves_nothing_out() -> None:
    """As in ingress-nginx, which serves such an Ingress as if the canary's annotations were not there."""
    assert SWITCHED.keys() == SWITCHES.keys()
    for name, text in (("canary", "false"), ("enable-cors", "0"), ("backend-protocol", "grpc")):
        bad = {"canary": "canary-weight", "enable-cors": "cors-max-age", "backend-protocol": "proxy-ssl-protocols"}[
            name
        ]
        options, (problem,) = parse_annotations("team/web", {NGINX + name: text, NGINX + bad: "x"})
        assert not options.refused
        assert f"{bad}: 'x' is not valid, it has no effect" in problem.message
    for name, needed in NEEDS.items():
        options, (problem,) = parse_annotations("team/web", {NGINX + name: "\0"})
        assert not options.refused
        assert "it has no effect" in problem.message
        assert parse_annotations("team/web", {NGINX + name: "\0", NGINX + needed[0]: "\0"})[0].refused
    # What cannot be read may be meant to switch it on.
    options, _ = parse_annotations("team/web", {NGINX + "canary": "maybe", NGINX + "canary-weight": "-1"})
    assert options.refused


@pytest.mark.parametrize("row", [row for row in ROWS if row.support is Support.NO], ids=lambda row: row.name)
def test_unsupported_annotation_says_what_instead(row: Row) -> None:
    options, problems = parse_annotations("team/web", {NGINX + row.name: "true"})
    assert [problem.reason for problem in problems] == ["UnsupportedAnnotation"]
    assert row.note
    assert row.note in problems[0].message
    assert options == Options(refused=row.closed)


def test_what_guards_a_door_fails_closed() -> None:
    assert all(TABLE[name].closed for name in CLOSED)


@pytest.mark.parametrize("prefix", [NGINX, OURS])
def test_unknown_name_is_a_problem(prefix: str) -> None:
    options, problems = parse_annotations("team/web", {prefix + "rewrite-tarjet": "/"})
    assert options == Options()
    assert [problem.reason for problem in problems] == ["UnknownAnnotation"]


def test_our_prefix_wins() -> None:
    options, problems = parse_annotations("team/web", {OURS + "limit-rps": "7", NGINX + "limit-rps": "5"})
    assert problems == ()
    assert options.rate_limit is not None
    assert options.rate_limit.per_second == 7


def test_two_names_of_one_list_that_differ_leave_the_ingress_out() -> None:
    lists = {NGINX + "whitelist-source-range": "10.0.0.0/8", NGINX + "allowlist-source-range": "0.0.0.0/0"}
    options, problems = parse_annotations("team/web", lists)
    assert options.refused
    assert len(problems) == 1


def test_units_are_nginxs() -> None:
    options, _ = parse_annotations("a/b", {NGINX + "proxy-body-size": "8m", NGINX + "proxy-read-timeout": "60"})
    assert options.traffic is not None
    assert options.traffic.body_max_bytes == 8 * 1024 * 1024
    assert options.backend is not None
    assert options.backend.read_timeout_ms == 60_000


@pytest.mark.parametrize("text", ["SSLv3", "TLSv1 TLSv1.2", "TLSv1.2,TLSv1.3", "tlsv1.2", "TLSv1.4"])
def test_versions_of_tls_are_known_and_without_gaps(text: str) -> None:
    options, (problem,) = parse_annotations("a/b", {**ENCRYPTED, NGINX + "proxy-ssl-protocols": text})
    assert "none left out between two" in problem.message
    assert options.refused


@pytest.mark.parametrize("text", ["NOBODY", "HIGH MEDIUM", "HIGH@SECLEVEL=0", "!ALL", "HIGH;x", "A" * 513])
def test_ciphers_are_those_that_openssl_has(text: str) -> None:
    options, (problem,) = parse_annotations("a/b", {**ENCRYPTED, NGINX + "proxy-ssl-ciphers": text})
    assert "name" in problem.message
    assert options.refused


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proxy-cookie-domain", "inner.example"),
        ("proxy-cookie-domain", "a b c"),
        ("proxy-cookie-domain", "~^(.+)$ shop.example"),
        ("proxy-cookie-domain", "a.example b.example;Secure"),
        ("proxy-cookie-path", "inner /"),
        ("proxy-redirect-from", "default"),
        ("proxy-redirect-from", "~^http://(.*)$"),
        ("proxy-redirect-to", "javascript:x"),
        ("proxy-redirect-to", "https://$request_uri"),
    ],
)
def test_what_is_replaced_in_answers_is_plain_text(name: str, text: str) -> None:
    options, (problem,) = parse_annotations("a/b", {NGINX + name: text})
    assert (options.answers, options.refused) == (None, False)
    assert f"{name}: {text!r} is not valid, it has no effect" in problem.message


# None of them may take more than a millisecond of a request's time (hostile/ingress/test_cost.py).
COSTLY = [
    *(
        "/.*.*.*x",
        "/[a-z]*[a-z]*[a-z]*[0-9]",
        "/a{0,999}a{0,999}a{0,99}b",
        "/" + "a?" * 25 + "a" * 25,
        "/(.*)/(.*)/(.*)/(.*)$",
    ),
    *("/" + "(a|a)" * 20 + "b", "/.*(a|b).*(a|b).*(a|b)"),
]
FREE = [
    "/(.*)",
    "/a(/|$)(.*)",
    "/([^/]+)/([^/]+)/([^/]+)/(.*)",
    r"/.*\.(php|jsp)$",
    r"/v[0-9]+/(users|carts)/(\d+)$",
    "/(.*)/x/(.*)",
]


@pytest.mark.parametrize("pattern", COSTLY)
def test_a_pattern_that_could_take_long_is_refused_with_what_to_do(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"could take too long: .*\[\^/\]\+/"):
        grammar.regex(pattern)


@pytest.mark.parametrize("pattern", FREE)
def test_what_manifests_have_is_cheap(pattern: str) -> None:
    assert grammar.regex(pattern) == pattern
    assert grammar.steps_of(pattern) <= 16 * grammar.LONGEST_MATCHED


def test_what_is_searched_for_is_tried_from_each_position() -> None:
    assert grammar.searched_regex("^a.*b.*c") == "^a.*b.*c"
    assert grammar.searched_regex("a[a-z]*[0-9]") == "a[a-z]*[0-9]"
    for pattern in ("a.*b.*c", "^a|a.*b.*c"):
        with pytest.raises(ValueError, match="could take too long"):
            grammar.searched_regex(pattern)


EXPLODING = ["(a+)+", "(a|a)*", "(a{1,9}){9}", "(?i)x", r"(a)\1", "(", "a b", "x" * 513, "(" * 256 + ")" * 256]
DIFFERENT = ["[[:foo:]]", "[[.a.]]", "a{70000}", "a{2,1}", "[z-a]", "[]a]", "{", r"\Q", "*"]


@pytest.mark.parametrize("pattern", [*EXPLODING, *DIFFERENT])
def test_regex_that_could_explode_or_differ_is_refused(pattern: str) -> None:
    asked = {NGINX + "canary": "true", NGINX + "canary-by-header-pattern": pattern}
    options, problems = parse_annotations("a/b", asked)
    assert problems[0].reason == "InvalidAnnotation"
    assert options.refused
    assert options.canary
    assert options.canary.header_pattern is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_hostile_corpus_never_gets_through(row: Row) -> None:
    good = GOOD.get(row.name, "true")
    for text in HOSTILE:
        for value in (text, good + text, text + good, good + "," + text):
            assert_safe(parse_annotations("team/web", {NGINX + row.name: value})[0])


HOSTILE_TEXT = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE), st.text("/.*$()[]a1%{\\\n", max_size=40))


@given(st.lists(st.tuples(st.sampled_from(NAMES), HOSTILE_TEXT), max_size=4))
def test_any_text_is_survived(values: list[tuple[str, str]]) -> None:
    assert_safe(parse_annotations("team/web", {NGINX + name: text for name, text in values})[0])


@pytest.mark.parametrize("rest", ["", "/x", ":8081", ":8081/x", "$request_uri", ":80$request_uri"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "a.localhost", "169.254.169.254", "0.0.0.0"])
def test_the_proxys_own_machine_is_never_asked(name: str, rest: str) -> None:
    for annotation in ("auth-url", "mirror-target"):
        options, (problem,) = parse_annotations("team/web", {f"{NGINX}{annotation}": f"http://{name}{rest}"})
        assert "not the proxy's own machine" in problem.message
        assert options.mirror is None
        assert options.external_auth is None


@pytest.mark.parametrize(
    "url", ["https://$host/oauth2/auth", "http://auth.$namespace.svc:80/auth", "http://$host$request_uri"]
)
def test_who_is_asked_is_named_and_no_variable(url: str) -> None:
    options, (problem,) = parse_annotations("team/web", {f"{NGINX}auth-url": url})
    assert options.refused
    assert url in problem.message
    assert "name the service, without a variable" in problem.message
