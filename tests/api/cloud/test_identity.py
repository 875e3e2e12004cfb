"""Keystone v3: tokens by every method and scope, their end, roles, application credentials, the catalog."""

from typing import Any

import openstack
import pytest
from openstack import exceptions
from tests.support.cloud import DEMO, Cloud

TOKENS = "/identity/v3/auth/tokens"


def password(secret: str = DEMO, scope: Any = None, name: str = "demo") -> dict[str, Any]:
    user = {"name": name, "domain": {"id": "default"}, "password": secret}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    return {"auth": auth | ({} if scope is None else {"scope": scope})}


@pytest.mark.parametrize("body", [password("wrong"), password(name="nobody"), password(scope={"project": {"id": "x"}})])
def test_a_wrong_password_user_or_scope_is_one_and_the_same_401(cloud: Cloud, body: dict[str, Any]) -> None:
    status, said, headers = cloud.request("POST", TOKENS, body)
    assert (status, said["error"]["code"], said["error"]["title"]) == (401, 401, "Unauthorized")
    assert "www-authenticate" in headers


@pytest.mark.parametrize("body", [{}, {"auth": {}}, {"auth": {"identity": {"methods": ["password"]}}}, b"{", b"[]"])
def test_a_malformed_request_is_400(cloud: Cloud, body: Any) -> None:
    assert cloud.request("POST", TOKENS, body)[0] == 400


def test_a_token_is_unscoped_scoped_from_another_shown_and_revoked(cloud: Cloud) -> None:
    status, body, headers = cloud.request("POST", TOKENS, password())
    assert status == 201
    assert "project" not in body["token"]
    unscoped = headers["x-subject-token"]
    assert cloud.request("GET", "/network/v2.0/networks", None, {"X-Auth-Token": unscoped})[0] == 403
    auth = {
        "identity": {"methods": ["token"], "token": {"id": unscoped}},
        "scope": {"project": {"name": "demo", "domain": {"name": "Default"}}},
    }
    status, body, headers = cloud.request("POST", TOKENS, {"auth": auth})
    assert {role["name"] for role in body["token"]["roles"]} == {"member", "reader"}
    assert body["token"]["methods"] == ["password", "token"]
    both = {"X-Auth-Token": headers["x-subject-token"], "X-Subject-Token": headers["x-subject-token"]}
    assert cloud.request("GET", TOKENS, None, both)[1]["token"]["project"]["name"] == "demo"
    assert cloud.request("HEAD", TOKENS, None, both)[0] == 200
    assert cloud.request("DELETE", TOKENS, None, both)[0] == 204
    assert cloud.request("GET", TOKENS, None, both)[0] == 401


def test_the_catalog_follows_the_address_the_client_used(cloud: Cloud) -> None:
    headers = {"Host": "cloud.example:8780"}
    body = cloud.request(
        "POST", TOKENS, password(scope={"project": {"name": "demo", "domain": {"id": "default"}}}), headers
    )[1]
    urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in body["token"]["catalog"]}
    assert urls == {
        "identity": "http://cloud.example:8780/identity",
        "network": "http://cloud.example:8780/network",
        "load-balancer": "http://cloud.example:8780/load-balancer",
        "key-manager": "http://cloud.example:8780/key-manager",
        "compute": "http://cloud.example:8780/compute/v2.1",
    }


def test_an_application_credential_authenticates_and_can_not_make_another(cloud: Cloud, demo: Any, name: str) -> None:
    user = demo.current_user_id
    made = demo.identity.create_application_credential(user=user, name=name)
    connection: Any = openstack.connect(
        auth_type="v3applicationcredential", region_name="RegionOne",
        auth={
            "auth_url": f"{cloud.url}/identity/v3", "application_credential_id": made.id,
            "application_credential_secret": made.secret,
        },
    )  # fmt: skip
    assert isinstance(list(connection.network.networks()), list)
    with pytest.raises(exceptions.ForbiddenException):
        connection.identity.create_application_credential(user=user, name=f"{name}-2")
    token = {"X-Auth-Token": connection.auth_token}
    demo.identity.delete_application_credential(user, made.id)
    assert cloud.request("GET", "/network/v2.0/networks", None, token)[0] == 401
    connection.close()


def test_taking_a_role_away_works_at_once(cloud: Cloud, admin: Any, name: str) -> None:
    project = admin.identity.create_project(name=name, domain_id="default")
    user = admin.identity.create_user(name=name, domain_id="default", password="p")
    reader = admin.identity.find_role("reader")
    admin.identity.assign_project_role_to_user(project, user, reader)
    scope = {"project": {"id": project.id}}
    headers = {"X-Auth-Token": cloud.request("POST", TOKENS, password("p", scope, name))[2]["x-subject-token"]}
    assert cloud.request("GET", "/network/v2.0/ports", None, headers)[0] == 200
    assert cloud.request("POST", "/network/v2.0/networks", {"network": {}}, headers)[0] == 403
    admin.identity.unassign_project_role_from_user(project, user, reader)
    assert cloud.request("GET", "/network/v2.0/ports", None, headers)[0] == 403
    admin.identity.delete_user(user)
    assert cloud.request("GET", "/network/v2.0/ports", None, headers)[0] == 401
    admin.identity.delete_project(project)


def test_a_tenant_does_not_administer(demo: Any) -> None:
    with pytest.raises(exceptions.ForbiddenException):
        list(demo.identity.users())
    with pytest.raises(exceptions.ForbiddenException):
        demo.identity.create_project(name="mine")
