"""What one Ingress asks for, and that no text of a user becomes anything but data."""

from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import CLASSES, make_ingress

from vrata.ingress.annotations.parse import NGINX, OURS
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.endpoints import words_of
from vrata.ingress.headers import Headers
from vrata.ingress.model import CONTROLLER, BackendKey, Claims, Route, SecretKey
from vrata.ingress.render import render_map_file
from vrata.ingress.rows import END
from vrata.ingress.table import Table
from vrata.ingress.trust import Peer, peer_of
from vrata.kube.objects import Ingress, IngressClass


def rows(ingress: Ingress) -> set[str]:
    return {claim.row for claims in read_ingress(ingress).hosts.values() for claim in claims}


def test_an_exact_path_and_a_prefix_are_rows_that_differ() -> None:
    found = rows(make_ingress("a", ("shop.example", "Exact", "/cart"), ("shop.example", "Prefix", "/")))
    assert found == {f"shop.example/cart/{END}", "shop.example/"}


def test_a_trailing_slash_makes_no_other_prefix() -> None:
    ways = [rows(make_ingress("a", ("h.example", "Prefix", path))) for path in ("/shop", "/shop/")]
    assert ways == [{"h.example/shop/"}] * 2


def test_other_classes_are_left_alone() -> None:
    ingress = make_ingress("a", ("h.example", "Prefix", "/"), class_name="other")
    assert is_ours(ingress, CLASSES) == (False, None)


def test_an_unknown_class_is_told_with_those_that_exist() -> None:
    mine, problem = is_ours(make_ingress("a", class_name="nginx"), CLASSES)
    assert not mine
    assert problem
    assert problem.reason == "IngressClassNotFound"
    assert "'nginx'" in problem.message
    assert "vrata" in problem.message
    assert problem.message.startswith("spec.ingressClassName: ")


def test_a_class_is_told_where_it_is_written() -> None:
    named = {"kubernetes.io/ingress.class": "nginx"}
    _, problem = is_ours(make_ingress("a", class_name=None, annotations=named), CLASSES)
    assert problem
    assert problem.message.startswith("metadata.annotations[kubernetes.io/ingress.class]: no IngressClass 'nginx'")


def test_without_a_class_the_default_class_decides() -> None:
    metadata = {"name": "vrata", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    default = msgspec.convert({"metadata": metadata, "spec": {"controller": CONTROLLER}}, IngressClass)
    ingress = make_ingress("a", class_name=None)
    assert is_ours(ingress, {"vrata": default}) == (True, None)
    assert is_ours(ingress, CLASSES) == (False, None)


def test_a_resource_backend_is_told_and_the_other_paths_are_served() -> None:
    resource = {"resource": {"kind": "Bucket", "name": "files"}}
    web = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"pathType": "Prefix", "path": f"/{number}", "backend": one} for number, one in enumerate((resource, web))]
    ingress = msgspec.convert(
        {"metadata": {"name": "a", "namespace": "default"}, "spec": {"rules": [{"http": {"paths": paths}}]}}, Ingress
    )
    (problem,) = read_ingress(ingress).problems
    assert problem.reason == "ResourceBackend"
    assert "spec.rules[0].http.paths[0].backend.resource" in problem.message
    assert rows(ingress) == {"*/1/"}


def routes(ingress: Ingress) -> dict[str, bool]:
    """Row → whether only over HTTPS."""
    found = read_ingress(ingress).hosts.values()
    return {claim.row: claim.route.https_only for claims in found for claim in claims}


def test_a_host_with_tls_is_for_https_only_unless_that_is_declined() -> None:
    paths = (("a.example", "Prefix", "/"), ("b.example", "Prefix", "/"), ("x.wild.example", "Prefix", "/"))
    tls = (("secret", "a.example", "*.wild.example"),)
    assert routes(make_ingress("a", *paths, tls=tls)) == {
        "a.example/": True,
        "b.example/": False,
        "x.wild.example/": True,
    }
    for name in ("vrata.dev/ssl-redirect", "nginx.ingress.kubernetes.io/ssl-redirect"):
        assert not any(routes(make_ingress("a", *paths, tls=tls, annotations={name: "false"})).values())


GUARDS = ("auth-type", "auth-url", "auth-tls-secret", "whitelist-source-range", "denylist-source-range")


@pytest.mark.parametrize("name", GUARDS)
def test_an_ingress_that_asks_for_a_guard_is_not_served_without_it(name: str) -> None:
    for prefix in (OURS, NGINX):
        asked = make_ingress("a", ("a.example", "Prefix", "/"), annotations={prefix + name: "x y"}, default="web")
        claims = read_ingress(asked)
        assert not claims.hosts
        assert claims.default is None
        (problem,) = claims.problems
        assert "left out" in problem.message
        assert prefix + name in problem.message


def test_tls_without_hosts_is_for_the_hosts_of_the_rules() -> None:
    claims = read_ingress(make_ingress("a", ("a.example", "Prefix", "/"), tls=(("secret",),))).certificates
    assert [(claim.host, claim.secret, claim.at) for claim in claims] == [
        ("a.example", "default/secret", "spec.tls[0].secretName")
    ]


