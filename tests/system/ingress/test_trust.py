"""Clients that must show a certificate, and pods that must; Secrets decide, and change live."""

from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from tests.support.kubernetes import wait_for
from tests.support.pki import Identity, issue
from tests.system.ingress.pods import Pod, encrypted_pod
from tests.system.ingress.site import Json, Site, endpoint, ingress, secret, service

OURS, OTHERS = issue("ours", authority=True), issue("others", authority=True)
CLIENT, STRANGER, ALONE = issue("client", by=OURS), issue("stranger", by=OTHERS), issue("alone")
PODS = issue("pods", "pods.internal", by=OURS)


def trusted(name: str, authority: Identity, shown: Identity | None = None) -> Json:
    """A Secret with an authority, and perhaps a certificate."""
    data = {"ca.crt": authority.cert_pem}
    if shown:
        data |= {"tls.crt": shown.cert_pem, "tls.key": shown.key_pem}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def guarded(site: Site, host: str, authority: str, **annotations: str) -> None:
    """An Ingress whose clients show certificates."""
    words = {"auth-tls-secret": f"default/{authority}"}
    words |= {f"auth-tls-{name.replace('_', '-')}": value for name, value in annotations.items()}
    name = host.partition(".")[0]
    site.apply(
        secret(name, issue(host, host)),
        ingress(name, (host, "Prefix", "/", "web"), tls={name: [host]}, annotations=words),
    )


def status(site: Site, host: str, shown: Identity | None = None, *, name: str = "") -> int:
    return site.encrypted(host, shown=shown, name=name)[0]


def test_only_who_shows_a_certificate_of_the_authority_comes_in(site: Site) -> None:
    worker = site.worker()
    site.apply(trusted("ours", OURS))
    guarded(site, "mutual.trust.example", "ours", pass_certificate_to_upstream="true")
    wait_for(lambda: status(site, "mutual.trust.example", CLIENT) == 200, "the client comes in")

    forged = "ssl-client-verify: SUCCESS\r\nssl-client-subject-dn: CN=admin\r\nssl-client-cert: x\r\n"
    _, answer = site.encrypted("mutual.trust.example", shown=CLIENT, headers=forged)
    assert answer["headers"]["Ssl-Client-Verify"] == ["SUCCESS"]
    assert answer["headers"]["Ssl-Client-Subject-Dn"] == ["CN=client"]
    assert answer["headers"]["Ssl-Client-Issuer-Dn"] == ["CN=ours"]
    assert unquote(answer["headers"]["Ssl-Client-Cert"][0]).split() == CLIENT.cert_pem.split()

    for nobody in (None, STRANGER, ALONE):
        assert status(site, "mutual.trust.example", nobody) == 400
    assert status(site, "mutual.trust.example", CLIENT, name="another.example") == 421
    for written in ("mutual.trust.example.", "Mutual.Trust.Example:443", "mutual.trust.example.:443"):
        assert status(site, written, CLIENT, name="mutual.trust.example") == 200
    assert site.pod("mutual.trust.example") == "308"
    assert site.worker() == worker


def test_a_connection_for_one_host_is_not_for_another_ones_authority(site: Site) -> None:
    site.apply(trusted("ours", OURS), trusted("others", OTHERS))
    guarded(site, "first.trust.example", "ours")
    guarded(site, "second.trust.example", "others")
    wait_for(lambda: status(site, "first.trust.example", CLIENT) == 200, "the one's client comes in")
    wait_for(lambda: status(site, "second.trust.example", STRANGER) == 200, "the other's client comes in")
    assert status(site, "first.trust.example", STRANGER, name="second.trust.example") == 421


