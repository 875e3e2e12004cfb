"""Nobody gets requests for another namespace's host, whatever he writes (HAProxy itself; the laws are in test_owners.py)."""

import time
from collections.abc import Iterator

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Echoes, Json, Site, endpoint, ingress, service


def of(namespace: str, made: Json) -> Json:
    made["metadata"]["namespace"] = namespace
    return made


@pytest.fixture(autouse=True)
def thieves(site: Site, echoes: Echoes) -> Iterator[None]:
    """Another namespace with a Service of the same name."""
    site.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "thieves"}},
        of("thieves", service("web")),
        of("thieves", endpoint("web", "thief", echoes.port("thief"))),
    )
    yield
    site.cluster.kubectl("delete", "ingress", "--all", "-n", "thieves")


def theirs(name: str, *paths: tuple[str, str, str, str], **words: str) -> Json:
    annotations = {key.replace("_", "-"): text for key, text in words.items() if key != "default"}
    return of("thieves", ingress(name, *paths, annotations=annotations, default=words.get("default", "")))


def test_a_younger_ingress_of_another_namespace_takes_no_name_beside_a_host(site: Site) -> None:
    words = {"whitelist-source-range": "192.0.2.1", "server-alias": "alias.example", "from-to-www-redirect": "true"}
    site.apply(ingress("beside", ("beside.example", "Prefix", "/", "web"), annotations=words))
    site.until("alias.example", "/", "403")
    site.until("www.beside.example", "/", "308")
    site.apply(
        theirs("named", *((host, "Prefix", "/", "web") for host in ("alias.example", "www.beside.example", "t.test")))
    )
    site.until("t.test", "/", "thief")
    assert site.pod("alias.example", "/") == "403"
    assert site.pod("www.beside.example", "/") == "308"


def test_a_younger_ingress_of_another_namespace_takes_no_path_of_a_host(site: Site) -> None:
    guarded = {"whitelist-source-range": "192.0.2.1"}
    site.apply(ingress("mine", ("mine.example", "Prefix", "/shop", "web")))
    site.apply(ingress("guard", ("mine.example", "Prefix", "/admin", "web"), annotations=guarded))
    site.until("mine.example", "/shop", "one")
    site.until("mine.example", "/admin", "403")
    site.apply(
        theirs("longer", ("mine.example", "Prefix", "/.well-known/acme-challenge", "web")),
        theirs("pattern", ("mine.example", "Prefix", "/.*", "web"), use_regex="true"),
        theirs("wildcard", ("*.example", "Prefix", "/", "web")),
        theirs("every", ("", "Prefix", "/", "web"), default="web"),
        theirs("alias", ("thief.example", "Prefix", "/", "web"), server_alias="mine.example"),
    )
    site.until("thief.example", "/", "thief")
    site.until("unknown.example", "/", "thief")
    site.until("elsewhere.test", "/", "thief")
    for path, expected in (
        ("/.well-known/acme-challenge/x", "404"),
        ("/", "404"),
        ("/shop/x", "one"),
        ("/admin", "403"),
    ):
        assert site.pod("mine.example", path) == expected, path
        assert site.pod("MINE.example:80", path) == expected, path
    wait_for(lambda: site.events().count("HostConflict") >= 3, "events say so")
    told = site.vrata("check", "--cluster")
    assert "the host mine.example belongs to the namespace of Ingress default/" in told
    assert "problem      Ingress thieves/longer" in site.vrata(
        "explain", "http://mine.example/.well-known/acme-challenge/x"
    )
    site.cluster.kubectl("delete", "ingress", "mine", "guard")
    site.until("mine.example", "/.well-known/acme-challenge/x", "thief")


def test_alternatives_of_a_pattern_are_for_its_own_host_only(site: Site) -> None:
    """A thief's alternatives are in a list of his own host."""
    words = {"use-regex": "true"}
    site.apply(ingress("mine", ("mine.example", "Prefix", "/shop", "web"), annotations=words))
    site.until("mine.example", "/shop", "one")
    site.apply(theirs("thief", ("thief.example", "Prefix", "/a-very-long-one|/.*|.*", "web"), use_regex="true"))
    site.until("thief.example", "/x", "thief")
    for path, expected in (("/shop", "one"), ("/", "404"), ("/a-very-long-one", "404")):
        assert site.pod("mine.example", path) == expected