def test_a_certificate_for_no_host_is_told() -> None:
    claims = read_ingress(make_ingress("a", ("", "Prefix", "/"), tls=(("secret",),)))
    assert claims.hosts, "its rules are served"
    assert not claims.certificates
    assert [(one.reason, one.message.partition(":")[0]) for one in claims.problems] == [
        ("CertificateUnused", "spec.tls[0].hosts")
    ]


def test_a_bad_host_or_secret_of_tls_is_told_and_the_others_are_served() -> None:
    claims = read_ingress(make_ingress("a", tls=(("secret", "good.example", "bad host"), ("../etc", "other.example"))))
    assert [claim.host for claim in claims.certificates] == ["good.example"]
    assert [(problem.reason, problem.message.partition(":")[0]) for problem in claims.problems] == [
        ("InvalidHost", "spec.tls[0].hosts[1]"),
        ("InvalidSecret", "spec.tls[1].secretName"),
    ]


hostile = st.text(max_size=40) | st.sampled_from(
    ["/a\n  server x 1.2.3.4", "/ %[env(PATH)]", "/a } use_backend x", "/\\x0a", "/a b", "\r\nbind :1", "*.*.x", "a..b"]
)


@given(hostile, hostile, hostile)
def test_hostile_hosts_paths_and_services_are_data_or_left_out(host: str, path: str, service: str) -> None:
    claims = read_ingress(make_ingress("a", (host, "Prefix", path, service)))
    for found in claims.hosts.values():
        for claim in found:
            (line,) = render_map_file([(claim.row, claim.route.backend)]).splitlines()
            assert len(line.split(" ")) == 2, "one key, one value"
            assert claim.row.isascii()
            assert claim.route.backend.isascii()
    assert bool(claims.hosts) != bool(claims.problems)


def asked(**annotations: str) -> Claims:
    words = {f"{NGINX}{name.replace('_', '-')}": value for name, value in annotations.items()}
    made = make_ingress("a", ("a.example", "Prefix", "/"), tls=(("own", "a.example"),), annotations=words)
    return read_ingress(made, passthrough=True)


def told(**annotations: str) -> str:
    """What is said of an Ingress that is left out."""
    claims = asked(**annotations)
    assert not claims.hosts
    assert claims.left_out
    assert "left out" in claims.problems[-1].message
    return claims.problems[-1].message


def test_trust_in_clients_needs_somebody_who_signs() -> None:
    claims = asked(auth_tls_secret="default/ca", auth_tls_verify_client="optional")
    (claim,) = claims.hosts["a.example"]
    assert claim.authority == SecretKey("default/ca;authority")
    assert [one.secret for one in claims.secrets] == [claim.authority]
    assert "client=optional" in claim.route.policy.split()
    assert "name a Secret with ca.crt" in told(auth_tls_verify_client="on")
    assert "'team/ca' is of another namespace" in told(auth_tls_secret="team/ca")
    assert "nobody is asked" in told(auth_tls_secret="ca", auth_tls_verify_client="off", auth_tls_match_cn="CN=a")
    assert "name a Secret with ca.crt" in told(auth_tls_match_cn="CN=a")
    (claim,) = asked(auth_tls_secret="ca", auth_tls_verify_client="off").hosts["a.example"]
    assert (claim.authority, claim.route.policy) == (None, "")


def test_clients_are_asked_by_name() -> None:
    words = {f"{NGINX}auth-tls-secret": "ca"}
    claims = read_ingress(
        make_ingress("a", ("", "Prefix", "/"), ("b.example", "Prefix", "/"), annotations=words, default="web")
    )
    assert list(claims.hosts) == ["b.example"]
    assert claims.default is None
    messages = [problem.message for problem in claims.problems]
    assert "give each rule a host" in messages[0]
    assert "b.example has no certificate" in messages[1]


def test_trust_in_pods_needs_a_name_and_somebody_who_signs() -> None:
    (claim,) = asked(
        backend_protocol="HTTPS", proxy_ssl_secret="ca", proxy_ssl_verify="on", proxy_ssl_name="pods.internal"
    ).hosts["a.example"]
    assert peer_of(words_of(claim.route.backend)) == Peer(
        SecretKey("default/ca;peer"), verify=True, name="pods.internal"
    )
    (claim,) = asked(
        backend_protocol="HTTPS", proxy_ssl_protocols="TLSv1.3 TLSv1.2", proxy_ssl_ciphers="HIGH:!aNULL"
    ).hosts["a.example"]
    assert peer_of(words_of(claim.route.backend)) == Peer(None, versions=("TLSv1.2", "TLSv1.3"), ciphers="HIGH:!aNULL")
    assert "proxy-ssl-name" in told(backend_protocol="HTTPS", proxy_ssl_secret="ca", proxy_ssl_verify="on")
    assert "proxy-ssl-secret" in told(backend_protocol="HTTPS", proxy_ssl_name="p", proxy_ssl_verify="on")
    assert "another namespace" in told(backend_protocol="HTTPS", proxy_ssl_secret="team/ca")
    (claim,) = asked(proxy_ssl_secret="ca", proxy_ssl_verify="on").hosts["a.example"]
    assert peer_of(words_of(claim.route.backend)) is None, "without TLS nobody proves anything"


