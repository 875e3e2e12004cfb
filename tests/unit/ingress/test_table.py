"""What is kept by what changed is what would be worked out from everything."""

import sys
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.claims import read_ingress
from vrata.ingress.model import (
    NO_POLICY,
    NOT_HERE,
    REDIRECT,
    TO_WILDCARD,
    BackendKey,
    Policy,
    Route,
    RowKey,
    Scheme,
    SecretKey,
    Slot,
)
from vrata.ingress.places import place
from vrata.ingress.policy import careful
from vrata.ingress.rows import ANY
from vrata.ingress.table import MOST_READINGS, NOTHING, Host, Table
from vrata.kube.objects import Ingress

WEB, SHOP = Route(BackendKey("default/web:80")), Route(BackendKey("default/shop:80"))


def table_of(*ingresses: Ingress, shared_hosts: bool = False) -> Table:
    table = Table(shared_hosts=shared_hosts)
    for ingress in ingresses:
        table.put(ingress.metadata.key, read_ingress(ingress))
    return table


def rows(table: Table) -> dict[str, dict[RowKey, Route]]:
    """Of every host, those that lead somewhere."""
    table.settle()
    return {
        host: {row: route for row, route in served.rows.items() if not route.miss}
        for host, served in table.hosts.items()
    }


def test_the_older_ingress_keeps_a_path_and_the_younger_is_told() -> None:
    old = make_ingress("z-old", ("h.example", "Prefix", "/", "web"), created="2026-01-01T00:00:00Z")
    young = make_ingress("a-young", ("h.example", "Prefix", "/", "shop"), created="2026-02-01T00:00:00Z")
    table = table_of(young, old)
    assert rows(table) == {"h.example": {"h.example/": WEB}}
    (problem,) = table.hosts["h.example"].problems
    assert problem.ingress == "default/a-young"
    assert "default/z-old" in problem.message
    table.put("default/z-old", None)
    assert rows(table) == {"h.example": {"h.example/": SHOP}}
    assert not table.hosts["h.example"].problems


def test_a_conflict_without_any_other_change_is_looked_at() -> None:
    table = table_of(make_ingress("a", ("h.example", "Prefix", "/", "web")))
    table.settle()
    young = make_ingress("b", ("h.example", "Prefix", "/", "shop"), created="2026-02-01T00:00:00Z")
    table.put("default/b", read_ingress(young))
    assert table.settle().hosts["h.example"].problems
    assert rows(table) == {"h.example": {"h.example/": WEB}}


def test_a_rule_for_everything_leaves_the_default_backend_nothing() -> None:
    table = table_of(make_ingress("a", default="shop"))
    assert rows(table) == {ANY: {f"{ANY}/": SHOP}}
    table.put("default/b", read_ingress(make_ingress("b", ("", "Prefix", "/", "web"))))
    assert rows(table) == {ANY: {f"{ANY}/": WEB}}


def test_of_two_default_backends_the_older_one_serves_and_the_other_is_told() -> None:
    table = table_of(
        make_ingress("a", default="shop", created="2026-02-01T00:00:00Z"),
        make_ingress("b", default="web", created="2026-01-01T00:00:00Z"),
    )
    assert rows(table) == {ANY: {f"{ANY}/": WEB}}
    (problem,) = table.hosts[ANY].problems
    assert (problem.ingress, problem.reason) == ("default/a", "DefaultConflict")


def test_what_is_wrong_with_a_backend_is_told_to_whoever_names_it() -> None:
    table = table_of(make_ingress("a", ("h.example", "Prefix", "/")), make_ingress("b", default="web"))
    told = table.told(WEB.backend, "ServiceNotFound", "service.name: no Service")
    assert sorted(problem.message for problem in told) == [
        "spec.defaultBackend.service.name: no Service",
        "spec.rules[0].http.paths[0].backend.service.name: no Service",
    ]


def test_a_hosts_certificate_is_the_older_ingresss_and_the_other_is_told() -> None:
    old = make_ingress("old", tls=(("good", "h.example"),), created="2026-01-01T00:00:00Z")
    young = make_ingress("young", tls=(("bad", "h.example"), ("mine", "g.example")), created="2026-02-01T00:00:00Z")
    table = table_of(young, old)
    change = table.settle()
    assert {host: served.certificate for host, served in table.hosts.items()} == {
        "h.example": "default/good",
        "g.example": "default/mine",
    }
    assert change.secrets == table.secrets == {"default/good", "default/mine"}
    (problem,) = table.hosts["h.example"].problems
    assert (problem.ingress, problem.reason) == ("default/young", "CertificateConflict")
    table.put("default/old", None)
    assert table.settle().secrets == {"default/good", "default/bad"}
    assert table.hosts_of(SecretKey("default/bad")) == ("h.example",)
    assert table.hosts_of(SecretKey("default/good")) == ()


