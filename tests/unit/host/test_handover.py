"""What a pair's packets rules are made of, and when silence is a fault."""

import msgspec
import pytest
from tests.support.instances import balancer, gateway

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance
from vrata.host.handover import (
    anchor,
    compile_handover,
    connection_mark,
    link_local,
    local_addresses,
    peer_addresses,
)
from vrata.host.watchdog import Share, is_busy, is_starved

MAC = "fa:16:3e:01:02:03"


def paired(**vrrp: object) -> DesiredInstance:
    desired = balancer()
    return msgspec.structs.replace(
        desired, vrrp=msgspec.structs.replace(desired.vrrp, **({"peer_macs": (MAC,)} | vrrp))
    )


def test_without_a_peer_a_port_or_a_proxy_there_are_no_rules() -> None:
    assert any(compile_handover(paired(), (80,)))
    assert not any(compile_handover(paired(), ()))
    assert not any(compile_handover(paired(peers=(), peer_macs=()), (80,)))
    assert not any(compile_handover(paired(peer_macs=()), (80,)))  # a cloud that does not tell it yet
    assert not any(compile_handover(gateway(), (80,)))


def test_a_mac_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="peer_macs"):
        compile_handover(paired(peer_macs=("x; flush ruleset",)), (80,))


def test_the_two_of_a_pair_mark_differently() -> None:
    one, other = connection_mark("11111111-aaaa"), connection_mark("11111111-bbbb")
    assert one != other
    assert 0 < one < 2**32


def test_the_peer_is_reached_in_both_families() -> None:
    assert link_local(MAC) == "fe80::f816:3eff:fe01:203"  # RFC 4291, appendix A
    assert anchor("fa:16:3e:01:00:03") == "169.254.1.3"
    assert peer_addresses(paired(peers=("10.0.0.2",))) == ("10.0.0.2", "fe80::f816:3eff:fe01:203")
    assert peer_addresses(paired(peers=("2001:db8::2",))) == ("169.254.2.3", "fe80::f816:3eff:fe01:203")


def test_only_balancers_take_in_packets_for_addresses_that_they_do_not_hold() -> None:
    virtual = {cidr.partition("/")[0] for leg in balancer().legs for cidr in leg.virtual}
    kept = local_addresses(balancer())
    assert {cidr.partition("/")[0] for cidr in kept} == virtual
    assert {cidr.partition("/")[2] for cidr in kept} <= {"32", "128"}
    assert local_addresses(gateway()) == ()


@pytest.mark.parametrize(("ran_s", "waited_s", "starved"), [(0.0, 0.0, False), (1.0, 0.0, False), (0.1, 0.9, True)])
def test_silence_counts_unless_the_process_was_kept_from_the_processor(
    ran_s: float, waited_s: float, *, starved: bool
) -> None:
    before = Share(ran_s=5.0, waited_s=2.0)
    assert is_starved(before, Share(5.0 + ran_s, 2.0 + waited_s), silent_s=1.0) is starved


@pytest.mark.parametrize(
    ("ran_s", "waited_s", "busy"), [(0.0, 0.0, False), (0.1, 0.3, False), (0.3, 0.3, True), (0.9, 0.0, True)]
)
def test_an_agent_that_had_no_time_to_listen_proves_nothing(ran_s: float, waited_s: float, *, busy: bool) -> None:
    before = Share(7.0, 3.0)
    assert is_busy(before, Share(7.0 + ran_s, 3.0 + waited_s), silent_s=1.0) is busy
