"""Which pods answer for a backend."""

import msgspec
import pytest
from tests.unit.ingress.objects import SLICE, WEB

from vrata.ingress.endpoints import addresses_of, servers_of
from vrata.ingress.model import BackendKey
from vrata.ingress.render import server_address
from vrata.kube.objects import Endpoint, EndpointSlice


def test_only_ready_endpoints_are_servers() -> None:
    servers, wrong = servers_of(BackendKey("default/web:80"), WEB, [SLICE])
    assert [server.address for server in servers] == ["10.20.0.2"]
    assert wrong is None


def test_the_last_ones_serve_until_another_is_ready() -> None:
    last = msgspec.structs.replace(SLICE, endpoints=(SLICE.endpoints or ())[1:])
    servers, _ = servers_of(BackendKey("default/web:http"), WEB, [last])
    assert [server.address for server in servers] == ["10.20.0.3"]


def test_a_missing_service_and_a_missing_port_say_what_to_do() -> None:
    assert servers_of(BackendKey("default/web:80"), None, ()) == (
        (),
        ("ServiceNotFound", "service.name: no Service 'default/web'; create it, then it is served"),
    )
    _, wrong = servers_of(BackendKey("default/web:grpc"), WEB, [SLICE])
    assert wrong == ("PortNotFound", "service.port: Service default/web has no port 'grpc'; use one of: http")


def test_endpoints_of_both_families_have_names_of_their_own() -> None:
    six = msgspec.convert(
        {
            "metadata": {"name": "web-6", "namespace": "default"},
            "addressType": "IPv6",
            "endpoints": [{"addresses": ["fd00::2"]}],
            "ports": [{"name": "http", "port": 8080}],
        },
        EndpointSlice,
    )
    servers, _ = servers_of(BackendKey("default/web:80"), WEB, [SLICE, six])
    assert [server.name for server in servers] == ["s-10-20-0-2-8080", "s-fd00__2-8080"]


def test_an_application_protocol_says_that_pods_speak_http_2() -> None:
    port = msgspec.structs.replace(WEB.spec.ports[0], app_protocol="kubernetes.io/h2c")
    grpc = msgspec.structs.replace(WEB, spec=msgspec.structs.replace(WEB.spec, ports=(port,)))
    (server,), _ = servers_of(BackendKey("default/web:80"), grpc, [SLICE])
    assert (server.name, server.h2) == ("s-10-20-0-2-8080-h2", True)


def test_endpoints_that_are_names_are_left_out() -> None:
    name = msgspec.convert(
        {
            "metadata": {"name": "web-n", "namespace": "default"},
            "addressType": "FQDN",
            "endpoints": [{"addresses": ["pod.example"]}],
            "ports": [{"name": "http", "port": 8080}],
        },
        EndpointSlice,
    )
    assert servers_of(BackendKey("default/web:80"), WEB, [name]) == ((), None)


def test_udp_and_tcp_ports_of_one_number_are_two() -> None:
    ports = tuple(
        msgspec.structs.replace(WEB.spec.ports[0], name=name, port=53, protocol=name.upper()) for name in ("tcp", "udp")
    )
    dns = msgspec.structs.replace(WEB, spec=msgspec.structs.replace(WEB.spec, ports=ports))
    item = (SLICE.ports or ())[0]
    pods = msgspec.structs.replace(
        SLICE,
        ports=(
            msgspec.structs.replace(item, name="tcp", port=5301),
            msgspec.structs.replace(item, name="udp", port=5302, protocol="UDP"),
        ),
    )
    assert [server.port for server in servers_of(BackendKey("default/web:53"), dns, [pods])[0]] == [5301]
    assert [server.port for server in servers_of(BackendKey("default/web:53;udp"), dns, [pods])[0]] == [5302]
    _, wrong = servers_of(BackendKey("default/web:80;udp"), WEB, [SLICE])
    assert wrong
    assert wrong[1] == "service.port: Service default/web has no UDP port '80'; use one of: none yet"


@pytest.mark.parametrize(
    "address",
    ["10.0.0.01", "010.1.1.1", "pod", "", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fd00::1%x y", "224.0.0.1"],
)
def test_an_address_that_no_server_can_have_costs_nobody_anything(address: str) -> None:
    """Kubernetes takes zeros in front of a number; what HAProxy and we read there differs."""
    bad = msgspec.structs.replace(SLICE, endpoints=(Endpoint((address,)), Endpoint(()), *(SLICE.endpoints or ())))
    servers, _ = servers_of(BackendKey("default/web:80"), WEB, [bad])
    assert [server_address(server) for server in servers] == ["10.20.0.2:8080"]
    assert addresses_of([bad]) == {"10.20.0.2"}


def test_a_slice_without_a_port_has_no_servers() -> None:
    """HAProxy would take the port that the client came to."""
    open_ = msgspec.convert(
        {"metadata": {"name": "web-o", "namespace": "default"}, "endpoints": [{"addresses": ["10.20.0.9"]}]}
        | {"ports": [{"name": "http"}]},
        EndpointSlice,
    )
    assert servers_of(BackendKey("default/web:80"), WEB, [open_]) == ((), None)