NGINX = "nginx.ingress.kubernetes.io/"
names = st.sampled_from(["a", "b", "c"])
paths = st.tuples(
    st.sampled_from(["h.example", "g.example", ""]),
    st.sampled_from(["Exact", "Prefix"]),
    st.sampled_from(["/", "/a", "/a/b"]),
    st.sampled_from(["web", "shop"]),
)
secrets = st.lists(st.tuples(st.sampled_from(["one", "two"]), st.sampled_from(["h.example", "g.example"])), max_size=2)
asked = st.tuples(
    st.lists(paths, max_size=3),
    st.sampled_from(["", "web", "shop"]),
    secrets,
    st.sampled_from(["", "", "alias.example"]),
)
Asked = tuple[list[tuple[str, str, str, str]], str, list[tuple[str, str]], str]


@given(st.lists(st.lists(st.tuples(names, st.none() | asked), max_size=3), max_size=6))
def test_changes_add_up_to_the_whole(passes: list[list[tuple[str, Asked | None]]]) -> None:
    table, now = Table(), dict[str, Ingress]()
    served: dict[str, Host] = {}
    backends: set[BackendKey] = set()
    for changes in passes:
        for name, what in changes:
            now.pop(name, None)
            if what is not None:
                words = {f"{NGINX}server-alias": what[3]} if what[3] else {}
                now[name] = make_ingress(name, *what[0], default=what[1], tls=tuple(what[2]), annotations=words)
            table.put(f"default/{name}", read_ingress(now[name]) if name in now else None)
        before = {secret: table.hosts_of(secret) for secret in table.secrets}
        change = table.settle()
        served |= change.hosts
        assert not change.added & backends
        backends = (backends | change.added) - change.removed
        after = {secret: table.hosts_of(secret) for secret in table.secrets}
        assert {one for one in {*before, *after} if before.get(one) != after.get(one)} <= change.secrets
    whole = table_of(*now.values())
    change = whole.settle()
    assert {host: one for host, one in served.items() if one != NOTHING} == change.hosts == table.hosts == whole.hosts
    assert backends == change.added == table.backends
    assert table.secrets == whole.secrets
    assert table.backends_of("default/web") == whole.backends_of("default/web")


def annotated(name: str, service: str, created: str, *paths: tuple[str, str], **words: str) -> Ingress:
    """Prefix paths of h.example, with annotations of ingress-nginx (_ for -)."""
    annotations = {NGINX + key.replace("_", "-"): value for key, value in words.items()}
    entries = [(host, "Prefix", path, service) for host, path in paths]
    return make_ingress(name, *entries, created=f"2026-{created}-01T00:00:00Z", annotations=annotations)


def test_one_ingress_with_patterns_makes_all_paths_of_its_hosts_patterns() -> None:
    table = table_of(
        annotated("plain", "web", "01", ("h.example", "/a.b"), ("other.example", "/")),
        annotated("regex", "shop", "02", ("h.example", "/shop(/|$)(.*)"), rewrite_target="/$2"),
    )
    assert rows(table) == {"h.example": {}, "other.example": {"other.example/": WEB}}
    *patterns, (rest, miss) = table.hosts["h.example"].patterns
    assert (rest, miss.miss) == (r"(?i)^h\.example/", NOT_HERE)
    assert [(key, route.backend, route.rewrite) for key, route in patterns] == [
        (r"(?i)^h\.example(?:/shop(/|$)(.*))", SHOP.backend, "/\\2"),
        (r"(?i)^h\.example/a\.b", WEB.backend, ""),
    ]
    table.put("default/regex", None)
    assert rows(table)["h.example"] == {"h.example/a.b/": WEB}
    assert not table.hosts["h.example"].patterns


def test_of_two_equal_patterns_the_older_ingress_has_it() -> None:
    table = table_of(
        annotated("young", "shop", "02", ("h.example", "/a"), use_regex="true"),
        annotated("old", "web", "01", ("h.example", "/a"), use_regex="true"),
    )
    table.settle()
    pattern, _ = table.hosts["h.example"].patterns
    assert pattern[1].backend == WEB.backend
    assert [problem.ingress for problem in table.hosts["h.example"].problems] == ["default/young"]


