"""The webhook's certificate: whom it is for, when it is renewed, whom the API server is to trust meanwhile."""

import base64
import ssl
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from vrata.base import clock
from vrata.base.errors import InvalidInput
from vrata.ingress.webhook_certificate import (
    LIFETIME,
    RENEWED_BEFORE,
    Pair,
    is_due,
    issue,
    plan_trust,
    read_pair,
    service_names,
)
from vrata.kube.objects import ObjectMeta, Secret

NAMES = ["webhook.ns.svc"]


def secret(pair: Pair | None, **other: str) -> Secret:
    parts = {"ca.crt": pair.authorities, "tls.crt": pair.certificate, "tls.key": pair.key} if pair else {}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in (parts | other).items()}
    return Secret(ObjectMeta(name="webhook"), data)


def configuration(*bundles: str | None) -> dict[str, Any]:
    service = {"name": "webhook", "namespace": "ns"}
    return {
        "webhooks": [
            {"name": f"w{n}", "clientConfig": {"service": service, **({"caBundle": one} if one else {})}}
            for n, one in enumerate(bundles)
        ]
    }


def verifies(pair: Pair, authorities: str) -> bool:
    found = x509.load_pem_x509_certificate(pair.certificate.encode())
    for one in x509.load_pem_x509_certificates(authorities.encode()):
        try:
            found.verify_directly_issued_by(one)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def test_a_pair_is_read_as_it_was_written_and_trusted_by_its_authority() -> None:
    pair = issue(NAMES)
    assert read_pair(secret(pair)) == pair
    assert verifies(pair, pair.authorities)
    ssl.create_default_context(cadata=pair.authorities)


@pytest.mark.parametrize("broken", [{"tls.crt": "none"}, {"ca.crt": "none"}])
def test_a_secret_without_a_whole_pair_has_none(broken: dict[str, str]) -> None:
    assert read_pair(secret(None)) is None
    assert read_pair(secret(issue(NAMES), **broken)) is None


def test_it_is_renewed_before_it_ends_and_for_another_name() -> None:
    pair, now, moment = issue(NAMES), clock.now(), timedelta(minutes=1)
    last = now + LIFETIME - RENEWED_BEFORE
    assert not is_due(pair, NAMES, now)
    assert not is_due(pair, NAMES, last - moment)
    assert is_due(pair, NAMES, last + moment)
    assert is_due(pair, [*NAMES, "other.ns.svc"], now)


def test_who_serves_the_certificate_before_is_still_trusted_and_no_older_one() -> None:
    first = issue(NAMES)
    second = issue(NAMES, first.authorities)
    third = issue(NAMES, second.authorities)
    assert verifies(first, second.authorities)
    assert verifies(second, third.authorities)
    assert not verifies(first, third.authorities)


def test_only_what_is_not_trusted_yet_is_written() -> None:
    bundle = base64.b64encode(b"new").decode()
    steps = plan_trust(configuration(None, bundle, "b2xk"), "new")
    assert [(one["op"], one["path"]) for one in steps] == [
        ("test", "/webhooks/0/name"),
        ("add", "/webhooks/0/clientConfig/caBundle"),
        ("test", "/webhooks/2/name"),
        ("add", "/webhooks/2/clientConfig/caBundle"),
    ]
    assert plan_trust(configuration(bundle), "new") == []


def test_the_name_is_the_services() -> None:
    assert service_names(configuration(None, None)) == NAMES
    with pytest.raises(InvalidInput, match="name a Service"):
        service_names({"webhooks": [{"name": "far", "clientConfig": {"url": "https://far.example"}}]})
