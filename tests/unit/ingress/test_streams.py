"""TCP and UDP services as a ConfigMap names them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.places import Kind, kind_of
from vrata.ingress.streams import MOST, Port, read_datagrams, read_streams


def test_a_port_leads_to_a_service_with_or_without_the_proxy_protocol() -> None:
    data = {
        "9000": "default/db:5432",
        "9001": "default/db:sql:PROXY",
        "9002": "a/b:1::PROXY",
        "9003": "a/b:1:PROXY:PROXY",
    }
    found, problems = read_streams(data, ())
    assert not problems
    assert found == {
        Port(9000): "default/db:5432;tcp",
        Port(9001, proxied=True): "default/db:sql;tcp",
        Port(9002): "a/b:1;proxy;tcp",
        Port(9003, proxied=True): "a/b:1;proxy;tcp",
    }
    assert {kind_of(backend) for backend in found.values()} == {Kind.TCP}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("0", "a/b:1", "'0' is no port"),
        ("65536", "a/b:1", "no port"),
        ("http", "a/b:1", "'http' is no port"),
        ("8080", "a/b:1", "the controller itself has this port"),
        ("9000", "b:1", "names no Service"),
        ("9000", "a/b", "write namespace/service:port"),
        ("9000", "a/b:1:proxy", "names no Service"),
        ("9000", "a/b:1\n  bind :1", "names no Service"),
    ],
)
def test_a_wrong_entry_is_left_out_and_told(key: str, value: str, words: str) -> None:
    found, problems = read_streams({key: value, "9999": "good/one:1"}, (8080,))
    assert found == {Port(9999): "good/one:1;tcp"}
    assert words in problems[0][1]


def test_udp_has_the_same_entries_without_the_proxy_protocol() -> None:
    found, problems = read_datagrams({"53": "kube-system/kube-dns:dns", "8080": "a/b:1", "54": "a/b:1:PROXY"})
    assert found == {53: "kube-system/kube-dns:dns;udp", 8080: "a/b:1;udp"}
    assert problems == (("InvalidService", "data.54: 'a/b:1:PROXY' names no Service; write namespace/service:port"),)


def test_very_many_ports_are_not_all_served() -> None:
    found, problems = read_streams({str(number): "a/b:1" for number in range(1, MOST + 9)}, ())
    assert len(found) == MOST
    assert problems[-1][0] == "TooManyPorts"


@pytest.mark.parametrize("port", [Port(9000), Port(9000, proxied=True)])
def test_the_name_of_a_frontend_tells_its_port(port: Port) -> None:
    assert Port.of_name(port.name) == port


@given(st.text())
def test_other_names_are_no_ports(name: str) -> None:
    port = Port.of_name(name)
    assert port is None or name.startswith("tcp-")


@given(st.dictionaries(st.text(max_size=6) | st.just("9000"), st.text(max_size=40)))
def test_whatever_is_written_it_is_read(data: dict[str, str]) -> None:
    for found, problems in (read_streams(data, (9000,)), read_datagrams(data)):
        assert len(found) + len(problems) == len(data)
