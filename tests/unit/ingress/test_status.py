"""Which Ingress statuses are written."""

import msgspec
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.status import plan_status
from vrata.kube.objects import Ingress, IngressStatus, LoadBalancerIngress, LoadBalancerStatus, ManagedFields

KEY = "default/shop"
OURS = [{"ip": "203.0.113.7"}]
NONE: frozenset[str] = frozenset()
US, OTHER = "us", "other"


def shop(*addresses: str, by: str = US) -> dict[str, Ingress]:
    """An Ingress whose status one manager has written, and whose rest another one has."""
    made = make_ingress("shop")
    written = (ManagedFields(by, "status"), ManagedFields(OTHER))
    status = IngressStatus(LoadBalancerStatus(tuple(LoadBalancerIngress(ip=address) for address in addresses)))
    metadata = msgspec.structs.replace(made.metadata, managed_fields=written)
    return {KEY: msgspec.structs.replace(made, metadata=metadata, status=status)}


def test_an_ingress_of_ours_is_given_our_addresses_and_no_others() -> None:
    for present in ((), ("198.51.100.1",), ("203.0.113.7", "198.51.100.1")):
        assert plan_status(frozenset({KEY}), shop(*present, by=OTHER), OURS, US) == {KEY: OURS}


def test_what_is_right_is_not_written() -> None:
    assert plan_status(frozenset({KEY}), shop("203.0.113.7"), OURS, US) == {}
    assert plan_status(NONE, shop(), OURS, US) == {}


def test_one_that_is_not_ours_loses_what_we_wrote() -> None:
    """Also an address that is none of ours any more: whose class it is may have changed while nobody of us ran."""
    for present in ("203.0.113.7", "203.0.113.1"):
        assert plan_status(NONE, shop(present), OURS, US) == {KEY: []}


def test_one_that_is_not_ours_keeps_what_another_controller_wrote() -> None:
    for present in ("198.51.100.1", "203.0.113.7"):
        assert plan_status(NONE, shop(present, by=OTHER), OURS, US) == {}


def test_an_ingress_that_is_gone_is_not_written() -> None:
    assert plan_status(frozenset({KEY}), {}, OURS, US) == {}