def test_a_canary_joins_the_route_of_another_ingress_whichever_is_older() -> None:
    canary = annotated("canary", "shop", "01", ("h.example", "/"), canary="true", canary_weight="20")
    table = table_of(canary)
    table.settle()
    assert not table.hosts["h.example"].rows
    assert [problem.reason for problem in table.hosts["h.example"].problems] == ["CanaryAlone"]
    table.put("default/main", read_ingress(annotated("main", "web", "02", ("h.example", "/"), limit_rps="3")))
    change = table.settle()
    (route,) = table.hosts["h.example"].rows.values()
    shop = BackendKey(f"{SHOP.backend};opaque")  # its clients may get its servers' names in a cookie
    assert (route.backend, route.canary) == (WEB.backend, shop)
    assert "canary-weight=20" in route.policy
    assert "limit-second=15" in route.policy
    assert change.added == {WEB.backend, shop}
    assert change.policies == {route.policy}
    second = annotated("second", "shop", "03", ("h.example", "/"), canary="true", canary_weight="9")
    table.put("default/second", read_ingress(second))
    table.settle()
    (problem,) = table.hosts["h.example"].problems
    assert (problem.ingress, problem.reason) == ("default/second", "CanaryConflict")
    assert "older canary default/canary;" in problem.message
    table.put("default/canary", None)
    table.put("default/second", None)
    table.settle()
    assert not table.uses(shop)
    assert len(table.policies) == 1


GUARD = {"whitelist_source_range": "192.0.2.1"}


def test_an_alias_has_the_rules_of_all_ingresses_of_its_host() -> None:
    main = annotated("main", "web", "02", ("h.example", "/"), server_alias="alias.example")
    table = table_of(main)
    assert rows(table)["alias.example"] == {"alias.example/": WEB}
    for created in ("01", "03"):  # whichever is older
        table.put(
            "default/guarded", read_ingress(annotated("guarded", "web", created, ("h.example", "/admin"), **GUARD))
        )
        served = rows(table)
        of_host = {row.removeprefix("h.example"): route for row, route in served["h.example"].items()}
        assert {row.removeprefix("alias.example"): route for row, route in served["alias.example"].items()} == of_host
        assert "/admin/" in of_host
    table.put("default/guarded", None)
    assert rows(table)["alias.example"] == {"alias.example/": WEB}
    other = annotated("other", "shop", "04", ("h.example", "/theirs"))
    table = table_of(
        main, msgspec.structs.replace(other, metadata=msgspec.structs.replace(other.metadata, namespace="x"))
    )
    assert set(rows(table)["alias.example"]) == {"alias.example/"}


def test_a_path_that_proves_who_has_a_name_takes_nothing_else_of_an_alias() -> None:
    proof = "/.well-known/acme-challenge/x"
    main = annotated("main", "web", "02", ("h.example", "/"), server_alias="alias.example")
    table = table_of(main, annotated("solver", "shop", "03", ("alias.example", proof)))
    assert rows(table)["alias.example"] == {"alias.example/": WEB, f"alias.example{proof}/": SHOP}


def test_an_alias_serves_only_until_somebody_claims_the_name() -> None:
    table = table_of(annotated("main", "web", "02", ("h.example", "/a"), server_alias="alias.example"))
    assert rows(table)["alias.example"] == {"alias.example/a/": WEB}
    table.put("default/own", read_ingress(annotated("own", "shop", "03", ("alias.example", "/"))))
    assert rows(table)["alias.example"] == {"alias.example/": SHOP}
    assert not table.hosts["alias.example"].problems


def test_the_name_with_www_leads_to_the_one_without_and_the_other_way_round() -> None:
    table = table_of(
        annotated("bare", "web", "01", ("h.example", "/a"), from_to_www_redirect="true"),
        annotated("www", "web", "01", ("www.other.example", "/"), from_to_www_redirect="true"),
    )
    found = rows(table)
    (route,) = found["www.h.example"].values()
    assert "redirect=%24scheme://h.example%24request_uri" in route.policy
    (route,) = found["other.example"].values()
    assert "redirect=%24scheme://www.other.example%24request_uri" in route.policy