def test_tls_that_is_not_ended_here_goes_by_name_alone() -> None:
    claims = asked(ssl_passthrough="true")
    (claim,) = claims.hosts["a.example"]
    assert claim.route == Route(BackendKey("default/web:80;tcp"), https_only=True, through=True)
    table = Table()
    table.put("default/a", claims)
    assert table.settle().hosts["a.example"].through == claim.route.backend
    assert "nobody can be kept out" in told(ssl_passthrough="true", whitelist_source_range="10.0.0.0/8")
    words = {f"{NGINX}ssl-passthrough": "true"}
    wildcard = make_ingress("a", ("*.a.example", "Prefix", "/"), annotations=words)
    assert not read_ingress(wildcard, passthrough=True).hosts
    claims = read_ingress(make_ingress("a", ("", "Prefix", "/"), annotations=words, default="web"), passthrough=True)
    assert (claims.hosts, claims.default) == ({}, None)
    assert "give each rule a host" in claims.problems[0].message
    claims = read_ingress(make_ingress("a", ("a.example", "Prefix", "/"), annotations=words))
    assert not claims.hosts
    assert claims.left_out
    assert "--ssl-passthrough" in claims.problems[0].message


def test_what_asks_for_too_much_at_once_is_left_out() -> None:
    """Each path of an Ingress with affinity has a policy of its own."""
    networks = ",".join(f"2001:db8:{number:x}::/48" for number in range(0, 30_000, 2))
    words = {f"{NGINX}whitelist-source-range": networks, f"{NGINX}affinity": "cookie"}
    paths = [("a.example", "Prefix", f"/{number}") for number in range(2)]
    assert read_ingress(make_ingress("a", *paths[:1], annotations=words)).hosts
    claims = read_ingress(make_ingress("a", *paths, annotations=words))
    assert claims.left_out
    assert "name fewer networks" in claims.problems[0].message


def test_a_default_backend_is_of_the_same_namespace() -> None:
    (claim,) = asked(default_backend="errors").hosts["a.example"]
    assert claim.route.fallback == "default/errors:"
    claims = asked(default_backend="team/errors")
    assert claims.hosts["a.example"][0].route.fallback is None
    assert "another namespace" in claims.problems[0].message


def test_errors_that_somebody_else_answers_for_need_a_service() -> None:
    assert "name a Service" in asked(custom_http_errors="404").problems[0].message
    assert not asked(custom_http_errors="404", disable_proxy_intercept_errors="true").problems


def test_a_redirect_is_rewritten_from_something_to_something() -> None:
    (claim,) = asked(proxy_redirect_from="http://", proxy_redirect_to="https://").hosts["a.example"]
    assert unquote(claim.route.policy) == "location=http://,https://"
    assert not asked(proxy_redirect_from="off").problems
    claims = asked(proxy_redirect_from="http://")
    assert claims.hosts["a.example"][0].route.policy == ""
    assert "say both" in claims.problems[0].message


def test_an_auth_service_is_not_asked_without_the_headers_that_it_is_to_be_told() -> None:
    words = {"auth_url": "http://auth.team/check", "auth_proxy_set_headers": "told"}
    (claim,) = asked(**words).hosts["a.example"]
    assert "auth-unready=1" in claim.route.policy.split()
    annotations = {f"{NGINX}{name.replace('_', '-')}": value for name, value in words.items()}
    entry = make_ingress("a", ("a.example", "Prefix", "/"), annotations=annotations)
    known = {SecretKey("default/told;headers"): Headers((("X-Team", "blue"),))}
    (claim,) = read_ingress(entry, headers=known.get).hosts["a.example"]
    assert "auth-set=X-Team:blue" in unquote(claim.route.policy).split()
    assert "auth-unready" not in claim.route.policy
    assert "another namespace" in told(**words | {"auth_proxy_set_headers": "team/told"})


@pytest.mark.parametrize(
    "words",
    [
        {"auth_realm": "x"},
        {"auth_secret_type": "auth-map"},
        {"auth_tls_pass_certificate_to_upstream": "true"},
        {"auth_tls_verify_depth": "3"},
        {"auth_tls_error_page": "https://e.example/"},
        {"auth_tls_verify_client": "off"},
    ],
)
def test_what_keeps_nobody_out_by_itself_has_no_effect_by_itself(words: dict[str, str]) -> None:
    claims = asked(**words)
    assert not claims.left_out
    assert not claims.problems
    assert claims.hosts["a.example"][0].route.policy == ""


@pytest.mark.parametrize(
    "words",
    [
        {"auth_type": "basic"},
        {"auth_secret": "users"},
        {"auth_tls_verify_client": "on"},
        {"auth_tls_verify_client": "optional"},
        {"auth_tls_match_cn": "CN=a"},
        {"auth_tls_match_cn": "CN=a", "auth_tls_verify_client": "off"},
    ],
)
def test_a_guard_that_is_not_complete_leaves_the_ingress_out(words: dict[str, str]) -> None:
    assert asked(**words).left_out
