"""What roles and bindings grant: nothing without a rule, and never more than who writes them has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.sandbox.apiserver.rbac import ADMINISTRATOR, AUTHENTICATED, Policy, User, Wish, account, covers, wish_of

Json = dict[str, Any]
WHO = account("shop", "worker")


def rule(verbs: str, resources: str, group: str = "", **more: list[str]) -> Json:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split(), **more}


def role(name: str, *rules: Json, namespace: str = "", **more: Any) -> Json:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"metadata": meta | more.pop("metadata", {}), "rules": list(rules), **more}


def binding(to: str, of: str = "ClusterRole", namespace: str = "", **subject: str) -> Json:
    subject = subject or {"kind": "ServiceAccount", "name": "worker", "namespace": "shop"}
    meta = {"name": to} | ({"namespace": namespace} if namespace else {})
    return {"metadata": meta, "roleRef": {"kind": of, "name": to}, "subjects": [subject]}


def policy(roles: list[Json], *bindings: Json) -> Policy:
    return Policy({(one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in roles}, bindings)


@pytest.mark.parametrize(
    ("granted", "wish", "covered"),
    [
        (rule("get", "pods"), Wish("get", "", "pods", "a", "x"), True),
        (rule("get", "pods"), Wish("list", "", "pods"), False),
        (rule("get", "pods"), Wish("get", "apps", "pods"), False),
        (rule("get", "pods"), Wish("get", "", "pods/log", "a"), False),
        (rule("get", "pods/log"), Wish("get", "", "pods/log", "a"), True),
        (rule("get", "pods/log"), Wish("get", "", "pods", "a"), False),
        (rule("get", "*/scale", "apps"), Wish("get", "apps", "deployments/scale", "a"), True),
        (rule("get", "*/scale", "apps"), Wish("get", "apps", "deployments", "a"), False),
        (rule("*", "*", "*"), Wish("delete", "apps", "deployments/scale", "a"), True),
        (rule("get", "secrets", resourceNames=["a"]), Wish("get", "", "secrets", "a"), True),
        (rule("get", "secrets", resourceNames=["a"]), Wish("get", "", "secrets", "b"), False),
        (rule("list create", "secrets", resourceNames=["a"]), Wish("list", "", "secrets"), False),
        (rule("list create", "secrets", resourceNames=["a"]), Wish("create", "", "secrets"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}, Wish("get", path="/metrics"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}, Wish("get", path="/metrics/x"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}, Wish("get", path="/logs/x"), True),
        (rule("*", "*", "*"), Wish("get", path="/metrics"), False),
    ],
)
def test_a_rule_covers_what_it_names(granted: Json, wish: Wish, *, covered: bool) -> None:
    assert covers(granted, wish) is covered


def test_a_cluster_role_binding_holds_everywhere_and_a_role_binding_in_its_namespace() -> None:
    reader = role("reader", rule("get", "pods"))
    everywhere, here = policy([reader], binding("reader")), policy([reader], binding("reader", namespace="shop"))
    for namespace, said in (("shop", True), ("other", False), ("", False)):
        wish = Wish("get", "", "pods", "a", namespace)
        assert everywhere.allows(WHO, wish)
        assert here.allows(WHO, wish) is said


def test_a_role_is_its_namespaces_alone() -> None:
    mine, other = role("r", rule("get", "pods"), namespace="shop"), role("r", rule("list", "pods"), namespace="other")
    found = policy([mine, other], binding("r", "Role", "shop"))
    assert found.allows(WHO, Wish("get", "", "pods", "a", "shop"))
    assert not found.allows(WHO, Wish("list", "", "pods", "", "shop"))
    assert not policy([], binding("gone", "Role", "shop")).allows(WHO, Wish("get", "", "pods", "a", "shop"))


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "Group", "name": "system:serviceaccounts"},
        {"kind": "Group", "name": "system:serviceaccounts:shop"},
        {"kind": "Group", "name": AUTHENTICATED},
        {"kind": "User", "name": "system:serviceaccount:shop:worker"},
    ],
)
def test_subjects_are_users_groups_and_accounts(subject: dict[str, str]) -> None:
    found = policy([role("reader", rule("get", "pods"))], binding("reader", **subject))
    assert found.allows(WHO, Wish("get", "", "pods", "a", "x"))
    assert not found.allows(User("somebody"), Wish("get", "", "pods", "a", "x"))


def test_an_account_of_that_name_elsewhere_is_another_one() -> None:
    found = policy([role("reader", rule("get", "pods"))], binding("reader"))
    assert not found.allows(account("other", "worker"), Wish("get", "", "pods", "a", "shop"))


def test_an_aggregated_role_has_the_rules_of_those_it_selects() -> None:
    part = role("part", rule("get", "pods"), metadata={"labels": {"to": "all"}})
    whole = role("all", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]})
    # As `edit` is a part of `admin`: one aggregated role may be a part of another, and of itself.
    labels = {"labels": {"to": "more", "and": "self"}}
    selectors = [{"matchLabels": {"to": "all"}}, {"matchLabels": {"and": "self"}}]
    nested = role("nested", metadata=labels, aggregationRule={"clusterRoleSelectors": selectors})
    found = policy([part, nested], binding("nested"))
    assert found.allows(WHO, Wish("get", "", "pods", "a", "x"))
    found = policy([part, whole], binding("all"))
    assert found.allows(WHO, Wish("get", "", "pods", "a", "x"))
    assert not policy([whole], binding("all")).allows(WHO, Wish("get", "", "pods", "a", "x"))


def test_everybody_who_has_logged_in_discovers_and_asks_about_rights() -> None:
    review = Wish("create", "authorization.k8s.io", "selfsubjectaccessreviews")
    for wish in (Wish("get", path="/apis/apps/v1"), review):
        assert policy([]).allows(WHO, wish)
        assert not policy([]).allows(User("nobody"), wish)
    assert not policy([]).allows(WHO, Wish("get", path="/metrics"))


def test_nobody_gives_a_right_that_is_not_theirs() -> None:
    own = role(
        "own", rule("get list", "pods"), rule("create update", "roles rolebindings", "rbac.authorization.k8s.io")
    )
    strong = role("strong", rule("*", "*", "*"))
    found = policy([own, strong], binding("own"))
    assert found.excess(WHO, "Role", role("fine", rule("get", "pods"), namespace="shop")) is None
    assert found.excess(WHO, "RoleBinding", binding("own", namespace="shop")) is None
    for more in (rule("delete", "pods"), rule("*", "pods"), rule("get", "*"), rule("get", "pods", "*")):
        assert found.excess(WHO, "Role", role("more", more, namespace="shop"))
    assert found.excess(WHO, "RoleBinding", binding("strong", namespace="shop"))
    assert found.excess(ADMINISTRATOR, "ClusterRoleBinding", binding("strong")) is None
    allowed = rule("bind", "clusterroles", "rbac.authorization.k8s.io", resourceNames=["strong"])
    binds = policy([own, strong, role("binder", allowed)], binding("own"), binding("binder"))
    assert binds.excess(WHO, "RoleBinding", binding("strong", namespace="shop")) is None


@pytest.mark.parametrize(
    ("method", "name", "query", "verb"),
    [
        ("GET", "a", {}, "get"),
        ("GET", "", {}, "list"),
        ("GET", "", {"watch": "true"}, "watch"),
        ("POST", "", {}, "create"),
        ("PUT", "a", {}, "update"),
        ("PATCH", "a", {}, "patch"),
        ("DELETE", "a", {}, "delete"),
        ("DELETE", "", {}, "deletecollection"),
    ],
)
def test_the_verb_follows_from_the_request(method: str, name: str, query: dict[str, str], verb: str) -> None:
    assert wish_of(method, "", "pods", "x", name, query) == Wish(verb, "", "pods", name, "x")


def test_a_list_of_one_name_may_be_granted_by_its_name() -> None:
    wish = wish_of("GET", "", "nodes", "", "", {"fieldSelector": "metadata.name=a", "watch": "1"})
    assert covers(rule("watch", "nodes", resourceNames=["a"]), wish)


_WORDS = st.sampled_from(["get", "list", "pods", "secrets", "", "apps", "a"])


@given(st.lists(st.tuples(_WORDS, _WORDS, _WORDS), max_size=4), _WORDS, _WORDS, _WORDS)
def test_rights_only_add_up(rules: list[tuple[str, str, str]], verb: str, group: str, resource: str) -> None:
    """More rules never take a right away, and none gives one that no rule names."""
    made = [{"verbs": [v], "apiGroups": [g], "resources": [r]} for v, g, r in rules]
    wish = Wish(verb, group, resource, "", "x")
    allowed = [policy([role("r", *made[:n])], binding("r")).allows(WHO, wish) for n in range(len(made) + 1)]
    assert allowed == sorted(allowed)
    assert allowed[-1] == ((verb, group, resource) in rules)