def test_a_younger_ingress_does_not_take_the_tls_of_an_older_ones_host() -> None:
    words = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
    mine = make_ingress("mine", ("h.example", "Prefix", "/"), created="2026-01-01T00:00:00Z")
    theirs = make_ingress("theirs", ("h.example", "Prefix", "/x"), annotations=words, created="2026-02-01T00:00:00Z")
    table = Table()
    for ingress in (theirs, mine):
        table.put(ingress.metadata.key, read_ingress(ingress, passthrough=True))
    host = table.settle().hosts["h.example"]
    assert host.through is None
    assert list(host.rows) == ["h.example/"]
    assert [(one.ingress, one.reason) for one in host.problems] == [("default/theirs", "PassthroughConflict")]


@pytest.mark.parametrize(
    ("path", "created", "told"),
    [
        ("/.well-known/acme-challenge/token", "2026-02-01T00:00:00Z", False),
        ("/.well-known/acme-challenge/token", "2025-02-01T00:00:00Z", False),
        ("/x", "2026-02-01T00:00:00Z", True),
    ],
)
def test_over_plain_http_others_paths_of_a_host_passed_through_are_served(
    path: str, created: str, *, told: bool
) -> None:
    words = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
    mine = make_ingress("mine", ("h.example", "Prefix", "/"), annotations=words, created="2026-01-01T00:00:00Z")
    theirs = make_ingress("theirs", ("h.example", "Exact", path), created=created)
    table = Table()
    for one in (theirs, mine):
        table.put(one.metadata.key, read_ingress(one, passthrough=True))
    host = table.settle().hosts["h.example"]
    assert host.through
    [route] = [one for row, one in host.rows.items() if path in row]
    slots: dict[BackendKey, Slot] = defaultdict(lambda: Slot("r-000001"))
    assert place(route, Scheme.HTTP, slots) == "r-000001"
    assert place(route, Scheme.HTTPS, slots) == REDIRECT
    assert [one.reason for one in host.problems] == (["PassthroughConflict"] if told else [])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pattern", [False, True])
def test_no_path_of_a_host_passed_through_is_served_where_tls_was_ended(*, shared: bool, pattern: bool) -> None:
    """Also one that neither its own Ingress nor another one names, and that a wildcard's rule would be for."""
    words = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
    regex = {"nginx.ingress.kubernetes.io/use-regex": "true"} if pattern else {}
    made = (
        make_ingress("mine", ("h.example", "Prefix", "/app"), annotations=words, created="2026-01-01T00:00:00Z"),
        make_ingress("theirs", ("h.example", "Prefix", "/api"), annotations=regex, created="2026-02-01T00:00:00Z"),
        make_ingress("wildcard", ("*.example", "Prefix", "/"), created="2026-03-01T00:00:00Z"),
    )
    table = Table(shared_hosts=shared)
    for one in made:
        table.put(one.metadata.key, read_ingress(one, passthrough=True))
    host = table.settle().hosts["h.example"]
    slots: dict[BackendKey, Slot] = defaultdict(lambda: Slot("r-000001"))
    assert {place(route, Scheme.HTTPS, slots) for route in host.routes()} == {REDIRECT}
    rest = [route for key, route in (*host.rows.items(), *host.patterns) if key.endswith("example/")]
    assert [place(route, Scheme.HTTP, slots) for route in rest] == [TO_WILDCARD], "over plain HTTP as elsewhere"


def test_all_paths_of_a_host_are_careful_where_some_are_guarded() -> None:
    shut = {"nginx.ingress.kubernetes.io/denylist-source-range": "192.0.2.1"}
    table = table_of(
        make_ingress("open", ("h.example", "Prefix", "/"), ("plain.example", "Prefix", "/")),
        make_ingress("shut", ("h.example", "Prefix", "/admin"), ("all.example", "Prefix", "/"), annotations=shut),
    )
    found = rows(table)
    shutting = Policy("deny=192.0.2.1/32")
    assert found["h.example"][RowKey("h.example/")].policy == careful(NO_POLICY, MOST_READINGS)
    assert found["h.example"][RowKey("h.example/admin/")].policy == careful(shutting, MOST_READINGS)
    assert found["all.example"][RowKey("all.example/")].policy == "deny=192.0.2.1/32", "it has nothing else"
    table.put("default/shut", None)
    assert rows(table)["h.example"] == {"h.example/": WEB}


