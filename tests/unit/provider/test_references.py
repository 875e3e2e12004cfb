"""The key manager is asked about a TLS reference when it is new, at its own address, and never about another's."""

from dataclasses import replace

import pytest
from tests.unit.provider.test_plan import desired_service, run
from tests.unit.provider.twin import CloudTwin

from vrata.base.errors import InvalidInput
from vrata.provider.model import Desired
from vrata.provider.references import new_references, reference_path

ID = "11111111-1111-4111-8111-111111111111"
REFERENCE = f"https://keys.example:9311/v1/containers/{ID}"


def secured(reference: str = REFERENCE) -> Desired:
    plain = desired_service()
    return replace(plain, listeners=tuple(replace(one, tls_ref=reference) for one in plain.listeners))


def test_a_reference_is_new_until_a_listener_has_it() -> None:
    twin = CloudTwin()
    assert new_references(secured(), None) == [REFERENCE]
    run(twin, secured())
    balancer = twin.world(secured()).balancer
    assert balancer
    assert new_references(secured(), balancer) == []
    assert new_references(secured(REFERENCE + "/"), balancer) == [REFERENCE + "/"]
    assert new_references(secured("x"), replace(balancer, provisioning_status="PENDING_UPDATE")) == []
    assert new_references(desired_service(), None) == []


@pytest.mark.parametrize("kind", ["containers", "secrets"])
@pytest.mark.parametrize("before", ["https://keys.example:9311/v1", "http://cloud.example/key-manager/v1"])
def test_a_reference_is_asked_at_the_catalogs_address(before: str, kind: str) -> None:
    assert reference_path(f"{before}/{kind}/{ID}", "field") == f"/v1/{kind}/{ID}"


@pytest.mark.parametrize("wrong", [f"https://keys.example/v1/orders/{ID}", "https://keys.example/v1/secrets/1", ID])
def test_what_is_no_address_of_the_key_manager_is_told(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="container-store=external"):
        reference_path(wrong, "field")
