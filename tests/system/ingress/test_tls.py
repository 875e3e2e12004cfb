"""HTTPS: the certificate of each name, its rotation, what is said of a bad one; all without a reload."""

import socket
import ssl
import subprocess
from functools import partial

from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.kubernetes import wait_for
from tests.support.pki import Identity, issue
from tests.system.ingress.site import Site, ingress, secret


def weak(name: str) -> Identity:
    """A certificate with a key that is too short for OpenSSL's default level."""
    return issue(name, name, key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point


def events(site: Site) -> str:
    return site.cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")


def test_each_name_has_its_certificate_and_unknown_names_the_default_one(site: Site) -> None:
    worker, reloads = site.worker(), site.reloads()
    site.apply(
        secret("one", issue("one", "one.tls.example")),
        secret("wild", issue("wild", "*.tls.example")),
        ingress(
            "tls",
            ("one.tls.example", "Prefix", "/", "web"),
            ("*.tls.example", "Prefix", "/", "shop"),
            tls={"one": ["one.tls.example"], "wild": ["*.tls.example"]},
        ),
    )
    wait_for(lambda: site.certificate("one.tls.example") == "one", "the name is served with its own")
    wait_for(lambda: site.certificate("other.tls.example") == "wild", "the others with that of the wildcard")
    assert site.certificate("nobody.example") == "no certificate for this name"
    assert site.encrypted("one.tls.example")[1]["pod"] == "one"
    assert site.encrypted("other.tls.example")[1]["pod"] == "two"
    assert (site.worker(), site.reloads()) == (worker, reloads)


def test_a_request_over_http_is_sent_to_https_with_its_path(site: Site) -> None:
    site.apply(
        secret("redirected", issue("redirected", "redirected.example")),
        ingress("redirected", ("redirected.example", "Prefix", "/", "web"), tls={"redirected": ["redirected.example"]}),
    )
    site.until("redirected.example", "/", "308")
    for name in ("", ":80", ".", ".:8080"):
        _, headers, _ = site.request("GET", f"redirected.example{name}", "/a/b?c=d")
        assert headers["location"] == "https://redirected.example/a/b?c=d"
    wait_for(lambda: site.encrypted("redirected.example")[0] == 200, "HTTPS answers")
    assert "https" in str(site.encrypted("redirected.example")[1]["headers"]).lower()


def test_a_rotated_certificate_is_served_at_once_and_no_connection_is_missed(site: Site) -> None:
    site.apply(
        secret("turning", issue("before", "turning.example")),
        ingress("turning", ("turning.example", "Prefix", "/", "web"), tls={"turning": ["turning.example"]}),
    )
    wait_for(lambda: site.certificate("turning.example") == "before", "the first is served")
    reloads = site.reloads()
    site.apply(secret("turning", issue("after", "turning.example")))
    seen = set()

    def rotated() -> bool:
        seen.add(site.certificate("turning.example"))
        return "after" in seen

    wait_for(rotated, "the second is served")
    assert seen <= {"before", "after"}, "never the default one in between"
    site.cluster.kubectl("delete", "ingress", "turning")
    wait_for(lambda: site.certificate("turning.example") == "no certificate for this name", "nobody wants it any more")
    assert site.reloads() == reloads


def test_a_missing_secret_and_a_wrong_key_are_told_and_mended_later(site: Site) -> None:
    site.apply(
        secret("wrong", issue("wrong", "wrong.example"), key=issue("another").key_pem),
        ingress("missing-secret", ("late.example", "Prefix", "/", "web"), tls={"late": ["late.example"]}),
        ingress("wrong-key", ("wrong.example", "Prefix", "/", "web"), tls={"wrong": ["wrong.example"]}),
    )
    said = "spec.tls[0].secretName: no Secret 'default/late'; create it, then it is served"
    wait_for(lambda: said in events(site), "an event names the missing Secret")
    wait_for(lambda: "give the key that belongs to the certificate" in events(site), "an event says what is wrong")
    site.apply(secret("late", issue("late", "late.example")), secret("wrong", issue("right", "wrong.example")))
    wait_for(lambda: site.certificate("late.example") == "late", "it is served when it is there")
    wait_for(lambda: site.certificate("wrong.example") == "right", "and the other when it is right")


def sent(site: Site, name: str) -> int:
    """How many certificates a handshake brings."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.https}", "-servername", name, "-showcerts"]
    return subprocess.run(argv, input="", capture_output=True, text=True, check=False).stdout.count("BEGIN CERTIFICATE")


def test_a_chain_with_things_twice_is_sent_once_and_one_that_was_cut_off_is_told(site: Site) -> None:
    authority = issue("root", authority=True)
    middle = issue("middle", by=authority, authority=True)
    leaf, other = (issue(name, f"{name}.tls.example", by=middle) for name in ("twice", "whole"))
    cut, whole = secret("cut", leaf), secret("whole", other)
    text = leaf.cert_pem * 2 + middle.cert_pem
    cut["stringData"]["tls.crt"] = text
    names = {name: [f"{name}.tls.example"] for name in ("cut", "whole")}
    names["cut"] = ["twice.tls.example"]
    paths = tuple((host, "Prefix", "/", "web") for hosts in names.values() for host in hosts)
    site.apply(cut, whole, ingress("cut", *paths, tls=names))
    wait_for(lambda: site.certificate("twice.tls.example") == "twice", "it is served")
    assert sent(site, "twice.tls.example") == 2
    cut["stringData"]["tls.crt"] = text[:-60]
    site.apply(cut)
    told = "Secret 'default/cut', tls.crt: '-----BEGIN CERTIFICATE-----' is not valid; store the whole PEM"
    wait_for(lambda: told in events(site), "an event names Secret, key and remedy")
    assert site.certificate("whole.tls.example") == "whole"
    assert site.encrypted("whole.tls.example")[1]["pod"] == "one"


def test_a_certificate_that_nobody_can_serve_is_told_and_keeps_nobody_waiting(site: Site) -> None:
    site.apply(
        secret("weak", weak("weak.example")),
        secret("beside", issue("beside", "beside.example")),
        ingress("weak", ("weak.example", "Prefix", "/", "web"), tls={"weak": ["weak.example"]}),
        ingress("beside", ("beside.example", "Prefix", "/", "web"), tls={"beside": ["beside.example"]}),
    )
    wait_for(lambda: site.certificate("beside.example") == "beside", "the other one is served")
    wait_for(lambda: "use a certificate that TLS 1.2 takes" in events(site), "an event says so")
    assert site.certificate("weak.example") == "no certificate for this name"


def test_a_controller_that_starts_again_forgets_certificates_nobody_wants_any_more(site: Site) -> None:
    site.apply(
        secret("left", issue("left", "left.example")),
        secret("stays", issue("stays", "stays.example")),
        ingress("left", ("left.example", "Prefix", "/", "web"), tls={"left": ["left.example"]}),
        ingress("stays", ("stays.example", "Prefix", "/", "web"), tls={"stays": ["stays.example"]}),
    )
    wait_for(lambda: {site.certificate(f"{name}.example") for name in ("left", "stays")} == {"left", "stays"}, "served")
    assert site.process
    worker = site.worker()
    site.process.kill()
    site.process.wait()
    site.cluster.kubectl("delete", "ingress", "left")
    site.start()
    wait_for(lambda: site.certificate("left.example") == "no certificate for this name", "it is forgotten")
    assert site.certificate("stays.example") == "stays"
    assert site.worker() == worker


def test_clients_verify_a_chain_with_a_rotated_and_a_cross_signed_issuer(site: Site) -> None:
    """Issuers of one name: with an old key, with the one that signed, and with that one by another root."""
    root, other = issue("root", authority=True), issue("other root", authority=True)
    middle = issue("middle", by=root, authority=True)
    crossed = issue("middle", by=other, authority=True, key=middle.key)
    old = issue("middle", by=root, authority=True)
    leaf = issue("chain", "chain.example", by=middle)
    # A client of OpenSSL takes the first issuer that fits: the order given decides which root it has to have.
    for chain, trusted in (((leaf, old, middle, crossed), root), ((old, crossed, leaf, middle), other)):
        made = secret("chain", leaf)
        made["stringData"]["tls.crt"] = "".join(one.cert_pem for one in chain)
        site.apply(made, ingress("chain", ("chain.example", "Prefix", "/", "web"), tls={"chain": ["chain.example"]}))
        context = ssl.create_default_context(cadata=trusted.cert_pem)
        wait_for(partial(verifies, site, context), "clients verify it")


def verifies(site: Site, context: ssl.SSLContext) -> bool:
    """Whether a client that knows the root takes what is sent."""
    try:
        with (
            socket.create_connection(("127.0.0.1", site.https), 60) as raw,
            context.wrap_socket(raw, server_hostname="chain.example"),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return False