def test_what_no_rule_of_a_host_is_for_goes_to_rules_of_the_same_namespace(site: Site) -> None:
    site.apply(
        ingress("host", ("a.own.test", "Prefix", "/a", "web"), ("b.own.test", "Prefix", "/.*b", "web")),
        ingress("wildcard", ("*.own.test", "Prefix", "/w", "shop")),
        ingress("every", ("", "Prefix", "/e", "shop")),
    )
    site.until("a.own.test", "/a", "one")
    for host in ("a.own.test", "b.own.test", "c.own.test"):
        site.until(host, "/w", "two")
        site.until(host, "/e", "two")
        assert site.pod(host, "/nothing") == "404"
    site.apply(
        theirs("wildcards", ("*.theirs.test", "Prefix", "/", "web")),
        theirs("host", ("a.theirs.test", "Prefix", "/a", "web")),
    )
    site.until("a.theirs.test", "/w", "thief")
    site.apply(ingress("ours", ("d.theirs.test", "Prefix", "/d", "web")))
    site.until("d.theirs.test", "/d", "one")
    site.until("d.theirs.test", "/e", "two")  # past the wildcard, which is somebody else's
    assert site.pod("d.theirs.test", "/w") == "404"


def test_a_default_backend_answers_misses_of_its_own_hosts(site: Site) -> None:
    site.apply(ingress("own", ("own.test", "Prefix", "/a", "web"), default="shop"))
    site.until("own.test", "/b", "two")
    site.apply(ingress("patterns", ("own.test", "Prefix", "/[xy]", "web"), annotations={"use-regex": "true"}))
    site.until("own.test", "/x", "one")
    assert site.pod("own.test", "/b") == "two"


def test_an_edit_of_an_old_ingress_takes_no_host_not_even_when_the_controller_starts_anew(site: Site) -> None:
    site.apply(theirs("old", ("old.test", "Prefix", "/", "web")))
    site.until("old.test", "/", "thief")
    wait_a_second_of_age()
    site.apply(ingress("mine", ("mine.test", "Prefix", "/", "web"), ("", "Prefix", "/", "web")))
    site.until("mine.test", "/", "one")
    grown = theirs("old", ("old.test", "Prefix", "/", "web"), ("mine.test", "Prefix", "/x", "web"), default="web")
    site.apply(grown)
    wait_for(lambda: "HostConflict" in site.events(), "an event says so")
    kept = ("get", "configmap", "front-hosts", "--ignore-not-found", "-o", "jsonpath={.data.hosts}")
    wait_for(lambda: site.cluster.kubectl(*kept) == '{"mine.test":"default"}', "what would be lost is written down")
    for _ in range(2):
        assert site.pod("mine.test", "/x") == "one"
        assert site.pod("unknown.test", "/") == "one"
        assert site.process
        site.process.terminate()
        site.process.wait()
        site.start()
        site.until("old.test", "/", "thief")
    site.cluster.kubectl("delete", "ingress", "mine")
    site.until("mine.test", "/x", "thief")
    wait_for(lambda: site.cluster.kubectl(*kept) == "{}", "it is forgotten when it is over")


def wait_a_second_of_age() -> None:
    """Ingresses have an age in whole seconds; of two of one second the name decides."""
    now = int(time.time())
    wait_for(lambda: int(time.time()) > now, "another second")


@pytest.fixture
def sharing(site: Site) -> Iterator[None]:
    """The controller, started anew with shared hosts, and afterwards as it was."""
    assert site.process
    before = site.options
    for options in ((*before, "--shared-hosts"), before):
        site.process.terminate()
        site.process.wait()
        site.options = options
        site.start()
        if options != before:
            yield


@pytest.mark.usefixtures("sharing")
def test_hosts_are_shared_where_the_operator_says_so(site: Site) -> None:
    site.apply(ingress("mine", ("mine.test", "Prefix", "/shop", "web")))
    site.until("mine.test", "/shop", "one")
    site.apply(
        theirs("longer", ("mine.test", "Prefix", "/shop/theirs", "web")), theirs("every", ("", "Prefix", "/", "web"))
    )
    site.until("mine.test", "/shop/theirs", "thief")
    site.until("mine.test", "/", "thief")
    assert site.pod("mine.test", "/shop") == "one"
