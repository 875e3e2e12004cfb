"""Certificates of containers and PKCS #12 files become what HAProxy reads; sealed secrets open only where they belong."""

import itertools
import subprocess
import time
from collections.abc import Callable
from functools import cache

import hypothesis
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st
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
          "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
          "Subject: -----BEGIN CERTIFICATE----- x\n", "# what is after -----BEGIN PRIVATE KEY-----\n",
          "-----BEGIN CERTIFICATE----- goes here:\n", "between -----BEGIN X509 CRL----- and -----END X509 CRL-----\n",
          "not -----BEGIN CERTIFICATE----- nor -----BEGIN PRIVATE KEY-----\r"]  # fmt: skip


@pytest.mark.parametrize("before", AROUND)
def test_text_around_pem_is_no_part_of_it(leaf: Identity, middle: Identity, authority: Identity, before: str) -> None:
    """RFC 7468, section 2: `openssl pkcs12` and text dumps write something before each block."""
    texts = (leaf.cert_pem, leaf.key_pem, middle.cert_pem, revocation_list(authority, middle))
    certificate, key, chain, crl = (f"{before}{text}\nmore\n".encode() for text in texts)
    assert certificates.bundle(certificate, key, None, chain) == leaf.cert_pem + middle.cert_pem + leaf.key_pem
    assert certificates.bundle(certificate + chain, key, None, None) == leaf.cert_pem + middle.cert_pem + leaf.key_pem
    assert certificates.authorities(chain + certificate) == middle.cert_pem + leaf.cert_pem
    assert certificates.revocations(crl) in crl.decode()


def trusted(identity: Identity) -> str:
    argv = ["openssl", "x509", "-trustout", "-addtrust", "serverAuth", "-setalias", "mine"]
    return subprocess.run(argv, input=identity.cert_pem, capture_output=True, text=True, check=True).stdout


def test_labels_that_openssl_writes_are_read(leaf: Identity, middle: Identity) -> None:
    plain = leaf.cert_pem + middle.cert_pem
    old = plain.replace("CERTIFICATE", "X509 CERTIFICATE")
    for text in (old, plain.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), trusted(leaf) + trusted(middle)):
        assert certificates.bundle(text.encode(), leaf.key_pem.encode(), None, None) == plain + leaf.key_pem
        assert certificates.authorities(text.encode()) == plain


def test_what_was_given_twice_is_sent_once(leaf: Identity, middle: Identity) -> None:
    key, expected = leaf.key_pem.encode(), leaf.cert_pem + middle.cert_pem + leaf.key_pem
    for given in itertools.product((leaf, middle), repeat=4):
        if {leaf, middle} == set(given):
            text = "".join(one.cert_pem for one in given).encode()
            assert certificates.bundle(text, key, None, None) == expected
            assert certificates.bundle(leaf.cert_pem.encode(), key, None, text) == expected
            assert len(certificates.authorities(text)) == len(leaf.cert_pem + middle.cert_pem)
    assert certificates.bundle_of_pkcs12(leaf.pkcs12(leaf, middle, middle)) == expected
    alone = issue("alone.example")
    assert certificates.bundle(alone.cert_pem.encode() * 2, alone.key_pem.encode(), None, None).count("BEGIN") == 2


def test_pem_is_read_however_its_lines_end(leaf: Identity, middle: Identity) -> None:
    """As editors, templates and command lines leave it."""
    expected = leaf.cert_pem + middle.cert_pem + leaf.key_pem
    for end in ("\r\n", "\r", " \n", "\n    ", " "):
        chain, key = ("".join(texts).replace("\n", end) for texts in ([leaf.cert_pem, middle.cert_pem], [leaf.key_pem]))
        for glued in (chain, chain.replace(f"-----{end}-----BEGIN", "----------BEGIN")):
            assert certificates.bundle(glued.encode(), key.encode(), None, None) == expected


