"""A host belongs to the namespace of its oldest Ingress: no Ingress of another one takes any of its requests."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.claims import read_ingress
from vrata.ingress.endpoints import service_of
from vrata.ingress.explain import found_rules
from vrata.ingress.rows import ANY
from vrata.ingress.table import HOST_CONFLICT, Table
from vrata.kube.objects import Ingress

NAMES = ["a.example", "b.example", "www.a.example", "*.example", ""]
HOSTS = ["a.example", "b.example", "c.example", "www.a.example", "www.b.example", "elsewhere.test"]
PATHS = ["/", "/x", "/x/y", "/z"]
REGEX = {"nginx.ingress.kubernetes.io/use-regex": "true"}
ALIAS = {"nginx.ingress.kubernetes.io/server-alias": "b.example"}
WWW = {"nginx.ingress.kubernetes.io/from-to-www-redirect": "true"}
BROKEN = {"nginx.ingress.kubernetes.io/server-snippet": "return 200;"}


@st.composite
def ingresses(draw: st.DrawFn) -> list[Ingress]:
    """Some of three namespaces, each younger than the one before."""
    made = []
    for number in range(draw(st.integers(1, 5))):
        paths = st.tuples(st.sampled_from(NAMES), st.sampled_from(["Prefix", "Exact"]), st.sampled_from(PATHS))
        one = make_ingress(
            f"i{number}",
            *draw(st.lists(paths, max_size=3)),
            namespace=draw(st.sampled_from(["red", "green", "blue"])),
            created=f"2026-01-{1 + number:02}T00:00:00Z",
            default=draw(st.sampled_from(["", "rest"])),
            annotations=draw(st.sampled_from([{}, {}, REGEX, ALIAS, WWW, BROKEN])),
        )
        made.append(one)
    return made


def table_of(made: list[Ingress], *, shared_hosts: bool = False) -> Table:
    table = Table(shared_hosts=shared_hosts)
    for one in made:
        table.put(one.metadata.key, read_ingress(one))
    table.settle()
    return table


def answer(table: Table, host: str, path: str) -> str:
    """Key of the Service that serves a request; empty: nobody."""
    found = found_rules(table, host, path)
    return service_of(found[0][3].backend) if found else ""


def answers(table: Table, host: str) -> list[str]:
    return [answer(table, host, path) for path in (*PATHS, "/x/y/z", "/nothing")]


def owner_of(made: list[Ingress], host: str) -> str:
    """The namespace of the oldest Ingress that names a host, in a rule or beside the host of a rule."""
    return next((one.metadata.namespace for one in made if host in named_by(one)), "")


def named_by(one: Ingress) -> set[str]:
    """Hosts of rules; for those that are one name, also its aliases and the one with or without `www.`."""
    ruled = {rule.host for rule in one.spec.rules}
    single = {host for host in ruled if host}
    words = one.metadata.annotations.items()
    aliases = {"b.example"} if single and ALIAS.items() <= words else set()
    www = {host[4:] if host.startswith("www.") else f"www.{host}" for host in single} if WWW.items() <= words else set()
    return ruled | aliases | www


@given(ingresses())
def test_requests_for_a_host_are_served_by_its_namespace_or_by_nobody(made: list[Ingress]) -> None:
    table = table_of(made)
    for host in HOSTS:
        owner = owner_of(made, host)
        if owner:
            assert {one.partition("/")[0] for one in answers(table, host)} <= {owner, ""}


@given(ingresses(), st.integers(0, 4))
def test_what_others_add_later_changes_nothing_for_a_host(made: list[Ingress], count: int) -> None:
    before = made[: max(1, count)]
    for host in HOSTS:
        owner = owner_of(before, host)
        later = [one for one in made[len(before) :] if one.metadata.namespace != owner]
        if owner:
            for old, new in zip(answers(table_of(before), host), answers(table_of(before + later), host), strict=True):
                # A default backend beside rules for other hosts answers only until a namespace has a rule for every host.
                assert new == old or (not new and old == f"{owner}/rest")


@given(ingresses(), st.randoms())
def test_the_order_in_which_ingresses_are_listed_does_not_matter(made: list[Ingress], random: object) -> None:
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert table_of([*shuffled, *shuffled[:2]]).hosts == table_of(made).hosts


def edited(one: Ingress, other: Ingress) -> Ingress:
    """The first with the rules of the second: it keeps its name and its age."""
    return msgspec.structs.replace(one, spec=other.spec)


@given(ingresses(), ingresses(), st.permutations(range(5)))
def test_no_edit_takes_a_host_from_its_namespace_not_even_over_a_restart(
    made: list[Ingress], others: list[Ingress], order: list[int]
) -> None:
    table, now = table_of(made), {one.metadata.key: one for one in made}
    for number in order:
        if number >= len(made) or number >= len(others):
            continue
        before = {host: table.namespace_of(host) for host in (*HOSTS, "*.example", ANY)}
        one = now[made[number].metadata.key] = edited(made[number], others[number])
        table.put(one.metadata.key, read_ingress(one))
        table.settle()
        for host, owner in before.items():
            asking = [read_ingress(each) for each in now.values() if each.metadata.namespace == owner]
            if any(host in each.named or (host == ANY and each.default) for each in asking):
                assert table.namespace_of(host) == owner
        again = Table()
        again.remember(table.kept)
        for each in now.values():
            again.put(each.metadata.key, read_ingress(each))
        again.settle()
        assert again.hosts == table.hosts
        assert again.kept == table.kept


def test_an_edit_of_an_old_ingress_takes_neither_a_host_nor_every_host() -> None:
    old = make_ingress("old", ("old.example", "Prefix", "/"), namespace="blue", created="2020-01-01T00:00:00Z")
    mine = make_ingress("mine", ("h.example", "Prefix", "/"), ("", "Prefix", "/"), namespace="red")
    table = table_of([old, mine])
    grown = make_ingress(
        "old",
        *(("old.example", "Prefix", "/"), ("h.example", "Prefix", "/x")),
        namespace="blue",
        created="2020-01-01T00:00:00Z",
        default="rest",
    )
    table.put("blue/old", read_ingress(grown))
    table.settle()
    assert answer(table, "h.example", "/x") == answer(table, "elsewhere.test", "/") == "red/web"
    assert table.kept == {"h.example": "red"}, "a default backend beside rules takes every host from nobody anyway"
    assert any(one.reason == HOST_CONFLICT and one.ingress == "blue/old" for one in table.hosts["h.example"].problems)


@given(ingresses())
def test_who_is_refused_is_told_with_the_owner_and_the_remedy(made: list[Ingress]) -> None:
    table = table_of(made)
    for one in made:
        hosts = {
            rule.host
            for rule in one.spec.rules
            if rule.host and BROKEN.items().isdisjoint(one.metadata.annotations.items())
        }
        for host in hosts:
            told = [problem for problem in table.hosts[host].problems if problem.reason == HOST_CONFLICT]
            refused = owner_of(made, host) != one.metadata.namespace
            assert refused == any(problem.ingress == one.metadata.key for problem in told)
            assert all(
                owner_of(made, host) in problem.message and "--shared-hosts" in problem.message for problem in told
            )


@pytest.mark.parametrize(("words", "host"), [(ALIAS, "b.example"), (WWW, "www.a.example")])
def test_a_younger_ingress_of_another_namespace_takes_no_name_beside_the_host_of_a_rule(
    words: dict[str, str], host: str
) -> None:
    mine = make_ingress(
        "mine", ("a.example", "Prefix", "/"), namespace="red", created="2026-01-01T00:00:00Z", annotations=words
    )
    theirs = make_ingress("theirs", (host, "Prefix", "/"), namespace="blue", created="2026-02-01T00:00:00Z")
    table = table_of([mine, theirs])
    before = table_of([mine])
    assert answers(table, host) == answers(before, host)
    (told,) = table.hosts[host].problems
    assert told.ingress == "blue/theirs"
    assert "belongs to the namespace of Ingress red/mine" in told.message


MINE = make_ingress("mine", ("h.example", "Prefix", "/admin"), namespace="red", created="2026-01-01T00:00:00Z")
ATTACKS = {
    "a longer prefix": (("h.example", "Prefix", "/.well-known/acme-challenge"), {}),
    "regular expressions": (("h.example", "Prefix", "/.*"), REGEX),
    "a wildcard": (("*.example", "Prefix", "/"), {}),
    "no host": (("", "Prefix", "/"), {}),
    "an alias": (("other.test", "Prefix", "/"), {"nginx.ingress.kubernetes.io/server-alias": "h.example"}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_younger_ingress_of_another_namespace_takes_nothing_unless_hosts_are_shared(attack: str) -> None:
    path, words = ATTACKS[attack]
    theirs = make_ingress(
        "theirs", path, namespace="blue", created="2026-02-01T00:00:00Z", annotations=words, default="rest"
    )
    asked = "/.well-known/acme-challenge/x"
    table, shared = table_of([MINE, theirs]), table_of([MINE, theirs], shared_hosts=True)
    assert answer(table, "h.example", asked) == ""
    assert answer(table, "h.example", "/admin") == "red/web"
    assert answer(shared, "h.example", asked).startswith("blue/")


def test_a_default_backend_answers_what_no_rule_of_its_own_hosts_is_for() -> None:
    older = make_ingress("older", namespace="red", created="2025-01-01T00:00:00Z", default="everybodys")
    mine = make_ingress(
        "mine", ("h.example", "Prefix", "/x"), ("bare.example", "Exact", "/"), namespace="blue", default="own"
    )
    for shared_hosts in (False, True):
        table = table_of([older, mine], shared_hosts=shared_hosts)
        assert answer(table, "h.example", "/x") == "blue/web"
        assert answer(table, "h.example", "/y") == answer(table, "bare.example", "/y") == "blue/own"
        assert answer(table, "elsewhere.test", "/") == "red/everybodys"
    assert not any(problem.ingress == "blue/mine" for problem in table_of([older, mine]).hosts[ANY].problems)


def test_an_ingress_that_is_left_out_keeps_its_host() -> None:
    """A mistake in an annotation does not give its users to somebody else."""
    broken = make_ingress(
        "mine", ("h.example", "Prefix", "/"), namespace="red", created="2026-01-01T00:00:00Z", annotations=BROKEN
    )
    theirs = make_ingress(
        "theirs", ("h.example", "Prefix", "/"), namespace="blue", created="2026-02-01T00:00:00Z", default="web"
    )
    assert answer(table_of([broken, theirs]), "h.example", "/") == ""
