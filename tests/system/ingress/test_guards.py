"""Whoever is kept out of a path does not get in by writing it in another way."""

import socket

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Site, ingress

NOBODY = {"whitelist-source-range": "192.0.2.1"}


def guard(site: Site, host: str, path: str, **annotations: str) -> None:
    """One path is for nobody, all others are open; both lead to the same pods."""
    words = {name.replace("_", "-"): value for name, value in annotations.items()}
    site.apply(
        ingress(f"{host}-open", (host, "Prefix", "/", "web"), (host, "Prefix", "/public", "web"), annotations=words),
        ingress(f"{host}-guarded", (host, "Prefix", path, "web"), annotations=NOBODY),
    )
    site.until(host, "/admin", "403")
    site.until(host, "/public", "one")
    wait_for(lambda: status(site, "//admin", host) in {400, 403}, "its routes are careful")


def status(site: Site, target: str, host: str) -> int:
    """Of a GET, sent as it is."""
    with socket.create_connection(("127.0.0.1", site.http), 5) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


OTHER_WAYS = [
    *(
        "//admin",
        "/./admin",
        "/public/../admin",
        "/public//../admin/x",
        "/%61dmin",
        "/%2e/admin",
        "/public/%2e%2E/admin",
    ),
    *("/public%2f..%2fadmin", "/x/..//admin/", "/../admin", "/public/../../admin", "/%2fadmin", "/admin%2fx"),
]


@pytest.mark.parametrize("patterns", [False, True])
def test_a_path_written_in_another_way_does_not_pass_a_guard(site: Site, *, patterns: bool) -> None:
    host = f"ways-{patterns}.example".lower()
    guard(site, host, "/admin", **({"use_regex": "true"} if patterns else {}))
    for target in OTHER_WAYS:
        assert status(site, target, host) in {400, 403}, target  # a pattern may be for it as it is
    for target in ("/public//x", "/public/a%20b%2Fc", "/x//y/../z", "/public/%61?next=//admin", "/", "/public/."):
        assert status(site, target, host) == 200, target


@pytest.mark.parametrize("end", ["/public", "/", "/public/x:80", "/public?"])
def test_a_host_with_a_path_in_it_does_not_pass_a_guard(site: Site, end: str) -> None:
    guard(site, "slash.example", "/admin")
    assert status(site, "/admin", f"slash.example{end}") in {400, 404}
    assert status(site, "/admin", f"SLASH.example{end}") in {400, 404}


@pytest.mark.parametrize("host", ["named.example:80", "NAMED.Example", "named.example:"])
def test_a_name_written_in_another_way_is_guarded_all_the_same(site: Site, host: str) -> None:
    guard(site, "named.example", "/admin")
    assert status(site, "/admin", host) == 403
    assert status(site, "http://named.example/admin", "named.example") == 403
    assert status(site, "http://other.example/admin", "named.example") in {400, 404}


def test_nobody_is_careful_where_nothing_is_guarded(site: Site) -> None:
    site.apply(ingress("careless", ("careless.example", "Prefix", "/", "web")))
    site.until("careless.example", "//a/../b", "one")
    guard(site, "relaxed.example", "/admin")
    site.cluster.kubectl("delete", "ingress", "relaxed.example-guarded")
    wait_for(lambda: site.rows("routes-http").get("relaxed.example/", "/").count("/") == 0, "its rows are plain again")
    assert status(site, "//admin", "relaxed.example") == 200
