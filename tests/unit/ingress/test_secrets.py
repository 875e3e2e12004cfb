"""Whatever somebody puts into a Secret, reading it ends with something to serve or something to say."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pki import issue

from vrata.ingress.model import SecretKey
from vrata.ingress.secrets import RSA_BITS_MAX, found_in
from vrata.ingress.trust import AUTHORITY, PEER
from vrata.ingress.users import FILE, MAP
from vrata.kube.objects import ObjectMeta, Secret

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about what is allowed no longer

GOOD = issue("shop.example")
CERTIFICATE = x509.load_pem_x509_certificate(GOOD.cert_pem.encode()).public_bytes(Encoding.DER)
KEY = load_pem_private_key(GOOD.key_pem.encode(), None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
CURVE = bytes.fromhex("06082a8648ce3d030107")  # P-256, as every key and certificate here names it
FIELDS = ("tls.crt", "tls.key", "ca.crt", "auth")
USES = ("", AUTHORITY, PEER, FILE, MAP)


def read(data: dict[str, str]) -> None:
    """As each use has it."""
    for use in USES:
        found = found_in(
            SecretKey(f"team/one{use}"), Secret(metadata=ObjectMeta(name="one", namespace="team"), data=data)
        )
        assert not isinstance(found, tuple) or (found[0] == "InvalidSecret" and "team/one" in found[1])


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("part", ["tls.crt", "tls.key"])
def test_a_key_of_a_kind_that_nobody_knows(part: str) -> None:
    unknown = {"tls.crt": CERTIFICATE, "tls.key": KEY}
    assert CURVE in unknown[part]
    unknown[part] = unknown[part].replace(CURVE, CURVE[:-1] + b"\x63")
    read({name: encoded(value) for name, value in unknown.items()})


def test_a_key_of_another_certificate_is_told_by_the_name_it_has_in_the_secret() -> None:
    data = {"tls.crt": encoded(CERTIFICATE), "tls.key": encoded(issue("other.example").key_pem.encode())}
    found = found_in(SecretKey("team/one"), Secret(metadata=ObjectMeta(name="one", namespace="team"), data=data))
    remedy = "give the key that belongs to the certificate"
    assert found == ("InvalidSecret", f"Secret 'team/one', tls.key: '(secret)' is not valid; {remedy}")


@pytest.mark.parametrize("use", ["", PEER])
def test_a_key_that_keeps_everybodys_threads_busy_is_refused(use: str) -> None:
    large = issue("large.example", key=rsa.generate_private_key(65537, RSA_BITS_MAX + 64))
    parts = {"tls.crt": large.cert_pem, "tls.key": large.key_pem}
    data = {name: encoded(text.encode()) for name, text in parts.items()}
    found = found_in(SecretKey(f"team/one{use}"), Secret(metadata=ObjectMeta(name="one", namespace="team"), data=data))
    assert isinstance(found, tuple)
    assert "at most 4096 bits" in found[1]


@given(st.sampled_from([CERTIFICATE, KEY]), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3))
def test_bytes_that_were_changed(good: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(good)
    for at, value in changes:
        changed[at % len(changed)] = value
    read({"tls.crt": encoded(bytes(changed)), "tls.key": encoded(KEY), "ca.crt": encoded(bytes(changed))})
    read({"tls.crt": encoded(CERTIFICATE), "tls.key": encoded(bytes(changed)), "auth": encoded(bytes(changed))})


@given(st.dictionaries(st.sampled_from(FIELDS), st.one_of(st.text(max_size=99), st.binary(max_size=99).map(encoded))))
def test_any_text_and_any_bytes(data: dict[str, str]) -> None:
    read(data)
