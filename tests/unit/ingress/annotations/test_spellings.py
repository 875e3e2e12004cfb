"""Values as manifests of ingress-nginx have them: what its parsers take means the same here, however it is written."""

import re

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.annotations.options import Options
from vrata.ingress.annotations.parse import ADJUSTED, GROUPS, NETWORKS, NGINX, parse_annotations
from vrata.ingress.annotations.source import SOURCE
from vrata.ingress.annotations.table import TABLE, Support
from vrata.ingress.claims import read_ingress

SUPPORTED = sorted(name for name in SOURCE if name in TABLE and TABLE[name].support is not Support.NO)
BOOLEANS = [name for name in SUPPORTED if SOURCE[name][0] == "strconv.ParseBool"]
NUMBERS = [name for name in SUPPORTED if SOURCE[name][0] == "strconv.Atoi" and not name.endswith("-code")]
SPELLINGS = [
    ("allowlist-source-range", "10.0.0.0/8,\n192.0.2.7", ("10.0.0.0/8", "192.0.2.7/32")),
    ("whitelist-source-range", " 10.0.0.0/8 ,2001:DB8::/32 ", ("10.0.0.0/8", "2001:db8::/32")),
    ("auth-method", "PUT", "PUT"),
    ("auth-realm", "  Members only ", "Members only"),
    ("auth-response-headers", "X-User,X-Mail,", ("X-User", "X-Mail")),
    ("auth-response-headers", "X-User, , X-Mail", ("X-User", "X-Mail")),
    ("auth-signin", "https://Login.Example/?rd=$escaped_request_uri", "https://login.example/?rd=$escaped_request_uri"),
    ("auth-signin", "https://$host/oauth2/start?rd=$escaped_request_uri", "https://$host/oauth2/start?rd=$escaped_request_uri"),
    ("auth-type", "basic\n", "basic"),
    ("auth-url", "http://Auth.Team.svc.cluster.local:8080/Check", "http://auth.team.svc.cluster.local:8080/Check"),
    ("auth-url", "http://auth.team.svc?x=1", "http://auth.team.svc/?x=1"),
    ("backend-protocol", "https ", "HTTPS"),
    ("connection-proxy-header", "close", "close"),
    ("cors-allow-headers", "X-One, X-Two,", ("X-One", "X-Two")),
    ("cors-allow-methods", "get,\n  post", ("GET", "POST")),
    ("cors-allow-origin", "https://Shop.Example, null, app://x.example,", ("https://shop.example", "null", "app://x.example")),
    ("auth-request-redirect", "$request_uri", "$request_uri"),
    ("auth-response-headers", "X-A X-B", ("X-A", "X-B")),
    ("cors-allow-headers", "X-A X-B", ("X-A", "X-B")),
    ("cors-allow-methods", "GET, PROPFIND, MKCOL", ("GET", "PROPFIND", "MKCOL")),
    ("cors-allow-methods", "PUT GET POST", ("PUT", "GET", "POST")),
    ("cors-expose-headers", "X-A X-B", ("X-A", "X-B")),
    ("cors-max-age", "99999999", 99_999_999),
    ("custom-http-errors", "404,503,", (404, 503)),
    ("permanent-redirect", "https://x/?a[]=1&b=it's", "https://x/?a[]=1&b=it's"),
    ("permanent-redirect", "https://my_host.example/a|b", "https://my_host.example/a|b"),
    ("proxy-next-upstream", "errortimeout", ("error", "timeout")),
    ("session-cookie-expires", "2147483647", 2_147_483_647),
    ("session-cookie-max-age", "999999999", 999_999_999),
    ("temporal-redirect", "/login?x='a'", "/login?x='a'"),
    ("custom-http-errors", "404, 503", (404, 503)),
    ("limit-whitelist", "10.0.0.0/8,\n  192.0.2.0/24,", ("10.0.0.0/8", "192.0.2.0/24")),
    ("mirror-host", "Copies.Example:8080", "copies.example:8080"),
    ("permanent-redirect", "https://New.Example/Path", "https://new.example/Path"),
    ("permanent-redirect", "https://h?x=1", "https://h/?x=1"),
    ("permanent-redirect", "https://h#top", "https://h/#top"),
    ("permanent-redirect", "https://New.example$uri?$args", "https://new.example$uri?$args"),
    ("permanent-redirect", "https://$host?x=1", "https://$host/?x=1"),
    ("permanent-redirect", "https://[2001:DB8::1]:8443?x", "https://[2001:db8::1]:8443/?x"),
    ("permanent-redirect", "https://h.:65535/a(b)?c=%C3%BC#d", "https://h.:65535/a(b)?c=%C3%BC#d"),
    ("permanent-redirect", "https://www.$host:8443$request_uri", "https://www.$host:8443$request_uri"),
    ("permanent-redirect", "HTTPS://new.example$request_uri", "https://new.example$request_uri"),
    ("proxy-body-size", "8M", 8 << 20),
    ("proxy-body-size", "8 m", 8 << 20),
    ("proxy-buffer-size", "4096B", 4096),
    ("proxy-cookie-domain", "inner.example   shop.example", ("inner.example", "shop.example")),
    ("proxy-next-upstream", "error timeout  http_502 ", ("error", "timeout", "http_502")),
    ("proxy-ssl-name", "Pods.Example", "pods.example"),
    ("proxy-ssl-protocols", " TLSv1.2  TLSv1.3 ", ("TLSv1.2", "TLSv1.3")),
    ("proxy-ssl-verify", "on ", True),
    ("rewrite-target", "$1", "$1"),
    ("server-alias", "A.example,\n*.b.example,", ("a.example", "*.b.example")),
    ("session-cookie-domain", ".Shop.example", "shop.example"),
    ("session-cookie-max-age", "-1", -1),
    ("session-cookie-samesite", "NONE", "None"),
    ("temporal-redirect", "http://Later.example", "http://later.example"),
    ("upstream-vhost", "Inner.example:8080", "inner.example:8080"),
    ("x-forwarded-prefix", "shop", "shop"),
]  # fmt: skip


