"""L7 policies with real requests: their order, every rule type and comparison, hostile values, redirects."""

import asyncio
from urllib.parse import quote

import pytest
from tests.support.everything import authority, certificate, leaf
from tests.support.members import context
from tests.system.balancing.ground import Ground, pool, secure, web

from vrata.base.wire import L7Policy, L7Rule, ListenerTls

pytestmark = pytest.mark.asyncio(loop_scope="session")
POOLS = (pool("m1"), pool("m2", id="other"))


def rule(type_: str, value: str, compare: str = "EQUAL_TO", key: str | None = None, *, invert: bool = False) -> L7Rule:
    return L7Rule(id="rule", type=type_, compare_type=compare, value=value, key=key, invert=invert)


def policy(name: str, action: str, *rules: L7Rule, **options: object) -> L7Policy:
    return L7Policy(id=name, action=action, rules=rules, **options)  # type: ignore[arg-type]


def to_other(name: str, *rules: L7Rule) -> L7Policy:
    return policy(name, "REDIRECT_TO_POOL", *rules, redirect_pool_id="other")


async def test_policies_are_tried_in_their_order_and_the_first_that_matches_decides(pair: Ground) -> None:
    everything = rule("PATH", "/", "STARTS_WITH")
    await pair.serve(
        web(
            80,
            "pool",
            to_other("to-pool", rule("PATH", "/pool", "STARTS_WITH")),
            policy(
                "reject",
                "REJECT",
                rule("PATH", "/secret"),
                rule("HEADER", "let-me-in", "EQUAL_TO", "X-Word", invert=True),
            ),
            policy(
                "url", "REDIRECT_TO_URL", rule("PATH", "/url"), redirect_url="https://x.example/100%25?a='%[src]'\"b\""
            ),
            policy(
                "prefix",
                "REDIRECT_PREFIX",
                rule("PATH", "/prefix", "STARTS_WITH"),
                redirect_prefix="https://x.example/p",
                redirect_http_code=308,
            ),
            policy("never", "REJECT"),
            to_other("rest-of-old", rule("PATH", "/old", "STARTS_WITH")),
            policy("late", "REJECT", everything, rule("PATH", "/fine", "STARTS_WITH", invert=True)),
        ),
        pools=POOLS,
    )
    assert (await pair.get(80, "/fine")).seen["name"] == "m1"
    assert (await pair.get(80, "/pool/secret")).seen["name"] == "m2"
    assert (await pair.get(80, "/old")).seen["name"] == "m2"
    assert (await pair.get(80, "/secret")).status == 403
    assert (await pair.get(80, "/secret", X_Word="let-me-in")).status == 403  # by the last one
    assert (await pair.get(80, "/elsewhere")).status == 403
    url = await pair.get(80, "/url")
    assert (url.status, url.headers["location"]) == (302, "https://x.example/100%25?a='%[src]'\"b\"")
    prefix = await pair.get(80, "/prefix/a?b=c")
    assert (prefix.status, prefix.headers["location"]) == (308, "https://x.example/p/prefix/a?b=c")


COMPARED = (
    ("REGEX", "^ab+c$", "abbbc", "xabc"),
    ("STARTS_WITH", "abc", "abcd", "xabc"),
    ("ENDS_WITH", "abc", "xabc", "abcd"),
    ("CONTAINS", "abc", "xabcx", "ab"),
    ("EQUAL_TO", "abc", "abc", "abcd"),
)


async def test_every_comparison_of_every_rule_type_and_its_inversion(pair: Ground) -> None:
    listeners, asked = [], []
    port = 2000
    for compare, value, good, bad in COMPARED:
        path_value = value.replace("^", "^/") if compare == "REGEX" else value
        path_value = f"/{value}" if compare in ("STARTS_WITH", "EQUAL_TO") else path_value
        kinds: tuple[tuple[L7Rule, str, str], ...] = (
            (rule("HOST_NAME", value, compare), "Host", "{}"),
            (rule("HEADER", value, compare, "X-Kind"), "X-Kind", "{}"),
            (rule("COOKIE", value, compare, "kind"), "Cookie", "a=b; kind={}"),
            (rule("PATH", path_value, compare), "", "/{}"),
        )
        for matching, header, form in kinds:
            for invert in (False, True):
                port += 1
                one = rule(matching.type, matching.value, compare, matching.key, invert=invert)
                listeners.append(web(port, "pool", to_other("p", one)))
                asked.append((port, header, form.format(good), "m1" if invert else "m2"))
                asked.append((port, header, form.format(bad), "m2" if invert else "m1"))
    await pair.serve(*listeners, pools=POOLS)
    for asked_port, header, text, name in asked:
        headers = {header: text} if header else {}
        seen = (await pair.get(asked_port, "/" if header else text, **headers)).seen
        assert seen["name"] == name, (asked_port, header, text)


async def test_a_file_type_is_what_follows_the_last_dot(pair: Ground) -> None:
    await pair.serve(
        web(80, "pool", to_other("equal", rule("FILE_TYPE", "jpg"))),
        web(81, "pool", to_other("regex", rule("FILE_TYPE", "^(jpe?g|png)$", "REGEX"))),
        pools=POOLS,
    )
    for path, equal, regex in (("/a/b.jpg?x=y.png", "m2", "m2"), ("/a.jpg/b", "m1", "m1"), ("/a.tar.png", "m1", "m2")):
        assert (await pair.get(80, path)).seen["name"] == equal
        assert (await pair.get(81, path)).seen["name"] == regex


async def test_rules_look_at_the_certificate_of_the_client(pair: Ground) -> None:
    tls = ListenerTls(
        default_certificate=certificate("www.example.org"),
        client_authentication="OPTIONAL",
        ca_pem=authority().cert_pem,
    )
    policies = (
        to_other("dn", rule("SSL_DN_FIELD", "ali", "STARTS_WITH", "CN")),
        policy("none", "REJECT", rule("SSL_CONN_HAS_CERT", "True", invert=True)),
        policy("bad", "REJECT", rule("SSL_VERIFY_RESULT", "0", invert=True)),
    )
    await pair.serve(secure(443, tls, "pool", l7policies=policies), pools=POOLS)

    def name_for(user: str) -> str:
        return pair.client(443, tls=context(leaf(user))).get().seen["name"]

    assert await asyncio.to_thread(name_for, "alice") == "m2"
    assert await asyncio.to_thread(name_for, "bob") == "m1"
    assert (await asyncio.to_thread(pair.client(443, tls=context(None)).get)).status == 403


HOSTILE_VALUES = ("}", "a'b", 'a"b', "a b", "%[src]", "a\\b", "-f", "#x", "${HOME}", "--", "{", "||", "a' }")


async def test_hostile_values_are_compared_as_they_are(pair: Ground) -> None:
    policies = tuple(
        to_other(f"p{n}", rule("HEADER", value, "EQUAL_TO", "X-Kind")) for n, value in enumerate(HOSTILE_VALUES)
    )
    await pair.serve(web(80, "pool", *policies), pools=POOLS)
    for value in HOSTILE_VALUES:
        assert (await pair.get(80, "/", **{"X-Kind": value})).seen["name"] == "m2", value
        assert (await pair.get(80, "/", **{"X-Kind": quote(value, safe="") + "!"})).seen["name"] == "m1", value
    for says, bad in (
        ("printable", rule("PATH", "a\nb")),
        ("l7rule.key", rule("HEADER", "a", "EQUAL_TO", "a) -m found")),
        ("regular expression", rule("PATH", "(", "REGEX")),
    ):
        await pair.refused(says, web(80, "pool", to_other("p", bad)), pools=POOLS)
