"""Which Ingress statuses are written."""

import msgspec
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.status import plan_status
from vrata.kube.objects import Ingress, IngressStatus, LoadBalancerIngress, LoadBalancerStatus

KEY = "default/shop"
OURS = [{"ip": "203.0.113.7"}]
NONE: frozenset[str] = frozenset()


def shop(*addresses: str) -> dict[str, Ingress]:
    entries = tuple(LoadBalancerIngress(ip=address) for address in addresses)
    status = IngressStatus(LoadBalancerStatus(entries))
    return {KEY: msgspec.structs.replace(make_ingress("shop"), status=status)}


def test_an_ingress_of_ours_is_given_our_addresses_and_no_others() -> None:
    for present in ((), ("198.51.100.1",), ("203.0.113.7", "198.51.100.1")):
        assert plan_status(frozenset({KEY}), NONE, shop(*present), OURS) == {KEY: OURS}


def test_what_is_right_is_not_written() -> None:
    assert plan_status(frozenset({KEY}), NONE, shop("203.0.113.7"), OURS) == {}


def test_a_released_ingress_loses_our_addresses() -> None:
    assert plan_status(NONE, frozenset({KEY}), shop("203.0.113.7"), OURS) == {KEY: []}


def test_a_released_ingress_keeps_what_another_controller_wrote() -> None:
    assert plan_status(NONE, frozenset({KEY}), shop("198.51.100.1"), OURS) == {}


def test_a_released_ingress_that_is_gone_is_not_written() -> None:
    assert plan_status(NONE, frozenset({KEY}), {}, OURS) == {}