@pytest.mark.parametrize("cut", [1, 40, 200, -30])
@pytest.mark.parametrize("part", ["certificate", "intermediates", "private_key"])
def test_a_block_that_was_cut_off_is_told_wherever_it_is(leaf: Identity, middle: Identity, part: str, cut: int) -> None:
    """A chain that is not whole is not left out in silence: half of the clients would refuse what is sent."""
    given = {"certificate": leaf.cert_pem, "intermediates": middle.cert_pem, "private_key": leaf.key_pem}
    begin = given[part].partition("\n")[0]
    piece = begin + given[part].removeprefix(begin)[:cut]
    for text in (piece, given[part] + piece, piece + given[part], given[part] + piece + "text\n" + given[part]):
        broken = {name: value.encode() for name, value in (given | {part: text}).items()}
        with pytest.raises(InvalidInput, match=f"{part}: '{begin}'.*no END line"):
            certificates.bundle(broken["certificate"], broken["private_key"], None, broken["intermediates"])


def test_a_chain_is_put_in_order(leaf: Identity, middle: Identity, authority: Identity) -> None:
    """In reversed order it was refused, with words that blamed the key."""
    for given in itertools.permutations((leaf, middle, authority)):
        text = "".join(one.cert_pem for one in given).encode()
        pem = certificates.bundle(text, leaf.key_pem.encode(), None, None)
        assert pem == leaf.cert_pem + middle.cert_pem + authority.cert_pem + leaf.key_pem


@cache
def family() -> dict[str, Identity]:
    """Two roots; an intermediate with an old key, of another kind, and a new one, by either root; one that is unrelated."""
    root, other = issue("root", authority=True), issue("other root", authority=True)
    middle = issue("middle", by=root, authority=True)
    key = rsa.generate_private_key(65537, 2048)
    return {
        "leaf": issue("shop", "shop.example", by=middle),
        "middle": middle,
        "cross-signed": issue("middle", by=other, authority=True, key=middle.key),
        "old key": issue("middle", by=root, authority=True),
        "old key of another kind": issue("middle", by=root, authority=True, key=key),
        "without identifiers": issue("middle", by=root, authority=True, identifiers=False),
        "root": root,
        "other root": other,
        "unrelated": issue("stranger"),
        "of the same name": issue("shop", "shop.example", by=middle),
    }


def issued_by(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


@hypothesis.given(st.lists(st.sampled_from(sorted(family())), max_size=14))
def test_every_certificate_is_sent_once_and_the_first_ones_are_a_path(names: list[str]) -> None:
    """As after a CA's change of keys, or with cross-signed intermediates: names alone say little about who issued what."""
    members = family()
    given_ones = [members[name].certificate for name in ("leaf", *names)]
    leaf, key = members["leaf"], members["leaf"].key_pem.encode()
    for rotated in range(min(len(given_ones), 4)):
        shuffled = given_ones[rotated:] + given_ones[:rotated]
        text = b"".join(one.public_bytes(Encoding.PEM) for one in shuffled)
        others = [members[name] for name in names]
        for pem in (certificates.bundle(text, key, None, None), certificates.bundle_of_pkcs12(leaf.pkcs12(*others))):
            sent = x509.load_pem_x509_certificates(pem.encode())
            assert sent[0] == leaf.certificate
            assert len(sent) == len(set(sent))
            assert set(sent) == set(given_ones)
            path = next((at for at in range(1, len(sent)) if not issued_by(sent[at - 1], sent[at])), len(sent))
            assert not [one for one in sent[path:] if issued_by(sent[path - 1], one)], names
            roots = {members[name].certificate for name in ("root", "other root")}
            whole = {"middle", "root"} <= {*names} or {"cross-signed", "other root"} <= {*names}
            assert not whole or sent[path - 1] in roots, names


def test_a_chain_that_is_made_to_cost_time_does_not(leaf: Identity) -> None:
    alike = [issue("shop", identifiers=False) for _ in range(certificates.MOST_CERTIFICATES - 1)]
    text = leaf.cert_pem + "".join(one.cert_pem for one in alike)
    began = time.process_time()
    assert certificates.bundle(text.encode(), leaf.key_pem.encode(), None, None) == text + leaf.key_pem
    assert time.process_time() - began < 1.0
    with pytest.raises(InvalidInput, match="at most 200"):
        certificates.bundle((text + issue("one more").cert_pem).encode(), leaf.key_pem.encode(), None, None)


BEGINNINGS = [b"-----BEGIN A-----", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN " * 3, b"x -----BEGIN A-----",
              b"-----BEGIN A----- x\n", b"-----BEGIN A----- ", b"\n" * 9 + b"-----BEGIN A----- x"]  # fmt: skip


@pytest.mark.parametrize("block", BEGINNINGS)
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
