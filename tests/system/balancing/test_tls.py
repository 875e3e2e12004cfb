"""TLS ended by a listener and TLS spoken to members, with real handshakes through a real pair."""

import asyncio
import ssl

import msgspec
import pytest
from tests.support.everything import TLS_HEADERS, authority, certificate, leaf
from tests.support.members import Answer, Client, context
from tests.support.pki import revocation_list
from tests.system.balancing.ground import MUTUAL, PROXY_TLS, TLS, Ground, eventually, pool, secure, web

from vrata.base.wire import ListenerTls, PoolTls

pytestmark = pytest.mark.asyncio(loop_scope="session")
DEFAULT = ListenerTls(default_certificate=certificate("www.example.org"))


async def get(client: Client) -> Answer:
    return await asyncio.to_thread(client.get)


async def refused(client: Client) -> str:
    """How a connection fails; in TLS 1.3 a refusal of the client's certificate comes after the handshake."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await get(client)
    return str(caught.value)


async def name_of(client: Client) -> str:
    """The common name of the certificate that is shown."""

    def look() -> str:
        trusting = context(None, trust=authority())
        with Client(client.machine, client.address, client.port, trusting, client.sni).connect() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            found = connection.getpeercert()
            assert found
            return str(found["subject"])

    return await asyncio.to_thread(look)


async def test_each_name_gets_its_certificate_and_strangers_the_default_one(pair: Ground) -> None:
    tls = msgspec.structs.replace(
        DEFAULT,
        sni_certificates=(certificate("shop.example.org"), certificate("blog.example.org")),
        hsts_max_age=300,
        hsts_include_subdomains=True,
        hsts_preload=True,
    )
    await pair.serve(secure(443, tls, insert_headers=("X-Forwarded-Proto", "X-Forwarded-For")), pools=(pool(),))
    for sni, shown in (("shop.example.org",) * 2, ("blog.example.org",) * 2, ("other.example", "www.example.org")):
        assert shown in await name_of(pair.client(443, sni=sni))
    answer = await get(pair.client(443, tls=context(None)))
    assert answer.headers["strict-transport-security"] == "max-age=300; includeSubDomains; preload"
    assert answer.seen["x-forwarded-proto"] == "https"
    assert answer.seen["x-forwarded-for"] == "10.10.0.50"
    assert answer.tls["version"] == "TLSv1.3"


async def test_http2_is_chosen_by_default_and_not_where_it_is_not_offered(pair: Ground) -> None:
    only_old = msgspec.structs.replace(DEFAULT, alpn_protocols=("http/1.1",))
    await pair.serve(secure(443, DEFAULT), secure(444, only_old), pools=(pool(),))
    offers = context(None)
    offers.set_alpn_protocols(["h2", "http/1.1"])

    def chosen(port: int) -> str | None:
        with pair.client(port, tls=offers).connect() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            return connection.selected_alpn_protocol()

    assert await asyncio.to_thread(chosen, 443) == "h2"
    assert await asyncio.to_thread(chosen, 444) == "http/1.1"


async def test_a_version_or_cipher_that_is_not_offered_is_refused(pair: Ground) -> None:
    strict = msgspec.structs.replace(DEFAULT, versions=("TLSv1.2",), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    gap = msgspec.structs.replace(DEFAULT, versions=("TLSv1.1", "TLSv1.3"))
    await pair.serve(secure(443, strict), secure(444, gap), pools=(pool(),))
    modern = context(None)
    modern.minimum_version = ssl.TLSVersion.TLSv1_3
    assert "alert protocol version" in (await refused(pair.client(443, tls=modern))).replace("_", " ").lower()
    other = context(None)
    other.maximum_version = ssl.TLSVersion.TLSv1_2
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "handshake failure" in (await refused(pair.client(443, tls=other))).replace("_", " ").lower()
    between = context(None)
    between.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await get(pair.client(443, tls=between))).tls["cipher"] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert await refused(pair.client(444, tls=between))
    assert (await get(pair.client(444, tls=modern))).status == 200


async def test_clients_must_show_a_certificate_that_is_trusted_and_not_revoked(pair: Ground) -> None:
    tls = msgspec.structs.replace(
        DEFAULT,
        client_authentication="MANDATORY",
        ca_pem=authority().cert_pem,
        crl_pem=revocation_list(authority(), leaf("revoked")),
    )
    optional = msgspec.structs.replace(tls, client_authentication="OPTIONAL")
    headers = TLS_HEADERS
    await pair.serve(
        secure(443, tls, insert_headers=headers), secure(444, optional, insert_headers=headers), pools=(pool(),)
    )
    seen = (await get(pair.client(443, tls=context(leaf("alice"))))).seen
    assert seen["x-ssl-client-verify"] == "0"
    assert seen["x-ssl-client-has-cert"] == "1"
    assert "alice" in seen["x-ssl-client-cn"]
    assert "authority" in seen["x-ssl-issuer"]
    assert len(seen["x-ssl-client-sha1"].strip('"')) == 40
    for bad in (None, leaf("mallory", "another authority"), leaf("revoked")):
        assert await refused(pair.client(443, tls=context(bad)))
    assert (await get(pair.client(444, tls=context(None)))).seen["x-ssl-client-has-cert"] == "0"
    assert await refused(pair.client(444, tls=context(leaf("revoked"))))


async def test_a_renewed_certificate_is_shown_without_a_reload(pair: Ground) -> None:
    await pair.serve(secure(443, DEFAULT), pools=(pool(),))
    worker = await pair.worker()
    renewed = certificate("renewed.example.org", "secret-www.example.org")
    await pair.serve(secure(443, msgspec.structs.replace(DEFAULT, default_certificate=renewed)), pools=(pool(),))
    assert "renewed.example.org" in await name_of(pair.client(443))
    assert await pair.worker() == worker
    directory = pair.lab.instance_dir(pair.lab.active()) / "tls"
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    await pair.serve(web(80), pools=(pool(),))
    assert list(directory.iterdir()) == []


async def test_members_are_verified_and_get_the_balancers_certificate(pair: Ground) -> None:
    tls = PoolTls(certificate=certificate("balancer.example.org"), ca_pem=authority().cert_pem)
    stranger = msgspec.structs.replace(tls, ca_pem=authority("another authority").cert_pem)
    revoked = msgspec.structs.replace(tls, crl_pem=revocation_list(authority(), leaf("m1.example.org")))
    anonymous = PoolTls(versions=("TLSv1.2",))
    await pair.serve(
        *(web(port, name) for port, name in ((81, "good"), (82, "stranger"), (83, "revoked"), (84, "anonymous"))),
        web(85, "proxied"),
        pools=(
            pool(id="good", port=MUTUAL, tls=tls),
            pool(id="stranger", port=MUTUAL, tls=stranger),
            pool(id="revoked", port=MUTUAL, tls=revoked),
            pool(id="anonymous", port=TLS, tls=anonymous),
            pool(id="proxied", port=PROXY_TLS, tls=anonymous, protocol="PROXYV2"),
        ),
    )
    seen = (await pair.get(81)).seen
    assert "balancer.example.org" in seen["client"]
    assert (await pair.get(82)).status == 503
    assert (await pair.get(83)).status == 503
    assert (await pair.get(84)).seen["version"] == "TLSv1.2"
    assert (await pair.get(85)).seen["proxy"] == "v2 10.10.0.50"


async def test_a_pair_of_wrong_certificate_and_key_is_named_and_the_old_one_goes_on(pair: Ground) -> None:
    await pair.serve(secure(443, DEFAULT), pools=(pool(),))
    wrong = msgspec.structs.replace(
        certificate("www.example.org"),
        pem=leaf("www.example.org").cert_pem + leaf("shop.example.org").key_pem,
        ref="secret-wrong",
    )
    bad = secure(443, msgspec.structs.replace(DEFAULT, default_certificate=wrong))
    await pair.refused("secret-wrong", bad, pools=(pool(),))
    answer = await eventually(pair.client(443, tls=context(None)).get, lambda a: a.status == 200, "it goes on")
    assert answer.status == 200