def test_another_authority_counts_at_once(site: Site) -> None:
    worker = site.worker()
    site.apply(trusted("moving-ca", OURS))
    guarded(site, "moving.trust.example", "moving-ca")
    wait_for(lambda: status(site, "moving.trust.example", CLIENT) == 200, "the client comes in")
    site.apply(trusted("moving-ca", OTHERS))
    wait_for(lambda: status(site, "moving.trust.example", STRANGER) == 200, "the new authority's client comes in")
    assert status(site, "moving.trust.example", CLIENT) == 400
    site.cluster.kubectl("delete", "secret", "moving-ca")
    wait_for(lambda: status(site, "moving.trust.example", STRANGER) != 200, "without an authority nobody comes in")
    wait_for(lambda: "auth-tls-secret: no Secret 'default/moving-ca'" in site.events(), "an event says why")
    assert site.worker() == worker


def test_a_certificate_may_be_left_to_the_client(site: Site) -> None:
    site.apply(trusted("ours", OURS))
    guarded(site, "optional.trust.example", "ours", verify_client="optional")
    wait_for(lambda: status(site, "optional.trust.example", CLIENT) == 200, "the client comes in")
    _, answer = site.encrypted("optional.trust.example")
    assert answer["headers"]["Ssl-Client-Verify"] == ["NONE"]
    assert status(site, "optional.trust.example", STRANGER) == 400
    guarded(site, "unchecked.trust.example", "ours", verify_client="optional_no_ca")
    wait_for(lambda: status(site, "unchecked.trust.example", STRANGER) == 200, "whoever it is comes in")
    _, answer = site.encrypted("unchecked.trust.example", shown=STRANGER)
    assert answer["headers"]["Ssl-Client-Verify"][0].startswith("FAILED")
    assert answer["headers"]["Ssl-Client-Subject-Dn"] == ["CN=stranger"]


def test_a_certificate_must_be_of_a_name_that_matches(site: Site) -> None:
    site.apply(trusted("ours", OURS))
    guarded(site, "named.trust.example", "ours", match_cn="CN=(client|[a-z]+-admin)")
    wait_for(lambda: status(site, "named.trust.example", CLIENT) == 200, "the client comes in")
    assert status(site, "named.trust.example", issue("shop-admin", by=OURS)) == 200
    for name in ("clients", "client2", "my client", "client\0admin", "CN=client", "client\n", "Client", "client,CN=x"):
        assert status(site, "named.trust.example", issue(name, by=OURS)) == 403, name
    assert status(site, "named.trust.example", STRANGER) == 400
    guarded(site, "maybe.trust.example", "ours", match_cn="CN=.*", verify_client="optional")
    wait_for(lambda: status(site, "maybe.trust.example", CLIENT) == 200, "the client comes in")
    assert status(site, "maybe.trust.example") == 403
    guarded(site, "unread.trust.example", "ours", match_cn="client")
    wait_for(lambda: "auth-tls-match-cn: 'client' is not valid, the Ingress is left out" in site.events(), "it is told")


def test_who_lacks_a_certificate_is_sent_to_a_page(site: Site) -> None:
    site.apply(trusted("ours", OURS))
    guarded(site, "paged.trust.example", "ours", error_page="https://help.example/$host", match_cn="CN=client")
    wait_for(lambda: status(site, "paged.trust.example", CLIENT) == 200, "the client comes in")
    for nobody in (None, STRANGER):
        found, headers, _ = site.request_encrypted("paged.trust.example", shown=nobody)
        assert (found, headers["location"]) == (302, "https://help.example/paged.trust.example")
    assert status(site, "paged.trust.example", issue("other", by=OURS)) == 403
    assert status(site, "paged.trust.example", CLIENT, name="another.example") == 421


def test_a_host_has_one_authority(site: Site) -> None:
    site.apply(trusted("ours", OURS), trusted("others", OTHERS))
    guarded(site, "shared.trust.example", "ours")
    wait_for(lambda: status(site, "shared.trust.example", CLIENT) == 200, "the client comes in")
    words = {"auth-tls-secret": "default/others"}
    site.apply(ingress("shared-young", ("shared.trust.example", "Prefix", "/young", "shop"), annotations=words))
    wait_for(lambda: "shared.trust.example show certificates that default/ours signs" in site.events(), "it is told")
    assert site.encrypted("shared.trust.example", "/young", shown=CLIENT)[1]["pod"] == "one"


