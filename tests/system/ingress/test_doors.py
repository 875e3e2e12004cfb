"""Who may enter: by a password, an address, or the word of another service. Nothing of it reloads HAProxy."""

import base64
import hashlib
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Echoes, Json, Site, ingress

pytestmark = pytest.mark.usefixtures("no_reload")


def serve(site: Site, host: str, annotations: dict[str, str]) -> None:
    """An Ingress named as its host, with Service `web`."""
    site.apply(ingress(host, (host, "Prefix", "/", "web"), annotations=annotations))


def until_status(site: Site, host: str, path: str, status: int) -> None:
    wait_for(lambda: site.ask(host, path)[0] == status, f"{host}{path} answers {status}")


def users(name: str, **passwords: str) -> Json:
    """A Secret as `htpasswd -s` writes it."""
    digests = {
        user: base64.b64encode(hashlib.sha1(text.encode()).digest()).decode() for user, text in passwords.items()
    }
    lines = "".join(f"{user}:{{SHA}}{digest}\n" for user, digest in digests.items())
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"auth": lines}}


def test_who_has_a_password_may_enter(site: Site) -> None:
    asked = {"auth-type": "basic", "auth-secret": "doors", "auth-realm": "Members only"}
    serve(site, "door.example", asked)
    until_status(site, "door.example", "/", 503)  # no such Secret yet

    def status(password: str) -> int:
        credentials = base64.b64encode(f"ann:{password}".encode()).decode()
        return site.request("GET", "door.example", "/", {"Authorization": f"Basic {credentials}"})[0]

    site.apply(users("doors", ann="one"))
    until_status(site, "door.example", "/", 401)
    assert (
        site.request("GET", "door.example", "/")[1]["www-authenticate"] == 'Basic realm="Members only", charset="UTF-8"'
    )
    assert [status(password) for password in ("one", "two", "")] == [200, 401, 401]
    site.apply(users("doors", ann="two"))
    wait_for(lambda: status("one") == 401, "another password counts")
    assert status("two") == 200
    site.cluster.kubectl("delete", "secret", "doors")
    wait_for(lambda: status("two") == 503, "nobody may enter any more")


def test_a_line_that_cannot_be_verified_keeps_out_its_own_user_only(site: Site) -> None:
    serve(site, "lines.example", {"auth-type": "basic", "auth-secret": "lines"})
    made = users("lines", ann="one", cid="three")
    first, last = made["stringData"]["auth"].splitlines()
    made["stringData"]["auth"] = f"{first}\nno colon\nbob:{{SSHA}}c2VjcmV0\n; note: x\ndan:\n{last}\n"
    site.apply(made)

    def status(user: str, password: str) -> int:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        return site.request("GET", "lines.example", "/", {"Authorization": f"Basic {credentials}"})[0]

    wait_for(lambda: status("ann", "one") == 200, "the first one comes in")
    assert [status("cid", "three"), status("bob", "secret"), status("dan", ""), status("ann", "x")] == [
        200,
        401,
        401,
        401,
    ]
    wait_for(lambda: "line 3 (user 'bob'): this user cannot come in" in site.events(), "an event names the line")
    assert "c2VjcmV0" not in site.events()


INSIDE, OUTSIDE = "127.0.0.0/8", "10.0.0.0/8"  # clients of these tests are of the former
ANN = {"Authorization": f"Basic {base64.b64encode(b'ann:one').decode()}"}


def test_an_address_or_a_password_is_enough_where_any_satisfies(site: Site) -> None:
    site.apply(users("satisfied", ann="one"))
    guards = {"auth-type": "basic", "auth-secret": "satisfied"}
    cases = {
        "any-in": {"satisfy": "any", "whitelist-source-range": INSIDE},
        "any-out": {"satisfy": "any", "whitelist-source-range": OUTSIDE},
        "any-list": {"satisfy": "any"},
        "any-denied": {"satisfy": "any", "whitelist-source-range": INSIDE, "denylist-source-range": INSIDE},
        "all-in": {"satisfy": "all", "whitelist-source-range": INSIDE},
        "all-out": {"whitelist-source-range": OUTSIDE},
    }
    for name, words in cases.items():
        serve(site, f"{name}.example", guards | words)

    def found(name: str) -> tuple[int, int]:
        without, given = (site.request("GET", f"{name}.example", "/", headers)[0] for headers in ({}, ANN))
        return without, given

    expected = {
        "any-in": (200, 200),
        "any-out": (401, 200),
        "any-list": (401, 200),
        "any-denied": (403, 403),
        "all-in": (401, 200),
        "all-out": (403, 403),
    }
    wait_for(lambda: {name: found(name) for name in cases} == expected, "everybody is let in or kept out")
    site.cluster.kubectl("delete", "secret", "satisfied")
    wait_for(lambda: found("any-out") == (503, 503), "who can not be asked is not let in")
    assert found("any-in") == (200, 200)


