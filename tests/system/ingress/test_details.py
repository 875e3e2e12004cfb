"""What annotations say more exactly: attributes of cookies, headers of CORS, codes, who is exempt."""

import pytest
from tests.support.kubernetes import wait_for
from tests.support.pki import issue
from tests.system.ingress.site import Site, ingress, secret

pytestmark = pytest.mark.usefixtures("no_reload")


def serve(site: Site, host: str, annotations: dict[str, str]) -> None:
    """An Ingress named as its host, with Service `web`."""
    site.apply(ingress(host, (host, "Prefix", "/", "web"), annotations=annotations))


def serve_both(site: Site, name: str) -> None:
    """A host over HTTP and HTTPS."""
    host = f"{name}.example"
    path, words = (host, "Prefix", "/", "web"), {"ssl-redirect": "false"}
    site.apply(secret(name, issue(name, host)), ingress(name, path, tls={name: [host]}, annotations=words))
    wait_for(lambda: site.certificate(host) == name, "the certificate is served")


def test_a_session_cookie_is_for_where_and_as_long_as_it_says(site: Site) -> None:
    words = {
        "affinity": "cookie",
        "affinity-mode": "persistent",
        "affinity-canary-behavior": "sticky",
        "session-cookie-path": "/shop",
        "session-cookie-domain": "attributes.example",
        "session-cookie-samesite": "Strict",
        "session-cookie-secure": "true",
        "session-cookie-expires": "120",
        "session-cookie-change-on-failure": "true",
    }
    serve(site, "attributes.example", words)
    site.until("attributes.example", "/", "one")
    wait_for(lambda: "set-cookie" in site.request("GET", "attributes.example", "/")[1], "there is a cookie")
    name, *attributes = site.request("GET", "attributes.example", "/")[1]["set-cookie"].split("; ")
    assert name.startswith("INGRESSCOOKIE=")
    assert set(attributes) == {
        *("Path=/shop", "Domain=attributes.example", "Max-Age=120", "SameSite=Strict", "Secure", "HttpOnly"),
    }


def test_other_origins_may_do_what_is_said_and_no_more(site: Site) -> None:
    words = {
        "enable-cors": "true",
        "cors-allow-methods": "GET, PUT",
        "cors-allow-headers": "X-One, X-Two",
        "cors-expose-headers": "X-Three",
        "cors-allow-credentials": "false",
    }
    serve(site, "origins.example", words)
    asking = {"Origin": "https://any.example", "Access-Control-Request-Method": "PUT"}
    wait_for(lambda: site.request("OPTIONS", "origins.example", "/", asking)[0] == 204, "it is asked before")
    before = site.request("OPTIONS", "origins.example", "/", asking)[1]
    assert before["access-control-allow-methods"] == "GET, PUT"
    assert before["access-control-allow-headers"] == "X-One, X-Two"
    found = site.request("GET", "origins.example", "/", asking)[1]
    assert found["access-control-expose-headers"] == "X-Three"
    assert "access-control-allow-credentials" not in before | found


def test_a_redirect_has_the_code_asked_for(site: Site) -> None:
    serve(site, "moved.example", {"temporal-redirect": "https://new.example/", "temporal-redirect-code": "307"})
    wait_for(lambda: site.request("GET", "moved.example", "/a")[0] == 307, "it leads elsewhere")
    assert site.request("GET", "moved.example", "/a")[1]["location"] == "https://new.example/"


def test_http_is_served_beside_https_where_that_is_asked_for(site: Site) -> None:
    serve_both(site, "plain")
    assert site.pod("plain.example") == "one"


def test_who_is_exempt_has_no_limit(site: Site) -> None:
    serve(site, "exempt.example", {"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-allowlist": "127.0.0.0/8"})
    serve(site, "others.example", {"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-allowlist": "192.0.2.0/24"})
    wait_for(lambda: site.ask("others.example", "/")[0] == 429, "others have one")
    assert {site.ask("exempt.example", "/")[0] for _ in range(8)} == {200}


def test_https_is_remembered_by_browsers_where_it_is_asked_for(site: Site) -> None:
    serve_both(site, "strict")
    site.cluster.kubectl("annotate", "ingress", "strict", "vrata.dev/hsts=max-age=60")
    header = "strict-transport-security"
    wait_for(lambda: site.request_encrypted("strict.example")[1].get(header) == "max-age=60", "it is said")
    assert header not in site.request("GET", "strict.example", "/")[1]


def test_a_service_may_choose_among_its_pods_itself(site: Site) -> None:
    """HAProxy asks the Service's own address then, whichever pods there are."""
    serve(site, "virtual.example", {"service-upstream": "true"})
    address = site.cluster.get("service", "web")["spec"]["clusterIP"]
    wait_for(lambda: f" {address} " in site.answer("show servers state"), "it leads to the Service")
