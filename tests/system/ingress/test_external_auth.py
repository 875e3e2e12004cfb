"""What passes between a client and the service that says who may enter, both ways."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Json, Site, ingress

COOKIES = ["session=1; Path=/", "theme=dark"]


@dataclass
class Doorkeeper:
    """An auth service: /yes lets in, everything else asks for a login; both with cookies."""

    url: str = ""
    heard: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def doorkeeper(site: Site) -> Iterator[Doorkeeper]:
    address = "192.0.2.78"  # nobody is asked on loopback
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    made = Doorkeeper()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # it answers `Expect: 100-continue` with 100 first

        def do_GET(self) -> None:
            made.heard.append({"": self.command} | {name.lower(): value for name, value in self.headers.items()})
            self.send_response(200 if self.path == "/yes" else 401)
            for cookie in COOKIES:
                self.send_header("Set-Cookie", cookie)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://{address}:{server.server_port}"
    yield made
    site.cluster.kubectl("delete", "ingress", "--ignore-not-found", "asked", "sent-away")
    wait_for(lambda: site.ask("asked.example", "/")[0] == 404, "nobody asks any more")
    server.shutdown()
    thread.join()
    server.server_close()
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def serve(site: Site, name: str, url: str, **annotations: str) -> None:
    words = {f"auth-{key.replace('_', '-')}": value for key, value in annotations.items()} | {"auth-url": url}
    site.apply(ingress(name, (f"{name}.example", "Prefix", "/", "web"), annotations=words))


def cookies(site: Site, name: str, path: str = "/") -> tuple[int, list[str]]:
    """Status of an answer, and all of its cookies."""
    connection = HTTPConnection("127.0.0.1", site.http, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": f"{name}.example"})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_all("set-cookie") or []
    finally:
        connection.close()


def test_cookies_of_the_auth_service_reach_the_client(site: Site, doorkeeper: Doorkeeper) -> None:
    serve(site, "asked", f"{doorkeeper.url}/yes")
    wait_for(lambda: cookies(site, "asked") == (200, COOKIES), "they come with the pod's answer")
    assert cookies(site, "asked", "/status/304") == (304, COOKIES)
    assert cookies(site, "asked", "/status/500") == (500, [])
    serve(site, "asked", f"{doorkeeper.url}/yes", always_set_cookie="true")
    wait_for(
        lambda: cookies(site, "asked", "/status/500") == (500, COOKIES), "with an error, too, if that is asked for"
    )
    serve(site, "asked", f"{doorkeeper.url}/no")
    wait_for(lambda: cookies(site, "asked") == (401, []), "nobody may enter")
    serve(site, "asked", f"{doorkeeper.url}/no", always_set_cookie="true")
    wait_for(lambda: cookies(site, "asked") == (401, COOKIES), "who may not enter gets them, too")


def test_who_must_sign_in_is_told_where_to_come_back(site: Site, doorkeeper: Doorkeeper) -> None:
    words = {"signin": "https://login.example/start?a=b", "signin_redirect_param": "return_to"}
    serve(site, "sent-away", f"{doorkeeper.url}/no", **words)
    wait_for(lambda: cookies(site, "sent-away") == (302, COOKIES), "the client is sent away")
    location = site.request("GET", "sent-away.example", "/x?y=z")[1]["location"]
    assert location == "https://login.example/start?a=b&return_to=http%3A%2F%2Fsent-away.example%2Fx%3Fy%3Dz"
    words["signin"] = "https://login.example/?return_to=/home"
    serve(site, "sent-away", f"{doorkeeper.url}/no", **words)
    wait_for(lambda: site.request("GET", "sent-away.example", "/")[1]["location"] == words["signin"], "as written")


def test_the_auth_service_is_told_what_is_asked_for(site: Site, doorkeeper: Doorkeeper) -> None:
    def told(**data: str) -> Json:
        headers = {name.replace("_", "-"): value for name, value in data.items()}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "told"}, "data": headers}

    reloads = site.reloads()
    words = {"request_redirect": "https://$host/back$request_uri", "proxy_set_headers": "default/told"}
    serve(site, "asked", f"{doorkeeper.url}/yes", **words)
    wait_for(lambda: site.ask("asked.example", "/")[0] == 503, "without its headers it is not asked")
    wait_for(lambda: "auth-proxy-set-headers: no ConfigMap 'default/told'" in site.events(), "an event says why")
    assert not doorkeeper.heard
    site.apply(told(X_Team='blue "team" %[env(HOME)]', X_From="$scheme://$host"))
    site.until("asked.example", "/a?b=c", "one")
    site.request("GET", "asked.example", "/a?b=c", {"X-Team": "red", "X-Own": "1"})
    heard = doorkeeper.heard[-1]
    assert heard["x-auth-request-redirect"] == "https://asked.example/back/a?b=c"
    assert heard["x-team"] == 'blue "team" %[env(HOME)]'
    assert heard["x-from"] == "http://asked.example"
    assert heard["x-own"] == "1"
    site.apply(told(X_Team="a", Content_Length="7"))
    wait_for(lambda: site.ask("asked.example", "/")[0] == 503, "with headers that can not be it is not asked")
    assert site.reloads() == reloads


def test_an_upload_that_waits_for_100_passes_an_auth_service_that_answers_100(
    site: Site, doorkeeper: Doorkeeper, tmp_path: Path
) -> None:
    """As `curl -T` asks."""
    (tmp_path / "file").write_bytes(b"x" * 2_000_000)
    serve(site, "asked", f"{doorkeeper.url}/yes")
    site.until("asked.example", "/", "one")
    argv = ["curl", "-s", "-T", str(tmp_path / "file"), "-H", "Expect: 100-continue", "-H", "Host: asked.example"]
    body = subprocess.run(
        [*argv, f"http://127.0.0.1:{site.http}/up"], capture_output=True, text=True, check=True
    ).stdout
    assert body.startswith("{"), body
    assert json.loads(body)["pod"] == "one"
    assert "expect" not in doorkeeper.heard[-1]


def test_what_is_of_one_connection_stays_there(site: Site, doorkeeper: Doorkeeper) -> None:
    """The auth service and the pod see the same, so that neither is told less than the other (RFC 9110, 7.6.1)."""
    serve(site, "asked", f"{doorkeeper.url}/yes")
    site.until("asked.example", "/", "one")
    named = {"X-Own": "1", "X-Forwarded-For": "2", "Authorization": "Basic eDp4"}
    said = named | {"X-Other": "3", "TE": "trailers", "Keep-Alive": "timeout=5", "Proxy-Connection": "keep-alive"}
    said |= {"Connection": ", ".join([*named, "TE", "Host", "Content-Length"])}
    seen = site.request("GET", "asked.example", "/", said)[2]["headers"]
    heard = doorkeeper.heard[-1]
    for headers in (heard, {name.lower(): values[0] for name, values in seen.items()}):
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-other"] == "3"
        assert not {"x-own", "authorization", "te"} & headers.keys()
        assert not {"keep-alive", "proxy-connection"} & headers.keys()
        assert not {*named} & {*headers.get("connection", "").split(", ")}
    assert seen["Host"] == ["asked.example"]


def status_of(site: Site, path: str, *headers: str) -> str:
    """Status of a request that may be longer than http.client takes."""
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: asked.example"]
    argv += [word for header in headers for word in ("-H", header)]
    return subprocess.run(
        [*argv, f"http://127.0.0.1:{site.http}{path}"], capture_output=True, text=True, check=True
    ).stdout


def test_a_request_that_the_auth_service_cannot_be_sent_is_said_to_be_too_large(
    site: Site, doorkeeper: Doorkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told the address up to three times, beside all headers of the client: in a buffer of HAProxy's."""
    serve(site, "asked", f"{doorkeeper.url}/yes")
    site.until("asked.example", "/", "one")
    heard = len(doorkeeper.heard)
    assert status_of(site, "/?" + "q" * 20_000) == "414"
    assert status_of(site, "/?" + "q" * 8_000, "X-Own: " + "h" * 20_000) == "431"
    assert status_of(site, "/", "X-Own: " + "h" * 31_000) == "431"
    assert status_of(site, "/", *(f"X-Own-{number}: 1" for number in range(248))) == "431"
    assert len(doorkeeper.heard) == heard
    assert status_of(site, "/?" + "q" * 12_000) == "200"
    assert status_of(site, "/", "X-Own: " + "h" * 25_000) == "200"
    # It takes all that it is sent: whatever does not fit is refused before, and never 503.
    monkeypatch.setattr("http.client._MAXHEADERS", 1000)
    many = [[f"X-Own-{number}: 1" for number in range(count)] for count in range(220, 253, 3)]
    large = [["X-Own: " + "h" * length] for length in range(28_000, 32_000, 250)]
    for headers in (*many, *large):
        assert status_of(site, "/", *headers) in ("200", "431"), (len(headers), len(headers[0]))
    for length in range(7_000, 16_000, 500):
        assert status_of(site, "/?" + "q" * length, "X-Own: " + "h" * 4000) in ("200", "414", "431"), length
    assert status_of(site, "/", *many[0]) == "200"
    serve(site, "asked", f"{doorkeeper.url}/no", signin="https://login.example/")
    wait_for(lambda: status_of(site, "/") == "302", "the client is sent away")
    assert status_of(site, "/?" + "/" * 12_000) == "414", "where it would come back to is three times as long"


def test_the_auth_service_is_asked_with_the_method_that_is_said(site: Site, doorkeeper: Doorkeeper) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        serve(site, "asked", f"{doorkeeper.url}/yes", method=method)
        wait_for(lambda: site.ask("asked.example", "/")[0] == 200 and doorkeeper.heard[-1][""] == method, method)  # noqa: B023
        assert site.request("GET", "asked.example", "/", {"X-Vrata-Method": "TRACE"})[0] == 200
        assert doorkeeper.heard[-1][""] == method
