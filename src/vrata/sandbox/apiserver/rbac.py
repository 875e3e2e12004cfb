"""Who may do what: roles and bindings of rbac.authorization.k8s.io, decided without I/O.

Kubernetes documentation, «Using RBAC Authorization»: rights only add up. A ClusterRoleBinding grants everywhere, a
RoleBinding in its namespace. Who writes a role or a binding must have every right in it, or the verb `escalate` or
`bind` on it. Nobody is asked about the group system:masters: it may do everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.selectors import label_selector_matches

GROUP: Final = "rbac.authorization.k8s.io"
MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
ACCOUNTS: Final = "system:serviceaccounts"
ACCOUNT: Final = "system:serviceaccount:"
# What the bindings that every cluster begins with, system:discovery and system:basic-user, give all who have logged in.
_ALL: Final[tuple[Obj, ...]] = (
    {
        "verbs": ["get"],
        "nonResourceURLs": ["/", "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/openapi",
                            "/openapi/*", "/version", "/version/"],
    },
    {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews"]},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()


def account(namespace: str, name: str) -> User:
    """The user that a ServiceAccount's token proves."""
    return User(f"{ACCOUNT}{namespace}:{name}", (ACCOUNTS, f"{ACCOUNTS}:{namespace}", AUTHENTICATED))


ADMINISTRATOR: Final = User("kubernetes-admin", (MASTERS, AUTHENTICATED))


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `resource` has its subresource behind a slash; `path` is set where it is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f'{self.verb} path "{self.path}"'
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return f'{self.verb} resource "{self.resource}" in API group "{self.group}" {where}'


def _has(rule: Obj, field: str, wanted: str) -> bool:
    return wanted in (given := rule.get(field) or ()) or "*" in given


def covers(rule: Obj, wish: Wish) -> bool:
    """Whether a rule grants a wish."""
    if not _has(rule, "verbs", wish.verb):
        return False
    if wish.path:
        return any(
            url in (wish.path, "*") or (url.endswith("*") and wish.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or ()
        )
    _, _, sub = wish.resource.partition("/")
    resources = rule.get("resources") or ()
    named = rule.get("resourceNames") or ()
    return (
        _has(rule, "apiGroups", wish.group)
        and (wish.resource in resources or "*" in resources or bool(sub and f"*/{sub}" in resources))
        and (not named or wish.name in named)
    )


def rules_of(role: Obj, cluster_roles: Iterable[Obj]) -> list[Obj]:
    """A role's rules; those of an aggregated ClusterRole are the ones of all that its selectors match."""
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors:
        return list(role.get("rules") or ())
    others = [one for one in cluster_roles if one is not role]
    matching = (
        one
        for one in others
        if any(label_selector_matches(entry, one["metadata"].get("labels") or {}) for entry in selectors)
    )
    return [rule for one in matching for rule in rules_of(one, others)]


def wishes_of(rules: Sequence[Obj], namespace: str) -> Iterator[Wish]:
    """Every single right in these rules, stars as they are."""
    for rule in rules:
        for verb, url in product(rule.get("verbs") or (), rule.get("nonResourceURLs") or ()):
            yield Wish(verb, path=url)
        parts = (rule.get(one) or () for one in ("verbs", "apiGroups", "resources"))
        for verb, group, resource in product(*parts):
            for name in rule.get("resourceNames") or ("",):
                yield Wish(verb, group, resource, name, namespace)


@dataclass(frozen=True)
class Policy:
    """All roles and bindings of a moment; roles by (namespace, name), with no namespace for ClusterRoles."""

    roles: Mapping[tuple[str, str], Obj]
    bindings: Sequence[Obj]

    def rules(self, user: User, namespace: str) -> Iterator[Obj]:
        """The rules that hold for a user there."""
        if AUTHENTICATED in user.groups:
            yield from _ALL
        for binding in self.bindings:
            at = binding["metadata"].get("namespace", "")
            if at in ("", namespace) and any(_is(one, user) for one in binding.get("subjects") or ()):
                yield from self.referred(binding.get("roleRef") or {}, at)

    def referred(self, reference: Obj, namespace: str) -> list[Obj]:
        """The rules behind a roleRef; none if there is no such role."""
        at = namespace if reference.get("kind") == "Role" else ""
        role = self.roles.get((at, str(reference.get("name"))))
        return rules_of(role, (one for (where, _), one in self.roles.items() if not where)) if role else []

    def allows(self, user: User, wish: Wish) -> bool:
        """Whether the user may."""
        return MASTERS in user.groups or any(covers(rule, wish) for rule in self.rules(user, wish.namespace))

    def excess(self, user: User, kind: str, obj: Obj) -> Wish | None:
        """A right that a role or binding would give beyond those of the user who writes it; None if there is none."""
        if MASTERS in user.groups:
            return None
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")
        if kind.endswith("Binding"):
            reference = obj.get("roleRef") or {}
            plural = f"{str(reference.get('kind')).lower()}s"
            about = Wish("bind", GROUP, plural, str(reference.get("name")), namespace)
            given = self.referred(reference, namespace)
        else:
            about = Wish("escalate", GROUP, f"{kind.lower()}s", name, namespace)
            given = rules_of(obj, (one for (where, _), one in self.roles.items() if not where))
        if self.allows(user, about):
            return None
        return next((one for one in wishes_of(given, namespace) if not self._holds(user, one)), None)

    def _holds(self, user: User, wish: Wish) -> bool:
        """As `allows`, of a right that may have stars: only a rule with the same star grants it."""
        return any(covers(rule, wish) for rule in self.rules(user, wish.namespace))


def _is(subject: Obj, user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return subject.get("name") == user.name
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            return f"{ACCOUNT}{subject.get('namespace')}:{subject.get('name')}" == user.name
    return False


def wish_of(method: str, group: str, resource: str, namespace: str, name: str, query: Mapping[str, Any]) -> Wish:
    """The right that a request for a resource needs (documentation, «Determine the Request Verb»)."""
    match method:
        case "GET" if name:
            verb = "get"
        case "GET":
            verb = "watch" if query.get("watch") in ("true", "1") else "list"
            for term in str(query.get("fieldSelector") or "").split(","):
                if term.startswith("metadata.name="):  # a list of one: its name may be a rule's
                    name = term.partition("=")[2].lstrip("=")
        case "DELETE":
            verb = "delete" if name else "deletecollection"
        case _:
            verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())
    return Wish(verb, group, resource, name, namespace)


def as_create(wish: Wish) -> Wish:
    """What a server-side apply needs besides, where the object is not there yet."""
    return replace(wish, verb="create", name="")
