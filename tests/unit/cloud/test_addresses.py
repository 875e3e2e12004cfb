"""Arithmetic on subnets: pools, gateways, the next free address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud.network import plan

cidrs = st.builds(
    lambda base, prefix: str(ipaddress.ip_network((base, prefix), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(22, 30),
)


@given(cidrs)
def test_default_pools_hold_every_usable_address_but_the_gateway(cidr: str) -> None:
    gateway = plan.default_gateway(cidr)
    pools = plan.default_pools(cidr, gateway)
    plan.check_pools(cidr, gateway, pools)
    counted = sum(
        int(ipaddress.ip_address(pool["end"])) - int(ipaddress.ip_address(pool["start"])) + 1 for pool in pools
    )
    assert counted == ipaddress.ip_network(cidr).num_addresses - 3


@given(cidrs, st.integers(0, 30))
def test_addresses_are_given_once_each_until_none_is_left(cidr: str, many: int) -> None:
    gateway = plan.default_gateway(cidr)
    pools = plan.default_pools(cidr, gateway)
    taken: set[int] = set()
    for _ in range(many):
        address = plan.next_free(pools, taken, 4)
        if address is None:
            assert len(taken) == ipaddress.ip_network(cidr).num_addresses - 3
            return
        assert plan.usable(address, cidr)
        assert address != gateway
        assert int(ipaddress.ip_address(address)) not in taken
        taken.add(int(ipaddress.ip_address(address)))


@pytest.mark.parametrize(
    ("gateway", "pools"),
    [
        ("10.0.0.1", [("10.0.0.1", "10.0.0.9")]),
        (None, [("10.0.0.9", "10.0.0.2")]),
        (None, [("10.0.0.2", "10.0.1.2")]),
        (None, [("10.0.0.2", "10.0.0.9"), ("10.0.0.9", "10.0.0.12")]),
    ],
)
def test_pools_that_do_not_fit_are_refused(gateway: str | None, pools: list[tuple[str, str]]) -> None:
    with pytest.raises(plan.BadPools):
        plan.check_pools("10.0.0.0/24", gateway, [{"start": a, "end": b} for a, b in pools])


def test_an_ipv6_subnet_of_any_size_gives_addresses_at_once() -> None:
    pools = plan.default_pools("2001:db8::/64", "2001:db8::1")
    assert plan.next_free(pools, set(), 6) == "2001:db8::2"
    assert plan.with_prefix("2001:db8::2", "2001:db8::/64") == "2001:db8::2/64"
