"""What is kept by what changed is what would be worked out from everything."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.claims import read_ingress
from vrata.ingress.model import BackendKey
from vrata.ingress.rows import ANY
from vrata.ingress.table import Rows, Table
from vrata.kube.objects import Ingress

WEB, SHOP = BackendKey("default/web:80"), BackendKey("default/shop:80")


def table_of(*ingresses: Ingress) -> Table:
    table = Table()
    for ingress in ingresses:
        table.put(ingress.metadata.key, read_ingress(ingress))
    return table


def test_the_older_ingress_keeps_a_path_and_the_younger_is_told() -> None:
    old = make_ingress("z-old", ("h.example", "Prefix", "/", "web"), created="2026-01-01T00:00:00Z")
    young = make_ingress("a-young", ("h.example", "Prefix", "/", "shop"), created="2026-02-01T00:00:00Z")
    table = table_of(young, old)
    assert table.settle().hosts == {"h.example": {"h.example/": WEB}}
    (problem,) = table.problems["h.example"]
    assert problem.ingress == "default/a-young"
    assert "default/z-old" in problem.message
    table.put("default/z-old", None)
    assert table.settle().hosts == {"h.example": {"h.example/": SHOP}}
    assert not table.problems


def test_a_conflict_without_any_other_change_is_looked_at() -> None:
    table = table_of(make_ingress("a", ("h.example", "Prefix", "/", "web")))
    table.settle()
    young = make_ingress("b", ("h.example", "Prefix", "/", "shop"), created="2026-02-01T00:00:00Z")
    table.put("default/b", read_ingress(young))
    change = table.settle()
    assert not change.hosts
    assert change.looked_at == {"h.example"}
    assert table.problems["h.example"]


def test_a_rule_for_everything_leaves_the_default_backend_nothing() -> None:
    table = table_of(make_ingress("a", default="shop"))
    assert table.settle().hosts == {ANY: {f"{ANY}/": SHOP}}
    table.put("default/b", read_ingress(make_ingress("b", ("", "Prefix", "/", "web"))))
    assert table.settle().hosts == {ANY: {f"{ANY}/": WEB}}


def test_of_two_default_backends_the_older_one_serves_and_the_other_is_told() -> None:
    table = table_of(
        make_ingress("a", default="shop", created="2026-02-01T00:00:00Z"),
        make_ingress("b", default="web", created="2026-01-01T00:00:00Z"),
    )
    assert table.settle().hosts == {ANY: {f"{ANY}/": WEB}}
    (problem,) = table.problems[ANY]
    assert (problem.ingress, problem.reason) == ("default/a", "DefaultConflict")


def test_what_is_wrong_with_a_backend_is_told_to_whoever_names_it() -> None:
    table = table_of(make_ingress("a", ("h.example", "Prefix", "/")), make_ingress("b", default="web"))
    told = table.told(WEB, "ServiceNotFound", "service.name: no Service")
    assert sorted(problem.message for problem in told) == [
        "spec.defaultBackend.service.name: no Service",
        "spec.rules[0].http.paths[0].backend.service.name: no Service",
    ]


names = st.sampled_from(["a", "b", "c"])
paths = st.tuples(
    st.sampled_from(["h.example", "g.example", ""]),
    st.sampled_from(["Exact", "Prefix"]),
    st.sampled_from(["/", "/a", "/a/b"]),
    st.sampled_from(["web", "shop"]),
)
put = st.tuples(names, st.none() | st.tuples(st.lists(paths, max_size=3), st.sampled_from(["", "web", "shop"])))


@given(st.lists(st.lists(put, max_size=3), max_size=6))
def test_changes_add_up_to_the_whole(
    passes: list[list[tuple[str, tuple[list[tuple[str, str, str, str]], str] | None]]],
) -> None:
    table, now = Table(), dict[str, Ingress]()
    served: dict[str, Rows] = {}
    backends: set[BackendKey] = set()
    for changes in passes:
        for name, what in changes:
            if what is None:
                now.pop(name, None)
                table.put(f"default/{name}", None)
            else:
                now[name] = make_ingress(name, *what[0], default=what[1])
                table.put(f"default/{name}", read_ingress(now[name]))
        change = table.settle()
        served |= change.hosts
        assert not change.added & backends
        backends = (backends | change.added) - change.removed
    whole = table_of(*now.values())
    change = whole.settle()
    assert {host: rows for host, rows in served.items() if rows} == change.hosts == table.rows
    assert backends == change.added == table.backends
    assert table.problems == whole.problems
    assert table.backends_of("default/web") == whole.backends_of("default/web")
