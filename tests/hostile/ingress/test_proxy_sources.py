"""Nobody but the balancer says by the PROXY protocol who a client is: allow lists and rate limits are not the caller's choice."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Json, Site, ingress, service

from vrata.kube.sources import SOURCES

FORGED = "192.0.2.1"  # whom the allow list lets in
BALANCER, NODE, NEIGHBOUR, POD = "127.1.0.5", "127.1.0.20", "127.2.0.1", "127.0.0.1"
VERSION_1 = f"PROXY TCP4 {FORGED} 192.0.2.9 4711 80\r\n".encode()
VERSION_2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + socket.inet_aton(FORGED)
    + socket.inet_aton("192.0.2.9")
    + (4711).to_bytes(2, "big")
    + (80).to_bytes(2, "big")
)


def front(policy: str, sources: str | None) -> Json:
    """The Service in front as the provider leaves it."""
    made = service("front")
    made["metadata"]["annotations"] = {} if sources is None else {SOURCES: sources}
    made["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": policy}
    return made


@pytest.fixture
def proxied(kubernetes: Cluster, site: Site) -> Iterator[Site]:
    """A controller as in the manifest: it expects the PROXY protocol from the balancer, which the Service names."""
    guarded = ingress("guarded", ("guarded.example", "Prefix", "/", "web"))
    guarded["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/whitelist-source-range": FORGED}
    site.apply(guarded, front("Local", "127.1.0.0/24,!127.1.0.20"))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Site(kubernetes, Path(folder), "--proxy-protocol", "--tcp-services-configmap", "default/tcp-proxied")
        try:
            made.start()
            made.until("guarded.example", "/", "403")
            yield made
        finally:
            made.stop()
            site.apply(front("Cluster", None))


def status(site: Site, source: str, header: bytes, port: int = 0) -> str:
    """What a caller from an address gets who sends this header before the request; empty if the connection is closed."""
    with socket.create_connection(("127.0.0.1", port or site.http), 10, source_address=(source, 0)) as connection:
        connection.sendall(header + b"GET / HTTP/1.1\r\nHost: guarded.example\r\nConnection: close\r\n\r\n")
        answer = b""
        try:
            while b"\r\n" not in answer and (data := connection.recv(65536)):
                answer += data
        except ConnectionError:
            return ""
    return answer.decode().split(" ")[1] if answer else ""


@pytest.mark.parametrize("header", [VERSION_1, VERSION_2], ids=["v1", "v2"])
def test_a_header_from_an_address_that_is_not_the_balancers_is_not_believed(proxied: Site, header: bytes) -> None:
    wait_for(lambda: status(proxied, BALANCER, header) == "200", "the balancer says who its client is")
    for source in (NODE, NEIGHBOUR, POD):
        assert status(proxied, source, header) == "400", f"{source} passes the allow list"
        assert status(proxied, source, b"") == "403", f"{source} counts under its own address"
    assert status(proxied, BALANCER, b"") == "", "the balancer always sends the header"


def test_who_is_believed_follows_the_service_without_a_reload(proxied: Site) -> None:
    """A balancer moved to another subnet, a new node, an annotation that nobody can read or that is gone."""
    master, worker = proxied.haproxy(), proxied.worker()
    wait_for(lambda: status(proxied, BALANCER, VERSION_2) == "200", "the first subnet is believed")
    assert status(proxied, NEIGHBOUR, VERSION_2) == "400"
    proxied.apply(front("Local", "127.2.0.0/24,127.1.0.0/24,!127.1.0.5"))
    wait_for(lambda: status(proxied, NEIGHBOUR, VERSION_2) == "200", "another subnet is believed")
    assert status(proxied, BALANCER, VERSION_2) == "400", "it is a node's address now"
    for sources in ("127.2.0.0/24,everybody", None):
        proxied.apply(front("Local", "127.2.0.0/24"))
        wait_for(lambda: status(proxied, NEIGHBOUR, VERSION_2) == "200", "it is believed again")
        proxied.apply(front("Local", sources))
        wait_for(lambda: status(proxied, NEIGHBOUR, VERSION_2) == "400", "nobody is believed")
    assert (proxied.haproxy(), proxied.worker()) == (master, worker)


def test_a_service_that_hides_the_balancers_address_is_told_so(proxied: Site) -> None:
    """Manifests of before keep working; an event says what that means."""
    proxied.apply(front("Cluster", "127.1.0.0/24"))
    body = '{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.7"}]}}}'
    proxied.cluster.kubectl("patch", "service", "front", "--subresource=status", "--type=merge", "-p", body)
    wait_for(lambda: "ProxyHeadersFromEverybody" in proxied.events(), "an event says so")
    wait_for(lambda: status(proxied, POD, VERSION_2) == "200", "everybody is believed")
    proxied.apply(front("Local", "127.1.0.0/24"))
    wait_for(lambda: status(proxied, POD, VERSION_2) == "400", "only the balancer is believed")


def test_a_tcp_service_believes_the_same(proxied: Site) -> None:
    """`PROXY` in its entry: who is not the balancer comes without the header, and counts under its own address."""
    port = free_port()
    data = {str(port): "default/web:80:PROXY"}
    proxied.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp-proxied"}, "data": data})
    wait_for(lambda: opened(port) and status(proxied, BALANCER, VERSION_2, port) == "200", "the balancer is believed")
    assert status(proxied, POD, VERSION_1, port) != "200", "the pod is sent the header as it came: it is no HTTP"
    assert status(proxied, POD, b"", port) == "200"
    assert "accept-proxy" not in (proxied.directory / "haproxy.cfg").read_text(), "no listener believes everybody"


def opened(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
