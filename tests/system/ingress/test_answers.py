"""What is rewritten in the answers of pods."""

import http.server
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Site, endpoint, ingress, service


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that a request asks for."""

    def do_GET(self) -> None:
        self.send_response(302)
        for name, value in parse_qsl(urlsplit(self.path).query):
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def talker(site: Site) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.apply(service("talker"), endpoint("talker", "pod", server.server_port))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def serve(site: Site, name: str, **annotations: str) -> None:
    words = {f"proxy-{key.replace('_', '-')}": value for key, value in annotations.items()}
    site.apply(ingress(name, (f"{name}.example", "Prefix", "/", "talker"), annotations=words))


def headers(site: Site, name: str, query: str, header: str) -> list[str]:
    connection = HTTPConnection("127.0.0.1", site.http, timeout=60)
    try:
        connection.request("GET", f"/?{query}", headers={"Host": f"{name}.example"})
        return connection.getresponse().headers.get_all(header) or []
    finally:
        connection.close()


@pytest.mark.usefixtures("talker")
def test_domains_and_paths_of_cookies(site: Site) -> None:
    asked = (
        "Set-Cookie=a=1;%20Domain=.Inner.example%20;%20Path=/inner/x;%20Secure&Set-Cookie=b=Path=/inner/"
        "&Set-Cookie=c=1;path=/other;domain=not.inner.example"
    )
    before = [
        "a=1; Domain=.Inner.example ; Path=/inner/x; Secure",
        "b=Path=/inner/",
        "c=1;path=/other;domain=not.inner.example",
    ]
    serve(site, "cookies")
    wait_for(lambda: headers(site, "cookies", asked, "set-cookie") == before, "as the pod sends them")
    reloads = site.reloads()
    serve(site, "cookies", cookie_domain="inner.example .shop.example", cookie_path="/inner/ /")
    after = ["a=1; Domain=shop.example; Path=/x; Secure", *before[1:]]
    wait_for(lambda: headers(site, "cookies", asked, "set-cookie") == after, "as clients see the pod")
    assert headers(site, "cookies", "X=1", "set-cookie") == []
    serve(site, "cookies", cookie_domain="off", cookie_path="off")
    wait_for(lambda: headers(site, "cookies", asked, "set-cookie") == before, "as the pod sends them, again")
    assert site.reloads() == reloads


@pytest.mark.usefixtures("talker")
def test_where_redirects_lead(site: Site) -> None:
    serve(site, "located", redirect_from="http://inner.example:8080/a/", redirect_to="$scheme://$host/")

    def located(text: str) -> list[str]:
        return headers(site, "located", f"Location={text}", "location")

    wait_for(
        lambda: located("http://inner.example:8080/a/b?c=d") == ["http://located.example/b?c=d"], "to the client's host"
    )
    for other in ("http://inner.example:8080/b", "https://inner.example:8080/a/", "/a/http://inner.example:8080/a/"):
        assert located(other) == [other]
    serve(site, "located", redirect_from="http://", redirect_to="https://")
    wait_for(lambda: located("http://anywhere.example/x") == ["https://anywhere.example/x"], "to HTTPS")
    serve(site, "located", redirect_from="http://")
    wait_for(lambda: located("http://anywhere.example/x") == ["http://anywhere.example/x"], "half of it is nothing")
    wait_for(
        lambda: "proxy-redirect-from, proxy-redirect-to: it has no effect" in site.events(), "and an event says so"
    )
