"""Certificates of containers and PKCS #12 files become what HAProxy reads; sealed secrets open only where they belong."""

from collections.abc import Callable

import pytest
from tests.support.pki import Identity, issue, revocation_list

from vrata.base.errors import InvalidInput, VrataError
from vrata.cloud.keymanager.vault import Vault, new_key
from vrata.haproxy import certificates


@pytest.fixture(scope="module")
def authority() -> Identity:
    return issue("root", authority=True)


@pytest.fixture(scope="module")
def middle(authority: Identity) -> Identity:
    return issue("middle", by=authority, authority=True)


@pytest.fixture(scope="module")
def leaf(middle: Identity) -> Identity:
    return issue("shop", "shop.example", "www.shop.example", by=middle)


def test_parts_become_leaf_chain_and_key_in_this_order(leaf: Identity, middle: Identity) -> None:
    pem = certificates.bundle(leaf.cert_pem.encode(), leaf.key_pem.encode(), None, middle.cert_pem.encode())
    assert pem == leaf.cert_pem + middle.cert_pem + leaf.key_pem
    assert certificates.host_names(pem) == ("shop.example", "www.shop.example")


def test_a_key_under_a_passphrase_is_opened(leaf: Identity) -> None:
    locked = leaf.private_pem(b"open sesame").encode()
    assert certificates.bundle(leaf.cert_pem.encode(), locked, b"open sesame", None).endswith(leaf.key_pem)
    with pytest.raises(InvalidInput, match="private_key"):
        certificates.bundle(leaf.cert_pem.encode(), locked, b"wrong", None)


def test_a_pkcs12_file_is_the_same_bundle(leaf: Identity, middle: Identity) -> None:
    pem = certificates.bundle_of_pkcs12(leaf.pkcs12(middle))
    assert pem == leaf.cert_pem + middle.cert_pem + leaf.key_pem


def test_a_key_of_another_certificate_is_refused(leaf: Identity, middle: Identity) -> None:
    with pytest.raises(InvalidInput, match="private_key"):
        certificates.bundle(leaf.cert_pem.encode(), middle.key_pem.encode(), None, None)


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_junk_is_refused_by_name_and_never_shown(leaf: Identity, junk: bytes) -> None:
    attempts: tuple[Callable[[], str], ...] = (
        lambda: certificates.bundle(junk, leaf.key_pem.encode(), None, None),
        lambda: certificates.bundle(leaf.cert_pem.encode(), junk, None, None),
        lambda: certificates.bundle_of_pkcs12(junk),
        lambda: certificates.authorities(junk),
        lambda: certificates.revocations(junk),
    )
    for refused in attempts:
        with pytest.raises(InvalidInput) as error:
            refused()
        assert "AAAA" not in str(error.value)


def test_revocation_lists_and_authorities_are_kept(authority: Identity, middle: Identity) -> None:
    crl = revocation_list(authority, middle)
    assert certificates.revocations(crl.encode()) == crl
    both = authority.cert_pem + middle.cert_pem
    assert certificates.authorities(both.encode()) == both


def test_a_sealed_secret_opens_under_old_and_new_keys_and_only_in_its_own_row() -> None:
    old, new = new_key(), new_key()
    sealed = Vault([old]).seal("one", b"payload")
    assert b"payload" not in sealed
    assert Vault([new, old]).open("one", sealed) == b"payload"
    with pytest.raises(VrataError, match="another"):
        Vault([old]).open("two", sealed)
    with pytest.raises(VrataError, match="no key opens"):
        Vault([new]).open("one", sealed)
    with pytest.raises(VrataError, match="secret-key-file"):
        Vault([]).seal("one", b"payload")