@pytest.fixture
def pod() -> Iterator[Pod]:
    with encrypted_pod(PODS, OURS) as made:
        yield made


def test_tls_to_pods_is_of_the_versions_and_ciphers_asked_for(site: Site, pod: Pod) -> None:
    worker = site.worker()
    words = {"backend-protocol": "HTTPS", "proxy-ssl-secret": "default/spoken"}

    def ask_for(**more: str) -> None:
        asked = words | {f"proxy-ssl-{name}": text for name, text in more.items()}
        site.apply(ingress("spoken", ("spoken.trust.example", "Prefix", "/", "spoken"), annotations=asked))

    def spoken() -> tuple[str, str]:
        status, body = site.ask("spoken.trust.example", "/")
        return (body["version"], body["cipher"]) if status == 200 else (str(status), "")

    site.apply(trusted("spoken", OURS, CLIENT), service("spoken"), endpoint("spoken", "pod", pod.port))
    cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"
    ask_for()
    wait_for(lambda: spoken()[0] == "TLSv1.3", "the newest that both have")
    ask_for(protocols="TLSv1.1 TLSv1.2", ciphers=f"!AES128:{cipher}")
    wait_for(lambda: spoken() == ("TLSv1.2", cipher), "the one that is asked for")
    ask_for(protocols="TLSv1 TLSv1.1")
    wait_for(lambda: spoken()[0] == "503", "the pod has neither")
    ask_for(protocols="TLSv1.3", ciphers=cipher)
    wait_for(lambda: spoken()[0] == "TLSv1.3", "what is named of 1.2 is not of 1.3")
    assert site.worker() == worker


def test_pods_must_be_who_they_say(site: Site, pod: Pod) -> None:
    worker = site.worker()
    words = {"backend-protocol": "HTTPS", "proxy-ssl-secret": "default/upstream", "proxy-ssl-verify": "on"}

    def asked(name: str) -> Json:
        path = ("pods.trust.example", "Prefix", "/", "encrypted")
        return ingress("encrypted", path, annotations=words | {"proxy-ssl-name": name, "proxy-ssl-server-name": "on"})

    site.apply(service("encrypted"), endpoint("encrypted", "pod", pod.port), asked("pods.internal"))
    wait_for(lambda: "proxy-ssl-secret: no Secret 'default/upstream'" in site.events(), "an event asks for the Secret")
    assert site.pod("pods.trust.example") == "503"
    site.apply(trusted("upstream", OURS, CLIENT))
    site.until("pods.trust.example", "/", "encrypted")
    assert pod.names[-1] == "pods.internal"
    site.apply(trusted("upstream", OTHERS, CLIENT))
    site.until("pods.trust.example", "/", "503")
    site.apply(trusted("upstream", OURS, STRANGER))
    wait_for(lambda: site.pod("pods.trust.example") != "encrypted", "the pod does not take a stranger's certificate")
    site.apply(trusted("upstream", OURS, CLIENT))
    site.until("pods.trust.example", "/", "encrypted")
    site.apply(asked("others.internal"))
    site.until("pods.trust.example", "/", "503")
    assert site.worker() == worker


@pytest.mark.parametrize("words", [{}, {"proxy-connect-timeout": "30"}, {"affinity": "cookie"}])
def test_a_pod_may_take_its_time_for_the_handshake(site: Site, words: dict[str, str]) -> None:
    """Java's first ones take a second and more; HAProxy counts them as connecting."""
    with encrypted_pod(PODS, handshake_s=1.2) as slow:
        site.apply(
            service("late"),
            endpoint("late", "late", slow.port),
            ingress("late", ("late.example", "Prefix", "/", "late"), annotations={"backend-protocol": "HTTPS"} | words),
        )
        wait_for(lambda: site.ask("late.example", "/")[0] != 404, "it is routed")
        assert site.ask("late.example", "/")[0] == 200
        site.cluster.kubectl("delete", "ingress", "late")