def test_who_was_let_in_stays_in_while_the_controller_is_away(site: Site) -> None:
    serve(site, "stay.example", {"auth-type": "basic", "auth-secret": "stays-in"})
    site.apply(users("stays-in", ann="one"))
    credentials = base64.b64encode(b"ann:one").decode()

    def status() -> int:
        return site.request("GET", "stay.example", "/", {"Authorization": f"Basic {credentials}"})[0]

    wait_for(lambda: status() == 200, "ann may enter")
    for _ in range(20):  # each thread of HAProxy asks for itself
        assert status() == 200
    assert site.process
    site.process.kill()
    site.process.wait()
    try:
        assert {status() for _ in range(10)} == {200}
    finally:
        site.start()
    wait_for(lambda: status() == 200, "and afterwards")


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """An address of this machine that is not loopback, for nobody may be asked there."""
    made = "192.0.2.77"
    subprocess.run(["ip", "address", "add", f"{made}/32", "dev", "lo"], check=True)
    try:
        yield made
    finally:
        guarded = [f"{name}.example" for name in ("auth", "unauth", "forbidden", "mute", "loop", "either")]
        site.cluster.kubectl("delete", "ingress", "--ignore-not-found", *guarded)
        until_status(site, "mute.example", "/", 404)
        subprocess.run(["ip", "address", "del", f"{made}/32", "dev", "lo"], check=True)


def test_an_external_service_says_who_may_enter(site: Site, echoes: Echoes, address: str) -> None:
    auth = f"http://{address}:{echoes.port('auth')}"
    serve(site, "auth.example", {"auth-url": f"{auth}/status/200", "auth-response-headers": "X-Pod"})
    site.until("auth.example", "/", "one")
    serve(site, "unauth.example", {"auth-url": f"{auth}/status/401", "auth-signin": "https://login.example/start"})
    until_status(site, "unauth.example", "/a?b=c", 302)
    location = site.request("GET", "unauth.example", "/a?b=c")[1]["location"]
    assert location == "https://login.example/start?rd=http%3A%2F%2Funauth.example%2Fa%3Fb%3Dc"
    serve(site, "forbidden.example", {"auth-url": f"{auth}/status/403"})
    until_status(site, "forbidden.example", "/", 403)
    serve(site, "mute.example", {"auth-url": f"http://{address}:1/"})
    until_status(site, "mute.example", "/", 503)
    serve(site, "loop.example", {"auth-url": "http://127.0.0.1:8081/healthz"})
    wait_for(lambda: "auth-url: 'http://127.0.0.1:8081/healthz' is not" in site.events(), "loopback is refused")
    assert site.ask("loop.example", "/")[0] == 404


def test_who_is_let_in_without_the_services_word_says_nothing_in_its_name(
    site: Site, echoes: Echoes, address: str
) -> None:
    words = {
        "satisfy": "any",
        "auth-url": f"http://{address}:{echoes.port('auth')}/status/401",
        "auth-response-headers": "X-User",
        "auth-type": "basic",
        "auth-secret": "either",
    }
    site.apply(users("either", ann="one"))
    serve(site, "either.example", words)
    until_status(site, "either.example", "/", 401)
    forged = {"X-User": "admin"}
    wait_for(lambda: site.request("GET", "either.example", "/", forged | ANN)[0] == 200, "a password is enough")
    assert "X-User" not in site.request("GET", "either.example", "/", forged | ANN)[2]["headers"]
    serve(site, "either.example", words | {"whitelist-source-range": INSIDE})
    until_status(site, "either.example", "/", 200)
    assert "X-User" not in site.request("GET", "either.example", "/", forged)[2]["headers"]
