"""Headers as large as single sign-on makes them: Keycloak, GitLab and oauth2-proxy ask for `proxy-buffer-size` for their sake."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.kubernetes import wait_for
from tests.support.pki import issue
from tests.system.ingress.site import Site, endpoint, ingress, secret, service

HOST = "sso.example"
VERSIONS = pytest.mark.parametrize("version", ["1.1", "2"])


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with `count` headers that have `bytes` characters together."""

    def do_GET(self) -> None:
        asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.send_response(200)
        for number in range(asked.get("count", 0)):
            self.send_header(f"X-{number}", "h" * (asked["bytes"] // asked["count"]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def sso(site: Site) -> Iterator[Site]:
    """`/` leads to such a pod, `/echo` to one that says what it was sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.apply(
        service("sso"),
        endpoint("sso", "sso", server.server_port),
        secret("sso", issue("sso", HOST)),
        ingress(
            "sso",
            (HOST, "Prefix", "/", "sso"),
            (HOST, "Prefix", "/echo", "web"),
            tls={"sso": [HOST]},
            annotations={"proxy-buffer-size": "128k", "proxy-buffers-number": "4", "proxy-busy-buffers-size": "256k"},
        ),
    )
    wait_for(lambda: site.certificate(HOST) == "sso", "the certificate is served")
    wait_for(lambda: site.encrypted(HOST, "/echo")[0] == 200, "it is served")
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def ask(site: Site, version: str, path: str, *headers: str) -> tuple[str, str]:
    """Status and body of one request."""
    argv = ["curl", "-sk", f"--http{version}", "--resolve", f"{HOST}:{site.https}:127.0.0.1", "-w", "\n%{http_code}"]
    argv += [word for header in headers for word in ("-H", header)]
    found = subprocess.run([*argv, f"https://{HOST}:{site.https}{path}"], capture_output=True, text=True, check=False)
    body, _, status = found.stdout.rpartition("\n")
    return status, body


@VERSIONS
@pytest.mark.parametrize(("length", "count"), [(16_000, 6), (30_000, 4), (20_000, 200)])
def test_a_pods_big_headers_reach_the_client(sso: Site, version: str, length: int, count: int) -> None:
    assert ask(sso, version, f"/?bytes={length}&count={count}")[0] == "200"


@VERSIONS
@pytest.mark.parametrize(("length", "count"), [(16_000, 1), (30_000, 4), (20_000, 200)])
def test_a_clients_big_headers_reach_the_pod(sso: Site, version: str, length: int, count: int) -> None:
    status, body = ask(sso, version, "/echo", *(f"X-Own-{one}: {'h' * (length // count)}" for one in range(count)))
    assert status == "200"
    assert sum(name.startswith("X-Own-") for name in json.loads(body)["headers"]) == count


@pytest.mark.parametrize(("version", "expected"), [("1.1", "400"), ("2", "000")])
@pytest.mark.parametrize("length", [33_500, 40_000])
def test_larger_ones_get_400_or_over_http_2_no_answer(sso: Site, version: str, expected: str, length: int) -> None:
    """HAProxy resets the stream, or ends the connection where the headers do not fit a buffer (docs/ingress.md)."""
    worker = sso.worker()
    assert ask(sso, version, "/echo", *(f"X-Own-{one}: {'h' * (length // 4)}" for one in range(4)))[0] == expected
    assert ask(sso, version, "/echo")[0] == "200"
    assert sso.worker() == worker