def read(name: str, text: str) -> object:
    options, problems = parse_annotations("team/web", {NGINX + name: text})
    assert not problems, problems
    row = TABLE[name]
    return getattr(getattr(options, row.group), row.field)


@pytest.mark.parametrize(("name", "text", "value"), SPELLINGS)
def test_a_value_means_the_same_however_it_is_written(name: str, text: str, value: object) -> None:
    assert read(name, text) == value


@pytest.mark.parametrize("name", BOOLEANS)
def test_a_boolean_is_written_as_go_reads_it(name: str) -> None:
    for text in ("1", "t", "T", "TRUE", "true", "True"):
        assert read(name, text) is True
    for text in ("0", "f", "F", "FALSE", "false", "False"):
        assert read(name, text) is False


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_written_as_go_reads_it(name: str) -> None:
    assert read(name, "+5") == read(name, "005") == read(name, "5")


@pytest.mark.parametrize("text", ["", " ", "\n"])
@pytest.mark.parametrize("name", sorted({*SUPPORTED} - NETWORKS))
def test_an_empty_value_is_none(name: str, text: str) -> None:
    assert parse_annotations("team/web", {NGINX + name: text}) == (Options(), ())
    alone = read_ingress(make_ingress("a", ("a.example", "Prefix", "/")), {"x": "y"})
    assert read_ingress(make_ingress("a", ("a.example", "Prefix", "/"), annotations={NGINX + name: text})) == alone


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_an_empty_list_of_networks_lets_nobody_in(name: str) -> None:
    for text in ("", ",", "\n"):
        options, problems = parse_annotations("team/web", {NGINX + name: text})
        assert options.refused
        assert problems


def test_an_empty_value_leaves_that_of_the_class() -> None:
    made = make_ingress("a", ("a.example", "Prefix", "/"), annotations={NGINX + "limit-rps": ""})
    (claim,) = read_ingress(made, {NGINX + "limit-rps": "5"}).hosts["a.example"]
    assert "limit-second" in claim.route.policy


def test_no_limit_is_none() -> None:
    for name in ("limit-rps", "limit-rpm", "limit-connections"):
        made = make_ingress("a", ("a.example", "Prefix", "/"), annotations={NGINX + name: "0"})
        (claim,) = read_ingress(made).hosts["a.example"]
        assert not claim.route.policy


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/api(/.*)", True),
        ("/api(/|$)(.*)", True),
        ("/(a)(/b)", False),
        ("/api/(.*)", False),
        ("/a[(]b(/.*)", True),
        ("/a", False),
    ],
)
def test_a_new_path_has_a_slash_at_its_beginning(path: str, *, served: bool) -> None:
    made = make_ingress("a", ("a.example", "Prefix", path), annotations={NGINX + "rewrite-target": "$1"})
    claims = read_ingress(made)
    assert bool(claims.hosts) == served
    assert [one.reason for one in claims.problems] == ([] if served else ["InvalidPath"])


# Its parsers by name (parser/validators.go), as regular expressions.
_CHARS = r"[a-zA-Z0-9._~/:\-"
THEIRS = {
    "BasicCharsRegex": rf"{_CHARS}]*",
    "CharsWithSpace": rf"{_CHARS} ]*",
    "HeadersVariable": r"[A-Za-z0-9_, -]*",
    "IsValidRegex": rf"{_CHARS}^$\[\](){{}}*+?|&=\\]*",
    "IsValidRegex, trimmed": rf"{_CHARS}^$\[\](){{}}*+?|&=\\]*",
    "IsValidRegex of each, trimmed": rf"{_CHARS}^$\[\](){{}}*+?|&=\\]*",
    "RegexPathWithCapture": rf"/?{_CHARS}$]*",
    "SizeRegex": r"(?i)\d+[bkmg]?",
    "URLIsValidRegex": rf"{_CHARS}?&=]*",
    "URLWithNginxVariableRegex": rf"{_CHARS}?&=$]*",
    "strconv.Atoi": r"[+-]?\d{1,18}",
    "strconv.ParseBool": "1|t|T|TRUE|true|True|0|f|F|FALSE|false|False",
    "a DNS label": "[a-z]([-a-z0-9]{0,20}[a-z0-9])?",
    "CN= and a regular expression": rf"CN={_CHARS}^$\[\](){{}}*+?|&=]*",
}
_LIKELY = (
    *(
        "https://a_b.example/it",
        "http://a.example",
        "/a/b",
        "/",
        "/$a",
        "a.example",
        "team/users",
        "X-A X-B",
        "X-A, X-B",
    ),
    *(", ", "-5", "99999999999"),
)


