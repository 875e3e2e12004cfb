"""What annotations ask for, with packets; each name as in docs/ingress-annotations.md. Nothing of it reloads HAProxy."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import wait_for
from tests.support.pki import issue
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Json, Site, endpoint, ingress, reachable, service

pytestmark = pytest.mark.usefixtures("no_reload")


def serve(site: Site, host: str, annotations: dict[str, str], *, path: str = "/", kind: str = "Prefix") -> None:
    """An Ingress named as its host, with Service `web`."""
    site.apply(ingress(host, (host, kind, path, "web"), annotations=annotations))


def until_status(site: Site, host: str, path: str, status: int) -> None:
    wait_for(lambda: site.ask(host, path)[0] == status, f"{host}{path} answers {status}")


@pytest.mark.parametrize(
    ("name", "annotations", "status", "location"),
    [
        ("permanent", {"permanent-redirect": "https://new.example/x"}, 301, "https://new.example/x"),
        (
            "uri",
            {"permanent-redirect": "https://new.example$request_uri", "permanent-redirect-code": "308"},
            308,
            "https://new.example/a?b=c",
        ),
        ("host", {"temporal-redirect": "https://$host/b"}, 302, "https://host.example/b"),
        ("temporal", {"temporal-redirect": "/later"}, 302, "/later"),
        ("forced", {"force-ssl-redirect": "true"}, 308, "https://forced.example/a?b=c"),
    ],
)
def test_redirects(site: Site, name: str, annotations: dict[str, str], status: int, location: str) -> None:
    host = f"{name}.example"
    serve(site, host, annotations)
    until_status(site, host, "/a?b=c", status)
    for named in (host, f"{host}:80", f"{host}:8080"):  # the port of HTTP is none of HTTPS
        assert site.request("GET", named, "/a?b=c")[1]["location"] == location


LOCATIONS = {
    "https://[2001:db8::1]:8443/x": "https://[2001:db8::1]:8443/x",
    "https://new.example:8443$uri?$args": "https://new.example:8443/a%2Fb(c)?d=%C3%BC&e=$host",
    "$scheme://www.$host$request_uri": "http://www.odd.example/a%2Fb(c)?d=%C3%BC&e=$host",
    "https://new.example/f%20g?h=100%25#top": "https://new.example/f%20g?h=100%25#top",
    "https://new.example?back=$escaped_request_uri": "https://new.example/?back=%2Fa%252Fb%28c%29%3Fd%3D%25C3%25BC%26e%3D%24host",
    "/later(x)#$args": "/later(x)#d=%C3%BC&e=$host",
}


def test_odd_addresses_of_redirects_are_sent_as_they_are_written(site: Site) -> None:
    for kind in ("permanent-redirect", "temporal-redirect"):
        for text, location in LOCATIONS.items():
            serve(site, "odd.example", {kind: text})
            wait_for(
                lambda expected=location: (  # type: ignore[misc]
                    site.request("GET", "odd.example", "/a%2Fb(c)?d=%C3%BC&e=$host")[1].get("location") == expected
                ),
                f"{text} is sent as {location}",
            )


def test_app_root_is_for_the_root_alone(site: Site) -> None:
    serve(site, "root.example", {"app-root": "/app"})
    until_status(site, "root.example", "/", 302)
    assert site.request("GET", "root.example", "/")[1]["location"] == "/app"
    assert site.pod("root.example", "/app") == "one"


def test_from_to_www_redirect_and_its_end(site: Site) -> None:
    serve(site, "bare.example", {"from-to-www-redirect": "true"})
    until_status(site, "www.bare.example", "/a?b=c", 308)
    for named in ("www.bare.example", "www.bare.example:80"):
        assert site.request("GET", named, "/a?b=c")[1]["location"] == "http://bare.example/a?b=c"
    site.apply(ingress("www", ("www.bare.example", "Prefix", "/", "shop")))  # somebody's own
    site.until("www.bare.example", "/", "two")


def test_server_alias(site: Site) -> None:
    serve(site, "main.example", {"server-alias": "alias.example,*.alias.example"})
    for host in ("alias.example", "any.alias.example"):
        site.until(host, "/", "one")


def test_rewrite_target_with_groups_and_its_surprises(site: Site) -> None:
    serve(site, "rewrite.example", {"rewrite-target": "/new/$2"}, path="/api(/|$)(.*)", kind="ImplementationSpecific")
    site.until("rewrite.example", "/api/cart", "one")
    assert site.ask("rewrite.example", "/api/cart?x=1")[1]["path"] == "/new/cart?x=1"
    assert site.ask("rewrite.example", "/API/cart")[1]["path"] == "/new/cart"
    assert site.ask("rewrite.example", "/other")[0] == 404
    # Every path of the host is a pattern now, those of other Ingresses, too.
    site.apply(ingress("rewrite-other", ("rewrite.example", "Exact", "/shop", "shop")))
    site.until("rewrite.example", "/SHOPPING", "two")
    assert site.ask("rewrite.example", "/SHOPPING")[1]["path"] == "/SHOPPING"
    # And plain ones when nobody asks for patterns any more, without a request that finds nothing meanwhile.
    with site.load("rewrite.example") as seen:
        site.apply(ingress("rewrite-root", ("rewrite.example", "Prefix", "/", "shop")))
        site.until("rewrite.example", "/", "two")
        seen.bad.clear()
        site.cluster.kubectl("delete", "ingress", "rewrite.example")
        site.until("rewrite.example", "/API/cart", "two")
    assert seen.good
    assert not seen.bad
    assert site.pod("rewrite.example", "/shop") == "two"


def test_groups_that_match_nothing_are_empty_and_keep_their_numbers(site: Site) -> None:
    words = {"rewrite-target": "/1$1/2$2/3$3/4$4"}
    serve(site, "groups.example", words, path=r"/(x)?([(]|[^a)]b)(\)|c)?(d*)", kind="ImplementationSpecific")
    site.until("groups.example", "/(", "one")
    for path, expected in (
        ("/(", "/1/2(/3/4"),
        ("/xbb)dd", "/1x/2bb/3)/4dd"),
        ("/bbd", "/1/2bb/3/4d"),
        ("/X(cD", "/1X/2(/3c/4D"),
    ):
        assert site.ask("groups.example", path)[1]["path"] == expected, path


def test_of_patterns_the_longest_is_tried_first(site: Site) -> None:
    site.apply(
        ingress("order-a", ("order.example", "Prefix", "/a", "web"), annotations={"use-regex": "true"}),
        ingress("order-b", ("order.example", "Prefix", "/a[0-9]{2}", "shop"), annotations={"use-regex": "true"}),
    )
    site.until("order.example", "/a", "one")
    site.until("order.example", "/a12", "two")


def test_upstream_vhost_and_forwarded_prefix(site: Site) -> None:
    serve(site, "vhost.example", {"upstream-vhost": "inner.example", "x-forwarded-prefix": "/shop"})
    site.until("vhost.example", "/", "one")
    headers = site.ask("vhost.example", "/")[1]["headers"]
    assert headers["Host"] == ["inner.example"]
    assert headers["X-Forwarded-Prefix"] == ["/shop"]
    assert headers["X-Forwarded-Host"] == ["vhost.example"]


@pytest.mark.parametrize(
    ("name", "annotations", "status"),
    [
        ("in", {"whitelist-source-range": "10.0.0.0/8, 127.0.0.0/8"}, 200),
        ("out", {"allowlist-source-range": "10.0.0.0/8,2001:db8::/32"}, 403),
        ("denied", {"denylist-source-range": "127.0.0.1"}, 403),
        ("both", {"whitelist-source-range": "127.0.0.0/8", "denylist-source-range": "127.0.0.1/32"}, 403),
    ],
)
def test_access_lists(site: Site, name: str, annotations: dict[str, str], status: int) -> None:
    serve(site, f"{name}.list.example", annotations)
    until_status(site, f"{name}.list.example", "/", status)


def test_an_access_list_changes_live_and_is_never_open_meanwhile(site: Site) -> None:
    serve(site, "live.example", {"whitelist-source-range": "10.0.0.0/8"})
    until_status(site, "live.example", "/", 403)
    with site.load("live.example") as seen:
        for number in range(10):
            serve(site, "live.example", {"whitelist-source-range": f"10.0.{number}.0/24"})
    assert not seen.good
    assert {reason.split()[-1] for reason in seen.bad} == {"403"}
    serve(site, "live.example", {"whitelist-source-range": "127.0.0.1"})
    site.until("live.example", "/", "one")


def test_a_list_that_can_not_be_read_leaves_the_ingress_out_and_is_told(site: Site) -> None:
    serve(site, "unread.example", {"whitelist-source-range": "10.0.0.0/8"})
    until_status(site, "unread.example", "/", 403)
    serve(site, "unread.example", {"whitelist-source-range": "anybody"})
    until_status(site, "unread.example", "/", 404)
    wait_for(
        lambda: "whitelist-source-range: 'anybody' is not valid" in site.events(),
        "an event says so",
    )


def canary(name: str, host: str, annotations: dict[str, str]) -> Json:
    return ingress(name, (host, "Prefix", "/", "shop"), annotations={"canary": "true", **annotations})


def test_a_canary_by_header_before_cookie_before_weight(site: Site) -> None:
    asked = {"canary-by-header": "X-Canary", "canary-by-cookie": "beta", "canary-weight": "100"}
    serve(site, "canary.example", {})
    site.until("canary.example", "/", "one")
    site.apply(canary("canary", "canary.example", asked))
    site.until("canary.example", "/", "two")

    def pod(headers: dict[str, str]) -> str:
        return str(site.request("GET", "canary.example", "/", headers)[2]["pod"])

    assert pod({"X-Canary": "never"}) == "one"
    assert pod({"X-Canary": "other", "Cookie": "beta=never"}) == "one"
    assert pod({"X-Canary": "always", "Cookie": "beta=never"}) == "two"
    site.apply(canary("canary", "canary.example", asked | {"canary-weight": "0", "canary-by-header-value": "eu"}))
    site.until("canary.example", "/", "one")
    assert pod({"X-Canary": "eu"}) == "two"
    assert pod({"X-Canary": "always"}) == "one"
    assert pod({"Cookie": "a=b; beta=always"}) == "two"


def test_a_canary_by_a_pattern_of_a_header(site: Site) -> None:
    serve(site, "pattern.example", {})
    asked = {"canary-by-header": "X-Region", "canary-by-header-pattern": "^(eu|us)-[0-9]+$"}
    site.apply(canary("pattern", "pattern.example", asked))

    def pod(region: str) -> str:
        return str(site.request("GET", "pattern.example", "/", {"X-Region": region})[2]["pod"])

    wait_for(lambda: pod("eu-12") == "two", "the canary answers")
    assert pod("xeu-12") == "one"


def test_who_has_a_cookie_stays_on_its_side_of_a_canary(site: Site) -> None:
    serve(site, "side.example", {"affinity": "cookie"})
    site.apply(canary("side", "side.example", {"canary-weight": "50", "affinity": "cookie"}))
    wait_for(lambda: {site.pod("side.example") for _ in range(20)} == {"one", "two"}, "both serve")
    for _ in range(4):
        _, headers, body = site.request("GET", "side.example", "/")
        cookie = headers["set-cookie"].split(";")[0]
        assert {site.request("GET", "side.example", "/", {"Cookie": cookie})[2]["pod"] for _ in range(8)} == {
            body["pod"]
        }


def test_requests_for_one_address_go_to_one_pod(site: Site, echoes: Echoes) -> None:
    site.apply(
        service("pair"), endpoint("pair", "one", echoes.port("one")), endpoint("pair", "two", echoes.port("two"))
    )
    site.apply(
        ingress("hash", ("hash.example", "Prefix", "/", "pair"), annotations={"upstream-hash-by": "$request_uri"})
    )
    wait_for(lambda: {site.pod("hash.example", f"/{number}") for number in range(20)} == {"one", "two"}, "both serve")
    for number in range(8):
        assert len({site.pod("hash.example", f"/{number}") for _ in range(5)}) == 1


def test_a_canarys_weight_shares_requests(site: Site) -> None:
    serve(site, "weight.example", {})
    site.apply(canary("weight", "weight.example", {"canary-weight": "30", "canary-weight-total": "60"}))
    wait_for(lambda: {site.pod("weight.example") for _ in range(20)} == {"one", "two"}, "both serve")
    pods = [site.pod("weight.example") for _ in range(200)]
    assert 60 < pods.count("two") < 140  # a binomial of 200 and a half is outside once in 10⁸ times


def test_a_canary_without_a_rule_beside_it_serves_nothing_and_is_told(site: Site) -> None:
    site.apply(canary("alone", "alone.example", {"canary-weight": "50"}))
    wait_for(lambda: "a canary needs another Ingress" in site.events(), "told")
    assert site.ask("alone.example", "/")[0] == 404


def test_cors(site: Site) -> None:
    asked = {
        "enable-cors": "true",
        "cors-allow-origin": "https://*.shop.example, https://b.example",
        "cors-max-age": "60",
    }
    serve(site, "cors.example", asked)
    site.until("cors.example", "/", "one")

    def headers(method: str, origin: str) -> tuple[int, dict[str, str]]:
        asking = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        status, found, _ = site.request(method, "cors.example", "/", asking)
        return status, found

    wait_for(lambda: "access-control-allow-origin" in headers("GET", "https://b.example")[1], "the origin is allowed")
    status, found = headers("OPTIONS", "https://a.shop.example")
    assert status == 204
    assert found["access-control-allow-origin"] == "https://a.shop.example"
    assert found["access-control-allow-methods"] == "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    assert found["access-control-max-age"] == "60"
    assert found["access-control-allow-credentials"] == "true"
    for origin in (
        "https://evil.example",
        "https://shop.example",
        "https://a.shop.example.evil",
        "https://evil.example/.shop.example",
    ):
        assert "access-control-allow-origin" not in headers("GET", origin)[1]


def test_affinity_by_a_cookie(site: Site, echoes: Echoes) -> None:
    both = service("both")
    site.apply(both, endpoint("both", "one", echoes.port("one")), endpoint("both", "two", echoes.port("two")))
    asked = {"affinity": "cookie", "session-cookie-name": "route", "session-cookie-max-age": "60"}
    site.apply(ingress("sticky", ("sticky.example", "Prefix", "/", "both"), annotations=asked))
    wait_for(lambda: {site.pod("sticky.example") for _ in range(4)} == {"one", "two"}, "both pods answer")
    _, headers, body = site.request("GET", "sticky.example", "/")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", "Max-Age=60", "HttpOnly"]
    assert "127" not in cookie
    # Two Services of one host: a browser keeps one cookie for each, for each has its rule's path.
    paths = (("sticky.example", "Prefix", "/", "both"), ("sticky.example", "Prefix", "/b/c;d", "both"))
    site.apply(ingress("sticky", *paths, annotations=asked))
    # A path with `;` cannot be said, and browsers ask for it as it is: the folder around it matches.
    wait_for(lambda: "Path=/b; " in site.request("GET", "sticky.example", "/b/c;d/e")[1]["set-cookie"], "its own path")
    assert "; Path=/; " in site.request("GET", "sticky.example", "/b")[1]["set-cookie"]
    assert site.request_encrypted("sticky.example")[1]["set-cookie"].endswith("; Secure")
    for _ in range(6):
        _, headers, again = site.request("GET", "sticky.example", "/", {"Cookie": f"a=b; {cookie}"})
        assert again["pod"] == body["pod"]
        assert "set-cookie" not in headers
    assert site.request("GET", "sticky.example", "/", {"Cookie": "route=s-nobody"})[1]["set-cookie"]


def test_services_whose_cookie_has_one_name_and_path_keep_their_pods(site: Site, echoes: Echoes) -> None:
    names = ("apples", "pears")
    for name in names:
        pods = [f"{name}-{number}" for number in range(3)]
        site.apply(service(name), *(endpoint(name, pod, echoes.port(pod)) for pod in pods))
    asked = {"affinity": "cookie"}
    site.apply(
        ingress("exact", ("shared.example", "Exact", "/a", "apples"), annotations=asked),
        ingress("prefix", ("shared.example", "Prefix", "/a", "pears"), annotations=asked),
        ingress(
            "patterns",
            ("patterned.example", "ImplementationSpecific", "/[a-k]+", "apples"),
            ("patterned.example", "ImplementationSpecific", "/[l-z]+", "pears"),
            annotations=asked | {"use-regex": "true"},
        ),
    )
    for host, paths in (("shared.example", ("/a", "/a/b")), ("patterned.example", ("/a", "/z"))):
        for name, path in zip(names, paths, strict=True):
            wait_for(lambda h=host, p=path, n=name: site.pod(h, p).startswith(n), f"{name} answers")  # type: ignore[misc]
        for _ in range(4):  # browsers; each keeps the newest cookie of a name and path
            cookie, seen = "", set()
            for path in paths * 4:
                _, headers, body = site.request("GET", host, path, {"Cookie": cookie})
                cookie = headers.get("set-cookie", cookie).split(";")[0]
                seen.add((path, body["pod"]))
            assert len(seen) == len(paths), f"{host}: {seen}"
    entries = "_".join(f"s-{number:016x}.{number:08x}" for number in range(400))
    _, headers, _ = site.request("GET", "shared.example", "/a", {"Cookie": f"INGRESSCOOKIE={entries}"})
    assert len(headers["set-cookie"]) < 1000, "what a client makes up does not come back whole"


def test_a_body_that_is_too_large(site: Site) -> None:
    serve(site, "body.example", {"proxy-body-size": "1k"})
    site.until("body.example", "/", "one")
    wait_for(lambda: site.request("PUT", "body.example", "/", {"Content-Length": "1025"})[0] == 413, "it is refused")
    assert site.request("PUT", "body.example", "/", {"Content-Length": "0"})[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", site.http, timeout=60)
    connection.request("PUT", "/", iter([b"x" * 2000]), {"Host": "body.example"}, encode_chunked=True)
    assert connection.getresponse().status == 200, "nobody knows how long it will be"
    connection.close()


def test_a_timeout_of_its_own(site: Site) -> None:
    serve(site, "slow.example", {"proxy-read-timeout": "500ms"})
    site.until("slow.example", "/", "one")
    until_status(site, "slow.example", "/delay/3000", 504)
    assert site.ask("slow.example", "/delay/10")[0] == 200


def test_a_rate_limit_for_each_client_and_ingress(site: Site) -> None:
    serve(site, "limit.example", {"limit-rps": "2"})
    serve(site, "other-limit.example", {"limit-rps": "2"})
    site.until("other-limit.example", "/", "one")
    wait_for(lambda: 429 in {site.ask("limit.example", "/")[0] for _ in range(15)}, "too many are refused")
    assert site.ask("other-limit.example", "/")[0] == 200
    serve(site, "exempt.example", {"limit-rpm": "1", "limit-whitelist": "127.0.0.1"})
    site.until("exempt.example", "/", "one")
    assert {site.ask("exempt.example", "/")[0] for _ in range(10)} == {200}


@pytest.mark.parametrize(("multiplier", "passed"), [("1", 3), ("2", 6), ("4", 9)])
def test_a_burst_is_so_many_times_the_rate(site: Site, multiplier: str, passed: int) -> None:
    host = f"burst-{multiplier}.example"
    serve(site, host, {"limit-rpm": "3", "limit-burst-multiplier": multiplier})
    wait_for(lambda: f"{host}/" in site.rows("routes-http"), "the route is there")
    assert [site.ask(host, "/")[0] for _ in range(passed + 2)] == [200] * passed + [429] * 2


def test_requests_under_way_are_limited(site: Site) -> None:
    serve(site, "busy.example", {"limit-connections": "1"})
    site.until("busy.example", "/", "one")
    with site.load("busy.example") as seen:
        wait_for(lambda: any("429" in one for one in seen.bad), "two at a time are too many")
        wait_for(lambda: seen.good, "one at a time is not")


@pytest.fixture
def tls_pod(tmp_path: Path) -> Iterator[int]:
    """A pod that speaks nothing but TLS; its port."""
    port, identity = free_port(), issue("pod", "pod")
    files = {"TLS_CERT_FILE": identity.cert_pem, "TLS_KEY_FILE": identity.key_pem}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = os.environ | {name: str(tmp_path / name) for name in files} | {"POD_NAME": "tls"}
    argv = [sys.executable, "-m", "vrata.sandbox.echo", "--tls-port", str(port)]
    process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: reachable(port), "the pod listens")
        yield port
    finally:
        process.kill()
        process.wait()


def test_pods_that_speak_tls(site: Site, tls_pod: int) -> None:
    site.apply(service("secure"), endpoint("secure", "tls", tls_pod))
    asked = {"backend-protocol": "HTTPS"}
    site.apply(ingress("secure", ("secure.example", "Prefix", "/", "secure"), annotations=asked))
    site.until("secure.example", "/", "tls")


@pytest.mark.parametrize("count", [900, 6000])
def test_a_list_of_networks_may_be_long(site: Site, count: int) -> None:
    """Those of a cloud or a CDN are thousands."""
    before, host = site.rows("policies"), f"long-{count}.example"
    others = [f"{10 + number // 65536}.{number // 256 % 256}.{number % 256}.0/25" for number in range(count)]
    for mine, status in (("127.0.0.1", 200), ("127.0.0.0/31", 200), ("127.0.0.2/31", 403), ("2001:db8::/32", 403)):
        serve(site, host, {"whitelist-source-range": ",\n".join([*others[1:], mine, others[0]])})
        until_status(site, host, "/", status)
        serve(site, host, {"denylist-source-range": ",".join([*others, mine])})
        until_status(site, host, "/", 403 if status == 200 else 200)
    assert len(site.rows("policies")) > len(before) + 1
    site.cluster.kubectl("delete", "ingress", host)
    wait_for(lambda: site.rows("policies") == before, "all of its rows are gone with it")


def test_policies_come_and_go_with_their_routes(site: Site) -> None:
    before = site.rows("policies")
    names = [f"policy-{number}.example" for number in range(20)]
    site.apply(
        *(
            ingress(name, (name, "Prefix", "/", "web"), annotations={"proxy-read-timeout": f"{number + 7}"})
            for number, name in enumerate(names)
        )
    )
    site.until(names[-1], "/", "one")
    wait_for(lambda: len(site.rows("policies")) == len(before) + len(names), "every policy is a row")
    site.cluster.kubectl("delete", "ingress", *names)
    wait_for(lambda: site.rows("policies") == before, "and gone with its Ingress")


@pytest.mark.parametrize("policy", ["body=many", "allow=nobody", "auth="])
def test_what_the_program_can_not_carry_out_lets_nobody_in(site: Site, policy: str) -> None:
    """Rows that no controller writes."""
    name = f"p-{policy}"
    site.tell(f"add map {site.directory}/policies.map {name} {policy}")
    site.tell(f"add map {site.directory}/routes-http.map {name}.example/ {site.owner_of('default/web:80')}/{name}")
    try:
        assert site.ask(f"{name}.example", "/")[0] in (403, 503)
    finally:
        site.tell(f"del map {site.directory}/routes-http.map {name}.example/")
        site.tell(f"del map {site.directory}/policies.map {name}")


def test_the_annotations_of_a_cluster_are_checked(site: Site) -> None:
    serve(site, "check.example", {"limit-rps": "2", "server-snippet": "return 200;"})
    argv = ["ingress", "check", "--cluster", "--kubeconfig", str(site.cluster.kubeconfig)]
    done = subprocess.run([sys.executable, "-m", "vrata", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Ingress default/check.example (left out)" in done.stdout
    assert "limit-rps: differently; 429 instead of 503" in done.stdout


def test_a_default_backend_serves_while_there_is_no_pod(site: Site) -> None:
    words = {"default-backend": "shop"}
    site.apply(ingress("fallback", ("fallback.example", "Prefix", "/", "empty"), annotations=words))
    site.until("fallback.example", "/", "two")
    site.apply(ingress("fallback", ("fallback.example", "Prefix", "/", "web"), annotations=words))
    site.until("fallback.example", "/", "one")


def test_another_service_answers_for_errors(site: Site) -> None:
    words = {"custom-http-errors": "404,503", "default-backend": "shop"}
    site.apply(ingress("errors", ("errors.example", "Prefix", "/", "web"), annotations=words))
    site.until("errors.example", "/", "one")
    wait_for(lambda: site.pod("errors.example", "/status/404") == "two", "another Service answers")
    _, _, said = site.request("GET", "errors.example", "/status/404?a=b", {"Accept": "text/html"})
    found = {name: values[0] for name, values in said["headers"].items() if name.startswith("X-")}
    assert found == {
        "X-Code": "404",
        "X-Format": "text/html",
        "X-Original-Uri": "/status/404?a=b",
        "X-Namespace": "default",
        "X-Ingress-Name": "errors",
        "X-Service-Name": "web",
        "X-Service-Port": "80",
    }
    assert said["path"] == "/"
    assert said["host"] == "errors.example"
    assert site.pod("errors.example", "/status/500") == "500"  # nobody asked for that one
    assert site.request("HEAD", "errors.example", "/status/404")[0] == 200
    too_long = {"Accept": "x" * 14_000}
    assert site.request("GET", "errors.example", "/status/404?" + "x" * 12_000, too_long)[0] == 200
    assert site.request("GET", "errors.example", "/status/404?" + "x" * 17_000, too_long)[0] == 404  # for one buffer
    site.apply(ingress("errors", ("errors.example", "Prefix", "/", "empty"), annotations=words))
    site.until("errors.example", "/", "two")
    assert site.ask("errors.example", "/a")[1]["headers"]["X-Code"] == ["503"]
    del words["default-backend"]
    site.apply(ingress("errors", ("errors.example", "Prefix", "/", "web"), annotations=words))
    wait_for(lambda: site.pod("errors.example", "/status/404") == "404", "the pod's own answer")
    wait_for(lambda: "custom-http-errors: it has no effect; name" in site.events(), "and an event says why")


def test_answers_get_the_headers_of_a_config_map(site: Site) -> None:
    def config_map(**data: str) -> dict[str, object]:
        headers = {name.replace("_", "-"): value for name, value in data.items()}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra-headers"}, "data": headers}

    def has(**expected: str) -> bool:
        found = site.request("GET", "headers.example", "/")[1]
        return all(found.get(name.replace("_", "-")) == value for name, value in expected.items())

    words = {"custom-headers": "default/extra-headers"}
    site.apply(ingress("headers", ("headers.example", "Prefix", "/", "web"), annotations=words))
    wait_for(
        lambda: "no ConfigMap 'default/extra-headers'; create it" in site.events(), "an event says what is missing"
    )
    site.until("headers.example", "/", "one")
    policy = "default-src 'self'; img-src %[env(HOME)] \"x\" {}"
    reloads = site.reloads()
    site.apply(config_map(Content_Security_Policy=policy, X_Frame_Options="DENY"))
    wait_for(lambda: has(content_security_policy=policy, x_frame_options="DENY"), "headers are set")
    site.apply(config_map(X_Frame_Options="SAMEORIGIN"))
    wait_for(lambda: has(x_frame_options="SAMEORIGIN"), "another value")
    assert "content-security-policy" not in site.request("GET", "headers.example", "/")[1]
    site.apply(config_map(X_Frame_Options="DENY", Transfer_Encoding="chunked"))
    wait_for(lambda: "data.Transfer-Encoding: it is of the connection itself" in site.events(), "an event says which")
    assert "x-frame-options" not in site.request("GET", "headers.example", "/")[1]
    assert site.reloads() == reloads


def test_a_new_pod_gets_its_share_by_and_by(site: Site, echoes: Echoes) -> None:
    site.apply(service("gradual"), endpoint("gradual", "first", echoes.port("slow-1")))
    site.apply(ingress("gradual", ("gradual.example", "Prefix", "/", "gradual"), annotations={"slow-start": "8s"}))
    site.until("gradual.example", "/", "slow-1")
    time.sleep(8)  # it has its full share
    site.apply(endpoint("gradual", "second", echoes.port("slow-2")))
    site.until("gradual.example", "/", "slow-2")
    served = [site.pod("gradual.example") for _ in range(60)]
    assert served.count("slow-2") < 20
