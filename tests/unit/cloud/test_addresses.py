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
        address = next(plan.free(pools, taken, 4), None)
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
    assert next(plan.free(pools, set(), 6)) == "2001:db8::2"
    assert plan.with_prefix("2001:db8::2", "2001:db8::/64") == "2001:db8::2/64"


def test_a_mac_address_makes_the_address_of_rfc_4291() -> None:
    assert plan.eui64("2001:db8::/64", "00:00:5e:00:53:01") == "2001:db8::200:5eff:fe00:5301"


@given(
    length=st.integers(24, 30),
    asked=st.lists(st.integers(24, 30), max_size=20),
)
def test_a_pool_gives_out_networks_that_never_overlap_and_ends_only_when_none_fits(
    length: int, asked: list[int]
) -> None:
    pool = [ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("10.0.4.0/23")]
    taken: list[plan.Network] = []
    for one in asked:
        found = plan.next_prefix(pool, taken, one)
        if found is not None:
            assert plan.prefix_is_free(found, pool, taken)
            taken.append(ipaddress.ip_network(found))
    every = [net for prefix in pool if prefix.prefixlen <= length for net in prefix.subnets(new_prefix=length)]
    free = [net for net in every if not any(net.overlaps(one) for one in taken)]
    assert plan.next_prefix(pool, taken, length) == (str(free[0]) if free else None)
