"""What one Ingress asks for, and that no text of a user becomes anything but data."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import CLASSES, make_ingress

from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.model import CONTROLLER
from vrata.ingress.render import render_map_file
from vrata.ingress.rows import END
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


hostile = st.text(max_size=40) | st.sampled_from(
    ["/a\n  server x 1.2.3.4", "/ %[env(PATH)]", "/a } use_backend x", "/\\x0a", "/a b", "\r\nbind :1", "*.*.x", "a..b"]
)


@given(hostile, hostile, hostile)
def test_hostile_hosts_paths_and_services_are_data_or_left_out(host: str, path: str, service: str) -> None:
    claims = read_ingress(make_ingress("a", (host, "Prefix", path, service)))
    for found in claims.hosts.values():
        for claim in found:
            (line,) = render_map_file([(claim.row, claim.backend)]).splitlines()
            assert len(line.split(" ")) == 2, "one key, one value"
            assert claim.row.isascii()
            assert claim.backend.isascii()
    assert bool(claims.hosts) != bool(claims.problems)
