"""From where a load balancer reaches its members: what the provider writes is what the Ingress controller reads."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.base.errors import InvalidInput
from vrata.ingress.proxies import BALANCER, rows_of_sources
from vrata.kube.sources import Sources, encode_sources, parse_sources

networks = st.tuples(st.integers(0, 255), st.integers(20, 32)).map(
    lambda one: str(ipaddress.ip_network(f"10.10.{one[0]}.{one[0]}/{one[1]}", strict=False))
)
addresses = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda one: f"10.10.{one[0]}.{one[1]}")


def is_believed(address: str, rows: dict[str, str]) -> bool:
    """As HAProxy looks in a map of networks: the longest one decides."""
    found = [net for net in map(ipaddress.ip_network, rows) if ipaddress.ip_address(address) in net]
    return bool(found) and rows[str(max(found, key=lambda net: net.prefixlen))] == BALANCER


@given(st.frozensets(networks, max_size=4), st.frozensets(addresses, max_size=6), addresses)
def test_addresses_of_the_subnets_are_believed_and_no_nodes(
    cidrs: frozenset[str], nodes: frozenset[str], other: str
) -> None:
    rows = dict(rows_of_sources(parse_sources(encode_sources(cidrs, nodes))))
    for address in {other, *nodes}:
        inside = any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in cidrs)
        assert is_believed(address, rows) == (inside and address not in nodes)


@given(st.frozensets(networks), st.frozensets(addresses))
def test_the_text_does_not_depend_on_the_order(cidrs: frozenset[str], nodes: frozenset[str]) -> None:
    assert encode_sources(sorted(cidrs), sorted(nodes)) == encode_sources(
        sorted(cidrs, reverse=True), sorted(nodes, reverse=True)
    )


def test_nodes_elsewhere_and_what_is_no_address_are_left_out() -> None:
    nodes = ["10.10.0.20", "192.0.2.1", "fd00::1", "worker-0", ""]
    assert encode_sources(["10.10.0.0/24", "10.10.0.0/24"], nodes) == "10.10.0.0/24,!10.10.0.20"


def test_blanks_and_empty_parts_mean_nothing() -> None:
    assert parse_sources("") == parse_sources(" , ") == Sources()
    assert parse_sources(" 10.0.0.0/8 , !10.0.0.1 ").others == {"10.0.0.1/32"}


@pytest.mark.parametrize(
    "text", ["everybody", "10.0.0.5/24", "10.0.0.0/33", "!!10.0.0.1", "10.0.0.0/8 10.1.0.0/16", "! 10.0.0.1"]
)
def test_what_is_no_network_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"vrata\.dev/load-balancer-sources.*10\.0\.0\.0/24"):
        parse_sources(text)
