"""Certificates of containers and PKCS #12 files become what HAProxy reads; sealed secrets open only where they belong."""

import itertools
import time
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


AROUND = ["Bag Attributes\n    localKeyID: 01\nsubject=CN = shop\n", "\ufeff", "Certificate:\n    Data:\n", "\r\n\r\n  ",
          "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"]  # fmt: skip


@pytest.mark.parametrize("before", AROUND)
def test_text_around_pem_is_no_part_of_it(leaf: Identity, middle: Identity, authority: Identity, before: str) -> None:
    """RFC 7468, section 2: `openssl pkcs12` and text dumps write something before each block."""
    texts = (leaf.cert_pem, leaf.key_pem, middle.cert_pem, revocation_list(authority, middle))
    certificate, key, chain, crl = (f"{before}{text}\nmore\n".encode() for text in texts)
    assert certificates.bundle(certificate, key, None, chain) == leaf.cert_pem + middle.cert_pem + leaf.key_pem
    assert certificates.bundle(certificate + chain, key, None, None) == leaf.cert_pem + middle.cert_pem + leaf.key_pem
    assert certificates.authorities(chain + certificate) == middle.cert_pem + leaf.cert_pem
    assert certificates.revocations(crl) in crl.decode()


def test_labels_that_openssl_writes_are_read(leaf: Identity) -> None:
    for label in ("X509 CERTIFICATE", "TRUSTED CERTIFICATE"):
        text = leaf.cert_pem.replace("CERTIFICATE", label)
        assert certificates.bundle(text.encode(), leaf.key_pem.encode(), None, None) == leaf.cert_pem + leaf.key_pem


def test_a_chain_is_put_in_order(leaf: Identity, middle: Identity, authority: Identity) -> None:
    """In reversed order it was refused, with words that blamed the key."""
    for given in itertools.permutations((leaf, middle, authority)):
        text = "".join(one.cert_pem for one in given).encode()
        pem = certificates.bundle(text, leaf.key_pem.encode(), None, None)
        assert pem == leaf.cert_pem + middle.cert_pem + authority.cert_pem + leaf.key_pem


@pytest.mark.parametrize("block", [b"-----BEGIN A-----", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN " * 3])
def test_a_megabyte_of_beginnings_takes_no_time(leaf: Identity, block: bytes) -> None:
    payload = block * (1_000_000 // len(block))
    began = time.process_time()
    with pytest.raises(InvalidInput):
        certificates.bundle(payload, leaf.key_pem.encode(), None, None)
    assert time.process_time() - began < 1.0


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
