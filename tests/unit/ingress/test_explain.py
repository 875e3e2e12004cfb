"""Why a URL is served by whom."""

import pytest
from tests.unit.ingress.objects import CLASS, SLICE, WEB, make_ingress

from vrata.base.errors import InvalidInput
from vrata.ingress.explain import Cluster, explain
from vrata.kube.objects import Ingress

LABELLED = SLICE.__class__(
    metadata=SLICE.metadata.__class__(name="web-1", namespace="default", labels={"kubernetes.io/service-name": "web"}),
    endpoints=SLICE.endpoints,
    ports=SLICE.ports,
)


def said(url: str, *ingresses: Ingress) -> str:
    return "\n".join(explain(Cluster(ingresses, (CLASS,), (WEB,), (LABELLED,)), url))


def test_the_rule_the_backend_and_the_pods_are_named_and_what_was_passed_over() -> None:
    shop = make_ingress("shop", ("shop.example", "Prefix", "/"), ("shop.example", "Exact", "/cart"), default="web")
    text = said("http://shop.example/cart", shop)
    assert "rule         Exact /cart on shop.example" in text
    assert "spec.rules[1].http.paths[0] of Ingress default/shop" in text
    assert "backend      Service default/web, port 80" in text
    assert "pods         10.20.0.2:8080" in text
    assert "passed over  Prefix / on shop.example, spec.rules[0].http.paths[0] of Ingress default/shop" in text
    assert "passed over  Prefix / on every host, spec.defaultBackend of Ingress default/shop" in text


def test_tls_is_explained_by_the_secret_and_the_redirect() -> None:
    shop = make_ingress("shop", ("shop.example", "Prefix", "/"), tls=(("secret", "shop.example"),))
    assert "certificate  of Secret default/secret" in said("https://shop.example/", shop)
    assert "308 to https" in said("http://shop.example/", shop)
    assert "the default one" in said("https://other.example/", shop)


@pytest.mark.parametrize("path", ["/app", "/api", "/"])
def test_a_host_passed_through_is_its_pods_whatever_the_path(path: str) -> None:
    words = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
    mine = make_ingress("mine", ("h.example", "Prefix", "/app"), annotations=words, created="2026-01-01T00:00:00Z")
    theirs = make_ingress("theirs", ("h.example", "Prefix", "/api"), created="2026-02-01T00:00:00Z")
    cluster = Cluster((mine, theirs), (CLASS,), (WEB,), (LABELLED,), passthrough=True)
    text = "\n".join(explain(cluster, f"https://h.example{path}"))
    assert "encrypted    up to the pods" in text
    assert "spec.rules[0].http.paths[0] of Ingress default/mine" in text
    assert "the default one" not in text


def test_what_nobody_serves_is_404_and_what_has_no_pod_503() -> None:
    assert "404" in said("http://nobody.example/", make_ingress("a", ("a.example", "Prefix", "/")))
    text = said("http://a.example/", make_ingress("a", ("a.example", "Prefix", "/", "missing")))
    assert "503: none is ready" in text
    assert "no Service 'default/missing'; create it" in text


def test_a_conflict_is_told() -> None:
    old = make_ingress("old", ("a.example", "Prefix", "/"), created="2026-01-01T00:00:00Z")
    young = make_ingress("young", ("a.example", "Prefix", "/", "shop"), created="2026-02-01T00:00:00Z")
    assert "problem      Ingress default/young:" in said("a.example", young, old)


def test_what_keeps_an_ingress_of_the_host_out_is_told_and_nothing_of_other_hosts() -> None:
    bad = {"nginx.ingress.kubernetes.io/server-snippet": "return 200;"}
    shut = make_ingress("shut", ("a.example", "Prefix", "/"), annotations=bad)
    lost = make_ingress("lost", ("a.example", "Prefix", "/"), class_name="vrta")
    path = make_ingress("path", ("a.example", "Prefix", "no-path"))
    text = said("http://a.example/", shut, lost, path)
    assert "answer       404" in text
    assert "problem      Ingress default/shut: nginx.ingress.kubernetes.io/server-snippet: is not supported" in text
    assert "problem      Ingress default/lost: spec.ingressClassName: no IngressClass 'vrta'" in text
    assert "problem      Ingress default/path: spec.rules[0].http.paths[0].path: 'no-path'" in text
    assert "problem" not in said("http://b.example/", shut, lost, path)


@pytest.mark.parametrize("url", ["ftp://x", "", "http://", "http://[::1", "http://[x]/"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"https://shop\.example/cart"):
        said(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://xn--bcher-kva.example/",
        "https://bücher.example/",
        "https://BÜCHER.example./",
        "xn--bcher-kva.example.:443/a",
    ],
)
def test_a_name_is_looked_up_as_clients_ask_for_it(url: str) -> None:
    assert "Prefix / on xn--bcher-kva.example" in said(url, make_ingress("b", ("xn--bcher-kva.example", "Prefix", "/")))


def test_a_path_is_looked_up_as_clients_write_it() -> None:
    made = make_ingress("b", ("a.example", "Exact", "/caf%C3%A9"))
    for url in ("http://a.example/café", "http://a.example/caf%C3%A9"):
        assert "rule         Exact /caf%C3%A9 on a.example" in said(url, made)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(InvalidInput):
        said(f"http://{'ü' * 80}.example/")
