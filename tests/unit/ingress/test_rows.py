"""A request finds the row that the Ingress v1 documentation gives it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.model import Place, RowKey
from vrata.ingress.rows import (
    ANY,
    exact_row,
    find_rows,
    listed_patterns,
    pattern_of,
    plain_rows,
    prefix_row,
    read_patterns,
)


def find_row(rows: set[RowKey], host: str, path: str) -> RowKey | None:
    return next(iter(find_rows(rows, host, path)), None)


# The table of the documentation («Ingress», Path types, Examples): kind, paths, request, whether it matches.
EXAMPLES = [
    ("Prefix", ["/"], "/any/path", True),
    ("Exact", ["/foo"], "/foo", True),
    ("Exact", ["/foo"], "/bar", False),
    ("Exact", ["/foo"], "/foo/", False),
    ("Exact", ["/foo/"], "/foo", False),
    ("Prefix", ["/foo"], "/foo", True),
    ("Prefix", ["/foo"], "/foo/", True),
    ("Prefix", ["/foo/"], "/foo", True),
    ("Prefix", ["/foo/"], "/foo/", True),
    ("Prefix", ["/aaa/bb"], "/aaa/bbb", False),
    ("Prefix", ["/aaa/bbb"], "/aaa/bbb", True),
    ("Prefix", ["/aaa/bbb/"], "/aaa/bbb", True),
    ("Prefix", ["/aaa/bbb"], "/aaa/bbb/", True),
    ("Prefix", ["/aaa/bbb"], "/aaa/bbb/ccc", True),
    ("Prefix", ["/aaa/bbb"], "/aaa/bbbxyz", False),
    ("Prefix", ["/", "/aaa"], "/aaa/ccc", True),
    ("Prefix", ["/aaa"], "/ccc", False),
]


def row(kind: str, host: str, path: str) -> RowKey:
    return exact_row(host, path) if kind == "Exact" else prefix_row(host, path)


@pytest.mark.parametrize(("kind", "paths", "asked", "matches"), EXAMPLES)
def test_the_examples_of_the_documentation_hold(kind: str, paths: list[str], asked: str, *, matches: bool) -> None:
    found = find_row({row(kind, "h.example", path) for path in paths}, "h.example", asked)
    assert (found is not None) == matches


def test_the_longest_prefix_wins_and_exact_over_prefix() -> None:
    rows = {row("Prefix", "h", "/"), row("Prefix", "h", "/a"), row("Prefix", "h", "/a/b"), row("Exact", "h", "/a/b")}
    assert find_row(rows, "h", "/a/b") == exact_row("h", "/a/b")
    assert find_row(rows, "h", "/a/b/") == prefix_row("h", "/a/b")
    assert find_row(rows, "h", "/a/c") == prefix_row("h", "/a")


def test_a_wildcard_covers_one_label_and_yields_to_the_full_name() -> None:
    rows = {prefix_row("*.foo.com", "/"), prefix_row("bar.foo.com", "/x")}
    assert find_row(rows, "bar.foo.com", "/x") == "bar.foo.com/x/"
    assert find_row(rows, "bar.foo.com", "/y") == "*.foo.com/"
    assert find_row(rows, "baz.bar.foo.com", "/") is None
    assert find_row(rows, "foo.com", "/") is None


segment = st.sampled_from(["a", "ab", "b", ""])
path = st.lists(segment, max_size=3).map(lambda parts: "/" + "/".join(parts))
rule = st.tuples(st.sampled_from(["Exact", "Prefix"]), st.sampled_from(["h.example", "*.example", ANY]), path)


def said(kind: str, rule_path: str, asked: str) -> bool:
    """Whether a path matches, in the words of the documentation."""
    if kind == "Exact":
        return rule_path == asked
    elements = [part for part in rule_path.split("/") if part] if rule_path.strip("/") else []
    return "".join(f"/{part}" for part in asked.split("/")[1:]).startswith(
        "".join(f"/{part}" for part in elements)
    ) and (asked.split("/")[1 : len(elements) + 1] == elements)


@given(st.lists(rule, max_size=6), path)
def test_no_rule_of_a_nearer_host_or_a_longer_path_is_passed_over(
    rules: list[tuple[str, str, str]], asked: str
) -> None:
    rules = [one for one in rules if "//" not in one[2]]  # which the API server refuses
    if "//" in asked:
        return
    found = find_row({row(*one) for one in rules}, "h.example", asked)
    order = ["h.example", "*.example", ANY]
    matching = sorted(
        (
            (order.index(host), -len(rule_path.rstrip("/")), kind != "Exact", row(kind, host, rule_path))
            for kind, host, rule_path in rules
            if said(kind, rule_path, asked)
        ),
    )
    exact = [one for one in matching if not one[2] and one[0] == matching[0][0]]
    assert found == ((exact or matching)[0][3] if matching else None)


patterns = st.lists(
    st.tuples(st.sampled_from(["/a", "/a|b", "/[a-z]+$"]), st.sampled_from(["b-000000", "to-https"])), max_size=12
)


@given(st.dictionaries(st.sampled_from(["a.example", "*.example", ANY]), patterns.filter(bool)), st.randoms())
def test_patterns_are_read_in_the_order_in_which_they_were_listed(
    hosts: dict[str, list[tuple[str, str]]], random: object
) -> None:
    wanted = {host: tuple((pattern_of(host, one), Place(where)) for one, where in some) for host, some in hosts.items()}
    rows = [row for host, some in wanted.items() for row in listed_patterns(host, some)]
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert read_patterns(dict(rows)) == wanted
    for host, some in wanted.items():
        said = {tuple(text.split(" ", 2)[:2]) for key, text in rows if key.startswith(f"{host}/")}
        assert len(said) == 1, "all of a host's say the same version"
        assert said != {tuple(text.split(" ", 2)[:2]) for _, text in listed_patterns(host, some[1:])}


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/%41dMin", {"/%41dMin", "/%41dmin", "/AdMin", "/admin"}),
        ("/%C3%A4b", {"/%C3%A4b", "/%c3%a4b"}),
        ("/a%20b", {"/a%20b"}),
    ],
)
def test_a_path_has_a_row_for_each_way_in_which_servers_read_it(path: str, rows: set[str]) -> None:
    assert set(plain_rows(prefix_row("h", path))) == {f"h{one}/" for one in rows}
