"""HTTP/2 on both sides, WebSockets, headers that clients can not forge."""

import http.client
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tests.support.kubernetes import wait_for
from tests.support.pki import issue
from tests.support.ports import free_port
from tests.system.ingress.site import Site, endpoint, ingress, reachable, secret, service

H2_POD = """\
defaults
  mode http
  timeout client 10s
frontend h2
  bind 127.0.0.1:{port} proto h2
  http-request return status 200 content-type application/json lf-string '{{"pod":"h2","version":"%[req.ver]"}}'
"""


@pytest.fixture
def h2_pod() -> Iterator[int]:
    """A pod that speaks nothing but HTTP/2 without TLS; its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(H2_POD.format(port=port))
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: reachable(port), "the pod listens")
            yield port
        finally:
            process.kill()
            process.wait()


def test_a_pod_that_speaks_http_2_gets_it_by_its_ports_app_protocol(site: Site, h2_pod: int) -> None:
    made = service("grpc")
    made["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/h2c"
    site.apply(made, endpoint("grpc", "h2", h2_pod), ingress("grpc", ("grpc.example", "Prefix", "/", "grpc")))
    site.until("grpc.example", "/", "h2")
    assert site.ask("grpc.example", "/")[1]["version"] == "2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2", "h2c, websocket2"])
def test_nothing_but_a_websocket_becomes_a_tunnel(site: Site, h2_pod: int, method: str, upgrade: str) -> None:
    """Java's client offers `Upgrade: h2c` with its first request: 101 instead of an answer, and HEAD became GET."""
    made = service("grpc")
    made["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/h2c"
    site.apply(made, endpoint("grpc", "h2", h2_pod), ingress("grpc", ("grpc.example", "Prefix", "/", "grpc")))
    site.until("grpc.example", "/", "h2")
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    status, _, body = site.request(method, "grpc.example", "/", offer)
    assert status == 200
    assert (body in ("", b"", None)) == (method == "HEAD")


@pytest.mark.parametrize(
    ("said", "received"),
    [
        ({"Connection": "X-Own, keep-alive", "Keep-Alive": "timeout=5"}, {}),
        ({"Proxy-Connection": "keep-alive", "TE": "gzip", "Connection": "close, X_Own"}, {}),
        ({"TE": "trailers"}, {"te": "trailers"}),
        ({"Upgrade": "h2c"}, {}),
    ],
)
def test_pods_see_nothing_of_the_clients_connection(site: Site, said: dict[str, str], received: dict[str, str]) -> None:
    """RFC 9110, 7.6.1."""
    site.apply(ingress("hop", ("hop.example", "Prefix", "/", "web")))
    site.until("hop.example", "/", "one")
    seen = site.request("GET", "hop.example", "/", said)[2]["headers"]
    kept = {name.lower(): values[0] for name, values in seen.items()}
    hop_by_hop = {"connection", "keep-alive", "proxy-connection", "te", "upgrade", "x-own"}
    assert {name: kept[name] for name in hop_by_hop & kept.keys()} == received


def test_of_connection_a_websocket_has_what_it_needs(site: Site) -> None:
    """With any spelling and beside other names, as browsers write it."""
    with socket.create_server(("127.0.0.1", 0)) as pod:
        site.apply(
            service("raw"),
            endpoint("raw", "raw", pod.getsockname()[1]),
            ingress("raw", ("raw.example", "Prefix", "/", "raw")),
        )
        pod.settimeout(1)
        said = "GET / HTTP/1.1\r\nHost: raw.example\r\nConnection: keep-alive, upgrade, X-Own\r\nUpgrade: websocket\r\n"
        said += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

        def heard() -> str:
            with socket.create_connection(("127.0.0.1", site.http), 60) as client:
                client.sendall(said.encode())
                try:
                    connection, _ = pod.accept()
                except TimeoutError:
                    return ""
                with connection:
                    return connection.recv(65536).decode().lower()

        asked = wait_for(heard, "the pod is asked")
    lines = [line for line in asked.split("\r\n") if line.startswith("connection:")]
    assert lines == ["connection: upgrade"]
    assert "upgrade: websocket" in asked


@pytest.fixture
def grpc_pod() -> Iterator[int]:
    """A gRPC service: an answer, a stream of answers, a refusal; its port."""

    def stream(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (request + bytes([number]) for number in range(3))

    def refuse(_request: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_grpc_with_streams_and_with_what_trailers_say(site: Site, grpc_pod: int) -> None:
    identity = issue("rpc", "rpc.example")
    site.apply(
        service("rpc"),
        endpoint("rpc", "rpc", grpc_pod),
        secret("rpc", identity),
        ingress(
            "rpc",
            ("rpc.example", "Prefix", "/shop.Cart", "rpc"),
            tls={"rpc": ["rpc.example"]},
            annotations={"backend-protocol": "GRPC"},
        ),
    )
    wait_for(lambda: site.certificate("rpc.example") == "rpc", "the certificate is served")
    trusted = grpc.ssl_channel_credentials(identity.cert_pem.encode())
    options = [("grpc.ssl_target_name_override", "rpc.example")]
    with grpc.secure_channel(f"127.0.0.1:{site.https}", trusted, options) as channel:
        assert channel.unary_unary("/shop.Cart/Echo")(b"one", timeout=60, wait_for_ready=True) == b"one"
        assert list(channel.unary_stream("/shop.Cart/Stream")(b"n", timeout=60)) == [b"n\x00", b"n\x01", b"n\x02"]
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/shop.Cart/Refuse")(b"", timeout=60)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        with pytest.raises(grpc.RpcError) as missed:
            channel.unary_unary("/shop.Other/Echo")(b"", timeout=60)
        assert missed.value.code() == grpc.StatusCode.UNIMPLEMENTED  # what gRPC makes of a 404


def test_a_client_speaks_http_2_over_tls(site: Site) -> None:
    site.apply(
        secret("h2", issue("h2", "h2.example")),
        ingress("h2", ("h2.example", "Prefix", "/", "web"), tls={"h2": ["h2.example"]}),
    )
    wait_for(lambda: site.certificate("h2.example") == "h2", "the certificate is served")
    url = f"https://h2.example:{site.https}/"
    argv = [
        "curl",
        "-sk",
        "--http2",
        "--resolve",
        f"h2.example:{site.https}:127.0.0.1",
        "-w",
        "\\n%{http_version}",
        url,
    ]
    body, version = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.rsplit("\n", 1)
    assert version == "2"
    assert json.loads(body)["pod"] == "one"


def test_what_a_client_says_in_our_name_is_dropped(site: Site) -> None:
    """Also what pods could read so, and the way into HTTP/2 past all rules (RFC 7540, section 3.2)."""
    site.apply(ingress("forged", ("forged.example", "Prefix", "/", "web")))
    site.until("forged.example", "/", "one")
    ours = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "forged.example",
        "X-Forwarded-Port": str(site.http),
        "X-Forwarded-Proto": "http",
        "X-Real-Ip": "127.0.0.1",
    }
    others = (
        "Forwarded",
        "X-Forwarded-Prefix",
        "X-Forwarded-Scheme",
        "X-Scheme",
        "ssl-client-verify",
        "HTTP2-Settings",
        "Proxy",
    )
    names = [*ours, *others]
    said = dict.fromkeys((*names, *(name.replace("-", "_") for name in names if name != "HTTP2-Settings")), "forged")
    said |= {"X-Own": "kept"}
    seen = site.request("GET", "forged.example", "/", said)[2]["headers"]
    assert {name: seen.get(name) for name in (*ours, "X-Own")} == {
        name: [value] for name, value in (ours | {"X-Own": "kept"}).items()
    }
    assert not [name for name, values in seen.items() if "forged" in values]


def test_every_answer_names_a_server(site: Site) -> None:
    site.apply(ingress("named", ("named.example", "Prefix", "/", "web"), ("bare.example", "Prefix", "/", "empty")))
    site.until("named.example", "/", "one")
    for host in ("named.example", "bare.example", "nobody-at-all.example"):
        argv = ["curl", "-si", "-H", f"Host: {host}", f"http://127.0.0.1:{site.http}/"]
        head = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.lower()
        assert "\nserver: " in head, (host, head)


def raw(site: Site, request: str) -> tuple[int, bytes]:
    """Status and body of what is answered to these very lines."""
    with socket.create_connection(("127.0.0.1", site.http), 60) as connection:
        connection.sendall(f"{request}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("GET /a?b=c", ["/a?b=c"]),
        ("GET http://lines.example/a?b=c", ["/a?b=c"]),
        ("GET http://lines.example", ["/"]),
        (
            "OPTIONS http://lines.example",
            ["*", "/"],
        ),  # HAProxy 3.0 itself makes `/` of the empty path, 2.6 leaves it empty
        ("OPTIONS *", ["*"]),
    ],
)
def test_a_pod_is_asked_in_origin_form(site: Site, line: str, paths: list[str]) -> None:
    """RFC 9112, section 3.2: the other forms are for proxies."""
    site.apply(ingress("lines", ("lines.example", "Prefix", "/", "web")))
    site.until("lines.example", "/", "one")
    status, body = raw(site, f"{line} HTTP/1.1\r\nHost: lines.example")
    assert status == 200
    assert json.loads(body)["path"] in paths


def test_a_request_without_host_and_one_for_a_tunnel_are_refused(site: Site) -> None:
    site.apply(ingress("lines", ("", "Prefix", "/", "web"), ("lines.example", "Prefix", "/", "web")))
    site.until("lines.example", "/", "one")
    assert raw(site, "GET / HTTP/1.1\r\nX-Own: 1")[0] == 400
    wait_for(lambda: raw(site, "GET / HTTP/1.0")[0] == 200, "what no host is named for is served, too")
    assert raw(site, "CONNECT lines.example:80 HTTP/1.1\r\nHost: lines.example")[0] == 405
