"""Routing of Ingresses: the rules of the Ingress v1 documentation, and that user text stays data."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.compile import World, compile_routing
from vrata.ingress.model import CONTROLLER, Routing, Settings
from vrata.ingress.plan import AddServer, Observed, Reload, RemoveServer, ReplaceMap, ReviveServer, plan_routing
from vrata.ingress.render import render_config, render_map_file, render_maps
from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service

CLASS = msgspec.convert({"metadata": {"name": "vrata"}, "spec": {"controller": CONTROLLER}}, IngressClass)
OTHER = msgspec.convert({"metadata": {"name": "other"}, "spec": {"controller": "example.com/x"}}, IngressClass)


def make_ingress(
    name: str, *paths: tuple[str, str, str], class_name: str | None = "vrata", created: str = "2026-01-01T00:00:00Z"
) -> Ingress:
    """Paths are (host, pathType, path); each leads to the Service `web`, port 80."""
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rules = [
        {"host": host, "http": {"paths": [{"pathType": kind, "path": path, "backend": backend}]}}
        for host, kind, path in paths
    ]
    spec = {"rules": rules, **({"ingressClassName": class_name} if class_name else {})}
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created}
    return msgspec.convert({"metadata": metadata, "spec": spec}, Ingress)


WEB = msgspec.convert(
    {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"name": "http", "port": 80}]}}, Service
)
SLICE = msgspec.convert(
    {
        "metadata": {"name": "web-1", "namespace": "default"},
        "endpoints": [
            {"addresses": ["10.20.0.2"]},
            {"addresses": ["10.20.0.3"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    },
    EndpointSlice,
)


def compiled(*ingresses: Ingress, classes: tuple[IngressClass, ...] = (CLASS, OTHER)) -> Routing:
    return compile_routing(
        World(
            {entry.metadata.key: entry for entry in ingresses},
            {entry.metadata.name: entry for entry in classes},
            {"default/web": WEB},
            {"default/web": (SLICE,)},
        )
    )


def test_exact_and_prefix_paths_become_rows_of_their_maps() -> None:
    routing = compiled(make_ingress("a", ("shop.example", "Exact", "/cart"), ("shop.example", "Prefix", "/")))
    assert set(routing.exact) == {"shop.example|/cart"}
    assert set(routing.prefix) == {"shop.example|/"}
    assert routing.problems == ()


def test_a_trailing_slash_makes_no_other_prefix() -> None:
    one = compiled(make_ingress("a", ("h.example", "Prefix", "/shop")))
    two = compiled(make_ingress("a", ("h.example", "Prefix", "/shop/")))
    assert one.prefix == two.prefix


def test_only_ready_endpoints_are_servers() -> None:
    (backend,) = compiled(make_ingress("a", ("h.example", "Prefix", "/"))).backends.values()
    assert [server.address for server in backend.servers] == ["10.20.0.2"]


def test_other_classes_are_left_alone() -> None:
    routing = compiled(make_ingress("a", ("h.example", "Prefix", "/"), class_name="other"))
    assert routing.ours == frozenset()
    assert routing.problems == ()


def test_an_unknown_class_is_told_with_those_that_exist() -> None:
    (problem,) = compiled(make_ingress("a", ("h.example", "Prefix", "/"), class_name="nginx")).problems
    assert problem.reason == "IngressClassNotFound"
    assert "'nginx'" in problem.message
    assert "vrata" in problem.message


def test_without_a_class_the_default_class_decides() -> None:
    metadata = {"name": "vrata", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    default = msgspec.convert({"metadata": metadata, "spec": {"controller": CONTROLLER}}, IngressClass)
    ingress = make_ingress("a", ("h.example", "Prefix", "/"), class_name=None)
    assert compiled(ingress, classes=(default,)).ours == {"default/a"}
    assert compiled(ingress).ours == frozenset()


def test_the_older_ingress_keeps_a_path_and_the_younger_is_told() -> None:
    old = make_ingress("z-old", ("h.example", "Prefix", "/"), created="2026-01-01T00:00:00Z")
    young = make_ingress("a-young", ("h.example", "Prefix", "/"), created="2026-02-01T00:00:00Z")
    (problem,) = compiled(young, old).problems
    assert problem.ingress == "default/a-young"
    assert "default/z-old" in problem.message


def test_a_missing_service_or_port_is_told_and_nothing_else_suffers() -> None:
    backend = {"service": {"name": "none", "port": {"number": 80}}}
    bad = msgspec.convert(
        {
            "metadata": {"name": "bad", "namespace": "default"},
            "spec": {"ingressClassName": "vrata", "defaultBackend": backend},
        },
        Ingress,
    )
    routing = compiled(bad, make_ingress("good", ("h.example", "Prefix", "/")))
    assert [problem.reason for problem in routing.problems] == ["ServiceNotFound"]
    assert set(routing.prefix) == {"h.example|/"}


hostile = st.text(min_size=0, max_size=40) | st.sampled_from(
    ["/a\n  server x 1.2.3.4", "/ %[env(PATH)]", "/a } use_backend x", "/\\x0a", "/a b", "\r\nbind :1", "*.*.x", "a..b"]
)


@given(hostile, hostile)
def test_hostile_hosts_and_paths_are_data_or_left_out(host: str, path: str) -> None:
    routing = compiled(make_ingress("a", (host, "Prefix", path)), make_ingress("b", ("h.example", "Prefix", "/")))
    text = render_config(Settings(), routing, "/run/x")
    for line in text.splitlines():
        assert not line.strip().startswith(("bind :1", "server x"))
    for rows in render_maps(routing).values():
        for line in render_map_file(rows).splitlines():
            assert len(line.split(" ")) == 2, "one key, one value"
    assert "h.example|/" in routing.prefix


def observed_of(routing: Routing) -> Observed:
    servers = {(b.name, server.name): False for b in routing.backends.values() for server in b.servers}
    return Observed(frozenset(routing.backends), servers, render_maps(routing))


def test_a_settled_routing_needs_no_command() -> None:
    routing = compiled(make_ingress("a", ("h.example", "Prefix", "/")))
    assert plan_routing(observed_of(routing), routing) == []


def test_a_new_host_for_a_known_backend_needs_no_reload() -> None:
    old = compiled(make_ingress("a", ("h.example", "Prefix", "/")))
    new = compiled(make_ingress("a", ("h.example", "Prefix", "/"), ("new.example", "Exact", "/x")))
    kinds = {type(action) for action in plan_routing(observed_of(old), new)}
    assert kinds == {ReplaceMap}


def test_a_new_backend_reloads_once() -> None:
    empty = compiled()
    routing = compiled(make_ingress("a", ("h.example", "Prefix", "/")))
    (action,) = plan_routing(observed_of(empty), routing)
    assert isinstance(action, Reload)


def test_servers_are_added_revived_and_removed_live() -> None:
    routing = compiled(make_ingress("a", ("h.example", "Prefix", "/")))
    seen = observed_of(routing)
    (name,) = routing.backends
    gone = Observed(seen.backends, {(name, "s-old-1"): False}, seen.maps)
    assert [type(action) for action in plan_routing(gone, routing)] == [AddServer, RemoveServer]
    (server,) = seen.servers
    resting = Observed(seen.backends, {server: True}, seen.maps)
    assert [type(action) for action in plan_routing(resting, routing)] == [ReviveServer]
