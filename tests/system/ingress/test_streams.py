"""TCP services of a ConfigMap, with packets; a controller of its own, for its ports are its own."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Json, Site, endpoint, service


@pytest.fixture(scope="module")
def streams(kubernetes: Cluster, site: Site) -> Iterator[Site]:
    assert site.process  # it has made `web` and `shop`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Site(kubernetes, Path(folder), "--tcp-services-configmap", "default/tcp", "--spare-backends", "4")
        try:
            made.start()
            yield made
        finally:
            made.stop()


def config_map(data: dict[int | str, str]) -> Json:
    body = {str(port): text for port, text in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp"}, "data": body}


def pod(site: Site, port: int) -> str:
    """Whoever answers on a port, in HTTP for want of another protocol; empty if nobody does."""
    try:
        return site.pod("", "/", port=port)
    except OSError:
        return ""


def test_a_port_leads_to_a_service_and_elsewhere_without_a_reload(streams: Site) -> None:
    port = free_port()
    streams.apply(config_map({port: "default/web:80"}))
    wait_for(lambda: pod(streams, port) == "one", "the port answers")
    reloads = streams.reloads()
    streams.apply(config_map({port: "default/shop:http"}))
    wait_for(lambda: pod(streams, port) == "two", "it leads to the other Service")
    assert streams.reloads() == reloads
    streams.apply(config_map({}))
    wait_for(lambda: pod(streams, port) == "", "and nowhere")
    assert streams.reloads() == reloads


def test_pods_come_and_go_behind_a_port_and_connections_stay(streams: Site, echoes: Echoes) -> None:
    port = free_port()
    streams.apply(service("line"), endpoint("line", "one", echoes.port("one")), config_map({port: "default/line:80"}))
    wait_for(lambda: pod(streams, port) == "one", "the port answers")
    reloads = streams.reloads()
    with socket.create_connection(("127.0.0.1", port), 5) as kept:
        streams.apply(endpoint("line", "two", echoes.port("two")))
        wait_for(lambda: {pod(streams, port) for _ in range(8)} == {"one", "two"}, "both answer")
        streams.cluster.kubectl("delete", "endpointslice", "line-one")
        wait_for(lambda: {pod(streams, port) for _ in range(8)} == {"two"}, "only the new one answers")
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b'"pod": "one"' in kept.recv(65536)
    assert streams.reloads() == reloads


def test_a_new_port_is_a_reload_that_disturbs_nobody(streams: Site) -> None:
    first, second = free_port(), free_port()
    streams.apply(config_map({first: "default/web:80"}))
    wait_for(lambda: pod(streams, first) == "one", "the port answers")
    reloads = streams.reloads()
    with streams.load("", port=first) as seen:
        streams.apply(config_map({first: "default/web:80", second: "default/shop:80"}))
        wait_for(lambda: pod(streams, second) == "two", "the other port answers")
    assert seen.good
    assert not seen.bad
    assert streams.reloads() == reloads + 1
    assert "a new port" in streams.log.read_text()


def test_what_is_wrong_is_told_on_the_config_map_and_the_rest_is_served(streams: Site) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = int(somebody.getsockname()[1])
        data: dict[int | str, str] = {port: "default/web:80", taken: "default/web:80", "http": "default/web:80"}
        streams.apply(config_map(data | {streams.http: "default/web:80"}))
        wait_for(lambda: pod(streams, port) == "one", "the good port answers")
        told = streams.events()
    for words in (
        f"data.{taken}: it cannot be opened here",
        "'http' is no port",
        "the controller itself has this port",
    ):
        assert words in told or wait_for(lambda words=words: words in streams.events(), words)  # type: ignore[misc]