def test_a_guarded_path_has_a_row_for_each_way_in_which_servers_read_it() -> None:
    shut = {"nginx.ingress.kubernetes.io/denylist-source-range": "192.0.2.1"}
    table = table_of(
        make_ingress("open", ("h.example", "Prefix", "/")),
        make_ingress("shut", ("h.example", "Exact", "/%41dMin"), annotations=shut),
    )
    found = rows(table)["h.example"]
    ways = ["h.example/%41dMin/\x01", "h.example/%41dmin/\x01", "h.example/AdMin/\x01", "h.example/admin/\x01"]
    assert set(found) == {"h.example/", *ways}
    assert len({found[RowKey(way)] for way in ways}) == 1


@pytest.mark.parametrize(("default", "expected"), [("", "not-here"), ("web", f"~a{MOST_READINGS}!")])
def test_what_no_rule_of_a_guarded_host_is_for_goes_on_carefully(default: str, expected: str) -> None:
    shut = {"nginx.ingress.kubernetes.io/denylist-source-range": "192.0.2.1"}
    table = table_of(make_ingress("shut", ("h.example", "Prefix", "/admin"), annotations=shut))
    if default:
        table.put("default/rest", read_ingress(make_ingress("rest", default=default)))
    table.settle()
    assert table.hosts["h.example"].rows[RowKey("h.example/")].miss == expected


def test_a_canary_of_another_namespace_takes_no_requests() -> None:
    words = {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "100"}
    table = table_of(
        make_ingress("main", ("h.example", "Prefix", "/")),
        make_ingress("thief", ("h.example", "Prefix", "/"), annotations=words, namespace="other"),
        shared_hosts=True,
    )
    assert rows(table)["h.example"] == {"h.example/": WEB}
    assert [(one.ingress, one.reason) for one in table.hosts["h.example"].problems] == [
        ("other/thief", "CanaryElsewhere")
    ]


def test_who_only_names_a_host_decides_nothing_for_those_it_leads_to() -> None:
    """Neither its certificate nor whose certificates clients show, though it is older."""
    words = {"server-alias": "shop.example", "auth-tls-secret": "authority"}
    named = {f"nginx.ingress.kubernetes.io/{name}": text for name, text in words.items()}
    own = {"nginx.ingress.kubernetes.io/auth-tls-secret": "mine"}
    old: dict[str, Any] = {"created": "2025-01-01T00:00:00Z", "namespace": "other"}
    table = table_of(
        make_ingress("a", ("a.example", "Prefix", "/"), tls=(("theirs", "a.example"),), annotations=named, **old),
        make_ingress("b", tls=(("theirs", "shop.example"),), **old),
        make_ingress("shop", ("shop.example", "Prefix", "/"), tls=(("good", "shop.example"),), annotations=own),
        shared_hosts=True,
    )
    (row,) = rows(table)["shop.example"].values()
    served = table.hosts["shop.example"]
    assert row.backend == WEB.backend
    assert served.certificate == "default/good"
    assert served.authority == "default/mine;authority"
    assert {problem.ingress for problem in served.problems} == {"other/a", "other/b"}


def test_one_path_with_other_settings_of_a_younger_ingress_is_told() -> None:
    """Else nobody would know that its guard does not stand."""
    shut = {"nginx.ingress.kubernetes.io/denylist-source-range": "192.0.2.1"}
    young: dict[str, Any] = {"annotations": shut, "created": "2026-02-01T00:00:00Z"}
    table = table_of(
        make_ingress("old", ("h.example", "Prefix", "/")), make_ingress("young", ("h.example", "Prefix", "/"), **young)
    )
    table.settle()
    assert [(one.ingress, one.reason) for one in table.hosts["h.example"].problems] == [
        ("default/young", "PathConflict")
    ]


@pytest.mark.parametrize("case", ["hosts", "paths", "www"])
def test_what_an_ingress_costs_grows_with_its_size_and_not_its_square(case: str) -> None:
    """Whoever writes a large one keeps nobody else waiting."""

    def calls(size: int) -> int:
        hosts = [f"h{number if case != 'paths' else 0}.example" for number in range(size)]
        paths = [(host, "Prefix", f"/{number}", f"s{number}") for number, host in enumerate(hosts)]
        words = {"nginx.ingress.kubernetes.io/from-to-www-redirect": "true"} if case == "www" else {}
        ingress = make_ingress("large", *paths, tls=(("one", *hosts),), annotations=words)
        count = 0

        def heard(_frame: object, event: str, _arg: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(heard)
        try:
            table = table_of(ingress)
            for backend in table.settle().added:
                table.told(backend, "ServiceNotFound", "no Service")
        finally:
            sys.setprofile(None)
        return count

    assert calls(400) < 6 * calls(100)