def theirs(name: str) -> st.SearchStrategy[str]:
    """Values that the source's parser takes."""
    parser = SOURCE[name][0]
    if parser.startswith("net.ParseCIDR"):
        networks = st.ip_addresses().flatmap(lambda one: st.sampled_from([str(one), f"{one}/{one.max_prefixlen - 3}"]))
        return st.lists(networks, min_size=1, max_size=5).map(", ".join)
    if parser.startswith("one of "):
        options, _, fold = parser.removeprefix("one of ").partition(", in any case")
        return st.sampled_from(options.split(", ")).map(lambda one: one.upper() if fold else one)
    expression = re.compile(THEIRS.get(parser, parser.removeprefix("^").removesuffix("$")), re.ASCII)
    likely = [one for one in _LIKELY if expression.fullmatch(one)]
    made = st.from_regex(expression, fullmatch=True).filter(lambda one: len(one) < 100)
    return made | st.sampled_from(likely) if likely else made


def is_taken(name: str, text: str) -> bool:
    options, problems = parse_annotations("team/web", {NGINX + name: text})
    return not options.refused and all(one.reason == ADJUSTED for one in problems)


@pytest.mark.parametrize("name", [name for name in SUPPORTED if not TABLE[name].refuses])
@settings(max_examples=25)
@given(data=st.data())
def test_what_its_parser_takes_is_taken_or_named_as_a_difference(name: str, data: st.DataObject) -> None:
    text = data.draw(theirs(name))
    assert is_taken(name, text), text


@pytest.mark.parametrize("name", [name for name in SUPPORTED if TABLE[name].refuses])
def test_no_difference_is_named_that_is_none(name: str) -> None:
    found = find(
        theirs(name),
        lambda text: not is_taken(name, text) and text.strip() != "",
        settings=settings(max_examples=500, phases=[Phase.generate], database=None),
    )
    assert not is_taken(name, found)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("proxy-read-timeout", "31536000", 24 * 86_400_000),
        ("proxy-send-timeout", "2147483647", 24 * 86_400_000),
        ("proxy-connect-timeout", "99999999", 24 * 86_400_000),
        ("canary-weight", "-5", 0),
        ("limit-rps", "-1", 0),
        ("limit-burst-multiplier", "99999", 1000),
        ("proxy-next-upstream-tries", "1000", 100),
    ],
)
def test_what_is_out_of_bounds_counts_as_the_bound_and_is_told(name: str, text: str, value: int) -> None:
    options, (problem,) = parse_annotations("team/web", {NGINX + name: text})
    row = TABLE[name]
    assert getattr(getattr(options, row.group), row.field) == value
    assert not options.refused
    assert problem.reason == ADJUSTED
    assert "count" in problem.message


def test_every_annotation_of_its_source_has_a_verdict() -> None:
    assert SOURCE.keys() <= TABLE.keys()
    assert {row.group for row in TABLE.values()} <= {*GROUPS, ""}


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("https://h:0/", "perhaps a port"),
        ("https://h:65536/", "perhaps a port"),
        ("https://h:/", "perhaps a port"),
        ("https://[2001:db8::1::2]/", "IPv6 address between"),
        ("https://[10.0.0.1]/", "IPv6 address between"),
        ("https://2001:db8::1/", "[IPv6 address]"),
        ("https://h/100%", "% itself as %25"),
        ("/%zz", "% itself as %25"),
        ("https://m\u00fcller.example/", "xn--"),
        ("/m\u00fcller", "%C3%BC"),
        ("https://h.example$args", "only $host can be a part of the host"),
        ("https://h.example$escaped_request_uri", "only $host can be a part of the host"),
        ("https://$scheme.example/", "only $host can be a part of the host"),
        ("https://h/$hostname", "$hostname is not known"),
        ("https://${host}/", "is not known"),
        ("//h/x", "write http"),
        ('https://h/a?b="1"', "without double quotes"),
    ],
)
def test_a_redirect_that_could_lead_elsewhere_is_told_with_its_remedy(text: str, remedy: str) -> None:
    for name in ("permanent-redirect", "temporal-redirect", "auth-signin"):
        options, (problem,) = parse_annotations("team/web", {NGINX + name: text})
        assert remedy in problem.message
        assert options.redirect is None
    assert parse_annotations("team/web", {NGINX + "auth-url": "http://auth.example:65536/"})[0].refused
