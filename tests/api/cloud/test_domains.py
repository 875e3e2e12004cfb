"""What ends a token, what a role implies, who changes a password: Keystone v3's administration."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud, wait_for

PASSWORD = "p"
TOKENS = "/identity/v3/auth/tokens"


class Somebody(SimpleNamespace):
    """A user with a role in a project, both in a domain of their own."""

    cloud: Cloud
    user: Any
    project: Any
    domain: Any

    def login(self, secret: str = PASSWORD, scope: Any = "project") -> str | None:
        """A token, None when refused."""
        auth: dict[str, Any] = {
            "identity": {"methods": ["password"], "password": {"user": {"id": self.user.id, "password": secret}}}
        }
        auth["scope"] = {"project": {"id": self.project.id}} if scope == "project" else scope
        status, _, headers = self.cloud.request("POST", TOKENS, {"auth": auth}, timeout_s=30.0)
        assert status in {201, 401}
        return headers["x-subject-token"] if status == 201 else None

    def works(self, token: str | None) -> bool:
        """Whether the token is good for anything."""
        answer = self.cloud.request("GET", "/network/v2.0/networks", None, {"X-Auth-Token": token or ""}, 30.0)
        return answer[0] == 200


@pytest.fixture
def somebody(cloud: Cloud, admin: Any, name: str) -> Iterator[Somebody]:
    domain = admin.identity.create_domain(name=name)
    project = admin.identity.create_project(name=name, domain_id=domain.id)
    user = admin.identity.create_user(name=name, domain_id=domain.id, password="p")
    admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role("member"))
    yield Somebody(cloud=cloud, user=user, project=project, domain=domain)
    admin.identity.update_domain(domain, is_enabled=False)
    admin.identity.delete_domain(domain)
    assert admin.identity.find_user(user.id) is None


@pytest.mark.parametrize("kind", ["user", "project", "domain"])
def test_disabling_ends_tokens_for_good(admin: Any, somebody: Somebody, kind: str) -> None:
    token = somebody.login()
    assert somebody.works(token)
    update = getattr(admin.identity, f"update_{kind}")
    update(getattr(somebody, kind), is_enabled=False)
    assert not somebody.works(token)
    assert somebody.login() is None
    update(getattr(somebody, kind), is_enabled=True)
    assert not somebody.works(token)
    assert somebody.works(somebody.login())


def test_a_user_changes_their_own_password_and_older_tokens_end(cloud: Cloud, somebody: Somebody) -> None:
    token = somebody.login()
    path = f"/identity/v3/users/{somebody.user.id}/password"

    def change(old: Any, new: Any) -> int:
        body = {"user": {"original_password": old, "password": new}}
        return cloud.request("POST", path, body, timeout_s=30.0)[0]

    assert [change("wrong", "q"), change("p", "p"), change("p", None), change("p", "x" * 1025)] == [401, 400, 400, 400]
    assert somebody.works(token)
    assert change("p", "q") == 204
    assert not somebody.works(token)
    assert somebody.login("p") is None
    assert somebody.works(somebody.login("q"))


def test_an_application_credential_ends_with_its_time_and_carries_no_more_than_its_roles(
    cloud: Cloud, demo: Any, name: str
) -> None:
    user = demo.current_user_id
    later = datetime.now(UTC) + timedelta(hours=1)
    made = demo.identity.create_application_credential(
        user, name=name, roles=[{"name": "reader"}], expires_at=later.isoformat()
    )
    soon = datetime.now(UTC) + timedelta(seconds=5)  # enough for a busy machine to make it
    brief = demo.identity.create_application_credential(user, name=f"{name}-brief", expires_at=soon.isoformat())

    def login(one: Any) -> tuple[int, Any, dict[str, str]]:
        key = {"id": one.id, "secret": one.secret}
        auth = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": key}}}
        return cloud.request("POST", TOKENS, auth, timeout_s=30.0)

    status, said, headers = login(made)
    assert (status, [role["name"] for role in said["token"]["roles"]]) == (201, ["reader"])
    assert datetime.fromisoformat(said["token"]["expires_at"]) <= later
    token = {"X-Auth-Token": headers["x-subject-token"]}
    assert cloud.request("POST", "/network/v2.0/networks", {"network": {}}, token, 30.0)[0] == 403
    wait_for(lambda: login(brief)[0] == 401)
    for one in (made, brief):
        demo.identity.delete_application_credential(user, one.id)
    assert cloud.request("GET", "/network/v2.0/networks", None, token, 30.0)[0] == 401
    for wrong in ({"expires_at": "2001-01-01T00:00:00"}, {"expires_at": "soon"}, {"roles": [{"name": "admin"}]},
                  {"roles": "reader"}, {"access_rules": [{"path": "/"}]}):  # fmt: skip
        body = {"application_credential": {"name": name, **wrong}}
        path = f"/identity/v3/users/{user}/application_credentials"
        assert cloud.request("POST", path, body, {"X-Auth-Token": cloud.token()}, 30.0)[0] == 400, wrong


def test_a_token_for_the_system_and_for_a_domain(cloud: Cloud, admin: Any, somebody: Somebody) -> None:
    reader = admin.identity.find_role("reader")
    system: Any = {"system": {"all": True}}
    assert somebody.login(scope=system) is None
    admin.identity.assign_system_role_to_user(somebody.user, reader, "all")
    token = somebody.login(scope=system)
    both = {"X-Auth-Token": token or "", "X-Subject-Token": token or ""}
    said = cloud.request("GET", TOKENS, None, both, 30.0)[1]["token"]
    assert (said["system"], [role["name"] for role in said["roles"]]) == ({"all": True}, ["reader"])
    mine = cloud.request("GET", "/identity/v3/auth/system", None, {"X-Auth-Token": token or ""}, 30.0)[1]
    assert mine["system"] == [{"all": True}]
    admin.identity.unassign_system_role_from_user(somebody.user, reader, "all")
    assert somebody.login(scope=system) is None
    domain = {"domain": {"id": somebody.domain.id}}
    assert somebody.login(scope=domain) is None
    admin.identity.assign_domain_role_to_user(somebody.domain, somebody.user, reader)
    assert somebody.login(scope=domain) is not None


def test_roles_imply_roles(cloud: Cloud, admin: Any, somebody: Somebody, name: str) -> None:
    headers = {"X-Auth-Token": cloud.token("admin")}
    ids = {role: admin.identity.find_role(role).id for role in ("admin", "member", "reader")}

    def ask(method: str, prior: str, implied: str) -> tuple[int, Any]:
        return cloud.request(method, f"/identity/v3/roles/{prior}/implies/{implied}", None, headers, 30.0)[:2]

    rules = cloud.request("GET", "/identity/v3/role_inferences", None, headers, 30.0)[1]["role_inferences"]
    edges = {(one["prior_role"]["name"], implied["name"]) for one in rules for implied in one["implies"]}
    assert {("admin", "member"), ("member", "reader")} <= edges
    assert ask("PUT", ids["admin"], ids["member"])[0] == 201
    assert ask("DELETE", ids["admin"], ids["member"])[0] == 403
    assert ask("PUT", ids["member"], ids["admin"])[0] == 403
    assert ask("GET", ids["reader"], ids["member"])[0] == 404
    role = admin.identity.create_role(name=name)
    admin.identity.assign_project_role_to_user(somebody.project, somebody.user, role)
    admin.identity.unassign_project_role_from_user(somebody.project, somebody.user, admin.identity.find_role("member"))
    token = somebody.login()
    assert not somebody.works(token)
    assert ask("PUT", role.id, ids["reader"])[0] == 201
    assert somebody.works(token)
    assert ask("HEAD", role.id, ids["reader"])[0] == 200
    effective = admin.identity.role_assignments(user_id=somebody.user.id, effective=True)
    assert {one.role["id"] for one in effective} == {role.id, ids["reader"]}
    assert ask("DELETE", role.id, ids["reader"])[0] == 204
    assert not somebody.works(token)
    admin.identity.delete_role(role)
    for immutable in ids.values():
        with pytest.raises(exceptions.ForbiddenException, match="immutable"):
            admin.identity.delete_role(immutable)


def test_there_are_no_groups_and_the_default_domain_stays(cloud: Cloud, admin: Any, demo: Any) -> None:
    assert list(admin.identity.groups()) == []
    assert admin.identity.find_group("x") is None
    headers = {"X-Auth-Token": cloud.token("admin")}
    body = {"group": {"name": "x"}}
    assert cloud.request("POST", "/identity/v3/groups", body, headers, 30.0)[0] == 501
    assert (
        cloud.request("GET", f"/identity/v3/users/{demo.current_user_id}/groups", None, headers, 30.0)[1]["groups"]
        == []
    )
    with pytest.raises(exceptions.ForbiddenException, match="administrator is in it"):
        admin.identity.update_domain("default", is_enabled=False)
    assert [one.id for one in demo.identity.domains()] == ["default"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("projects", {"project": {"name": "x" * 256}}),
        ("projects", {"project": {"name": "x", "tags": [1]}}),
        ("projects", {"project": {"name": "x", "enabled": "yes"}}),
        ("projects", {"project": {"name": "x\0y"}}),
        ("users", {"user": {"name": "x", "password": "p" * 1025}}),
        ("users", {"user": {"name": "x", "description": "d" * 1025}}),
        ("domains", {"domain": {}}),
        ("roles", {}),
    ],
)
def test_identity_that_makes_no_sense_is_400(cloud: Cloud, path: str, body: Any) -> None:
    headers = {"X-Auth-Token": cloud.token("admin")}
    assert cloud.request("POST", f"/identity/v3/{path}", body, headers, 30.0)[0] == 400
