"""Every certificate that is made here passes strict verification (RFC 5280), as Python 3.13's clients ask by default."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.pki import issue

from vrata.haproxy.certificates import self_signed
from vrata.ingress.webhook_certificate import issue as issue_pair
from vrata.sandbox.apiserver import pki

ROOT = Path(__file__).parents[2]


def _sandbox(folder: Path) -> tuple[str, str]:
    made = pki.prepare(folder, ["a.example"])
    return made.certificate_file.read_text() + made.key_file.read_text(), made.ca_file.read_text()


def _self_signed(_: Path) -> tuple[str, str]:
    pem = self_signed("a.example")
    return pem, pem


def _by_an_authority(_: Path) -> tuple[str, str]:
    authority = issue("root", authority=True)
    leaf = issue("a", "a.example", by=authority)
    return leaf.cert_pem + leaf.key_pem, authority.cert_pem


def _by_one_in_between(_: Path) -> tuple[str, str]:
    authority = issue("root", authority=True)
    middle = issue("middle", by=authority, authority=True)
    leaf = issue("a", "a.example", by=middle)
    return leaf.cert_pem + middle.cert_pem + leaf.key_pem, authority.cert_pem


def _of_the_webhook(_: Path) -> tuple[str, str]:
    pair = issue_pair(["a.example"])
    return pair.certificate + pair.key, pair.authorities


def _of_the_webhook_renewed(_: Path) -> tuple[str, str]:
    before = issue_pair(["a.example"])
    after = issue_pair(["a.example"], before.authorities)
    return before.certificate + before.key, after.authorities


@pytest.mark.parametrize(
    "make", [_of_the_webhook, _of_the_webhook_renewed, _sandbox, _self_signed, _by_an_authority, _by_one_in_between]
)
def test_a_strict_client_takes_it(tmp_path: Path, make: Callable[[Path], tuple[str, str]]) -> None:
    own, trusted = make(tmp_path / "made")
    (tmp_path / "own.pem").write_text(own)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "own.pem")
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    _shake_hands(client, server, "a.example")


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
    for _ in range(10):
        for side in tuple(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    assert not sides


def test_certificates_are_made_nowhere_else() -> None:
    """Or they have a case above."""
    folders = [ROOT / name for name in ("src", "tests", "bench", "tools")]
    word = "CertificateBuilder" + "("
    found = {path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py") if word in path.read_text()}
    made = ("src/vrata/haproxy/certificates.py", "src/vrata/base/pki.py", "tests/support/pki.py")
    assert found == {Path(path) for path in made}
