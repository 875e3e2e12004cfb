"""Barbican v1: secrets come back as they went in, to those who may; nothing readable lies in the database."""

import base64
from typing import Any

import pytest
import sqlalchemy as sa
from tests.api.cloud.test_identity import password
from tests.support.cloud import Cloud
from tests.support.pki import issue

from vrata.cloud.keymanager.tables import secrets

V1 = "/key-manager/v1"


def ask(cloud: Cloud, method: str, path: str, body: Any = None, user: str = "demo", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return cloud.request(method, V1 + path, body, {"X-Auth-Token": cloud.token(user), **named})


def store(cloud: Cloud, payload: str, kind: str = "text/plain") -> str:
    """The id of a new secret."""
    body = {"name": "test", "payload": payload, "payload_content_type": kind}
    if kind != "text/plain":
        body["payload_content_encoding"] = "base64"
    status, said, _ = ask(cloud, "POST", "/secrets", body)
    assert status == 201, said
    return str(said["secret_ref"]).rsplit("/", 1)[1]


def test_a_secret_comes_back_through_the_sdk_and_goes(demo: Any, name: str) -> None:
    made = demo.key_manager.create_secret(
        name=name, payload="s3cret words", payload_content_type="text/plain", secret_type="passphrase"
    )
    shown = demo.key_manager.get_secret(made.secret_id)
    assert (shown.name, shown.payload, shown.secret_type, shown.status) == (
        name,
        "s3cret words",
        "passphrase",
        "ACTIVE",
    )
    assert [one.name for one in demo.key_manager.secrets(name=name)] == [name]
    demo.key_manager.delete_secret(made.secret_id)
    assert list(demo.key_manager.secrets(name=name)) == []


def test_binary_payloads_are_the_same_bytes(cloud: Cloud) -> None:
    raw = bytes(range(128))  # what the decoder of this test reads as text, too
    latin = store(cloud, base64.b64encode(b"\xe9").decode(), "application/octet-stream")  # which is not UTF-8
    secret = store(cloud, base64.b64encode(raw).decode(), "application/octet-stream")
    status, body, headers = ask(cloud, "GET", f"/secrets/{secret}/payload", Accept="application/octet-stream")
    assert (status, body.encode(), headers["content-type"]) == (200, raw, "application/octet-stream")
    assert ask(cloud, "GET", f"/secrets/{latin}/payload", Accept="text/plain")[0] == 406


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("text/plain", "text/plain"), ("application/octet-stream", "application/octet-stream"),
        ("application/pkcs8", "application/pkcs8"), ("*/*", "text/plain"), ("", "text/plain"),
        ("application/json, text/plain", "text/plain"), ("image/png, application/*", "application/octet-stream"),
        ("text/plain;q=0.1, application/octet-stream", "application/octet-stream"),
        ("text/plain; charset=utf-8; q=0.9, */*;q=0.1", "text/plain"), ("text/plain;q=0", None),
        ("application/json", None), ("text/*;q=nan-sense", None),
    ],
)  # fmt: skip
def test_a_payload_is_given_as_what_is_asked_for(cloud: Cloud, accept: str, given: str | None) -> None:
    secret = store(cloud, "text")
    status, body, headers = ask(cloud, "GET", f"/secrets/{secret}/payload", Accept=accept)
    if given is None:
        assert (status, "text/plain" in body["description"]) == (406, True)
    else:
        assert (status, body, headers["content-type"].partition(";")[0]) == (200, "text", given)


def test_an_old_client_asks_for_the_payload_by_type_alone(cloud: Cloud) -> None:
    secret = store(cloud, "text")
    assert ask(cloud, "GET", f"/secrets/{secret}", Accept="text/plain")[:2] == (200, "text")
    for accept in ("application/json", "*/*", "text/html, */*;q=0.8"):
        assert ask(cloud, "GET", f"/secrets/{secret}", Accept=accept)[1]["status"] == "ACTIVE"


def test_a_secret_has_metadata(cloud: Cloud) -> None:
    path = f"/secrets/{store(cloud, 'text')}/metadata"
    assert ask(cloud, "GET", path)[1] == {"metadata": {}}
    status, body, _ = ask(cloud, "PUT", path, {"metadata": {"Owner": "me", "use": "tls"}})
    assert (status, body) == (201, {"metadata_ref": f"{cloud.url}{V1}{path}"})
    assert ask(cloud, "GET", path)[1] == {"metadata": {"owner": "me", "use": "tls"}}
    status, body, headers = ask(cloud, "POST", path, {"key": "more", "value": "1"})
    assert (status, body, headers["location"]) == (201, {"key": "more", "value": "1"}, f"{cloud.url}{V1}{path}/more")
    assert ask(cloud, "POST", path, {"key": "more", "value": "2"})[0] == 409
    assert ask(cloud, "PUT", f"{path}/more", {"key": "more", "value": "2"})[:2] == (200, {"key": "more", "value": "2"})
    assert ask(cloud, "PUT", f"{path}/more", {"key": "other", "value": "2"})[0] == 409
    assert ask(cloud, "DELETE", f"{path}/use")[0] == 204
    assert ask(cloud, "GET", f"{path}/use")[0] == 404
    assert ask(cloud, "GET", path)[1] == {"metadata": {"owner": "me", "more": "2"}}
    wrong: list[Any] = [{"metadata": {"a": 1}}, {"metadata": []}, {}, {"metadata": {str(n): "" for n in range(101)}}]
    for bad in wrong:
        assert ask(cloud, "PUT", path, bad)[0] == 400


def test_a_secret_has_consumers(cloud: Cloud) -> None:
    path = f"/secrets/{store(cloud, 'text')}/consumers"
    consumer = {"service": "glance", "resource_type": "image", "resource_id": "7"}
    for _ in range(2):
        assert ask(cloud, "POST", path, consumer)[0] == 200
    (one,) = ask(cloud, "GET", path)[1]["consumers"]
    assert consumer.items() <= one.items()
    assert ask(cloud, "GET", f"{path}/{one['id']}")[1] == one
    assert ask(cloud, "DELETE", path, consumer)[0] == 200
    assert ask(cloud, "DELETE", path, consumer)[0] == 404
    assert ask(cloud, "GET", path)[1] == {"consumers": [], "total": 0}


def test_a_secret_comes_into_a_generic_container_and_out_of_it(cloud: Cloud) -> None:
    part = {"name": "a", "secret_ref": f"{cloud.url}{V1}/secrets/{store(cloud, 'text')}"}
    made = ask(cloud, "POST", "/containers", {"name": "c", "type": "generic", "secret_refs": []})[1]["container_ref"]
    path = f"/containers/{made.rsplit('/', 1)[-1]}"
    assert ask(cloud, "POST", f"{path}/secrets", part)[:2] == (201, {"container_ref": made})
    assert ask(cloud, "POST", f"{path}/secrets", part)[0] == 409
    assert ask(cloud, "GET", path)[1]["secret_refs"] == [part]
    assert ask(cloud, "DELETE", f"{path}/secrets", part)[0] == 204
    assert ask(cloud, "DELETE", f"{path}/secrets", part)[0] == 404
    assert ask(cloud, "GET", path)[1]["secret_refs"] == []


def test_what_is_not_there_says_so_in_the_apis_words(cloud: Cloud) -> None:
    status, body, _ = ask(cloud, "GET", "/orders")
    assert (status, body["title"]) == (404, "Not Found")
    assert "The key-manager API of this cloud has no /v1/orders" in body["description"]
    project = "/project-quotas/1"
    assert [ask(cloud, "GET", project, user=user)[0] for user in ("demo", "admin")] == [403, 404]
    assert ask(cloud, "PUT", project, {"project_quotas": {"secrets": 1}}, user="admin")[0] == 501


def test_a_payload_may_follow_once(cloud: Cloud) -> None:
    secret = ask(cloud, "POST", "/secrets", {"name": "later"})[1]["secret_ref"].rsplit("/", 1)[1]
    assert ask(cloud, "GET", f"/secrets/{secret}/payload")[0] == 404
    assert ask(cloud, "PUT", f"/secrets/{secret}", b"now", Content_Type="text/plain")[0] == 204
    assert ask(cloud, "GET", f"/secrets/{secret}/payload", Accept="text/plain")[1] == "now"
    assert ask(cloud, "PUT", f"/secrets/{secret}", b"again", Content_Type="text/plain")[0] == 409


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"payload": "x"}, "payload_content_type"),
        ({"payload": "", "payload_content_type": "text/plain"}, "payload"),
        ({"payload": "x", "payload_content_type": "image/png"}, "payload_content_type"),
        ({"payload": "x", "payload_content_type": "application/octet-stream"}, "payload_content_encoding"),
        (
            {"payload": "%", "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64"},
            "payload",
        ),
        ({"secret_type": "riddle"}, "secret_type"),
        ({"bit_length": 0}, "bit_length"),
        ({"expiration": "2001-01-01T00:00:00"}, "expiration"),
        ({"expiration": "soon"}, "expiration"),
        ({"colour": "red"}, "colour"),
        ([], "Secret"),
    ],
)
def test_a_bad_secret_is_400_and_names_the_property(cloud: Cloud, body: Any, word: str) -> None:
    status, said, _ = ask(cloud, "POST", "/secrets", body)
    assert (status, said["code"]) == (400, 400)
    assert word in said["description"]


def test_a_stranger_finds_nothing_unless_it_is_on_the_list(cloud: Cloud) -> None:
    secret = store(cloud, "mine")
    nothing = ask(cloud, "GET", "/secrets/00000000-0000-4000-8000-000000000000", user="admin")
    for path in (f"/secrets/{secret}", f"/secrets/{secret}/payload", f"/secrets/{secret}/acl"):
        assert ask(cloud, "GET", path, user="admin")[:2] == nothing[:2]
    assert ask(cloud, "DELETE", f"/secrets/{secret}", user="admin")[0] == 404
    status, body, _ = cloud.request("GET", "/identity/v3/auth/tokens", None, {
        "X-Auth-Token": cloud.token("admin"), "X-Subject-Token": cloud.token("admin")})  # fmt: skip
    assert status == 200
    listed = {"read": {"users": [body["token"]["user"]["id"]], "project-access": False}}
    assert ask(cloud, "PUT", f"/secrets/{secret}/acl", listed)[0] == 200
    assert ask(cloud, "GET", f"/secrets/{secret}/acl")[1]["read"]["project-access"] is False
    assert ask(cloud, "GET", f"/secrets/{secret}/payload", user="admin", Accept="text/plain")[:2] == (200, "mine")
    assert ask(cloud, "DELETE", f"/secrets/{secret}", user="admin")[0] == 404
    assert ask(cloud, "DELETE", f"/secrets/{secret}/acl")[0] == 200
    assert ask(cloud, "GET", f"/secrets/{secret}", user="admin")[0] == 404


def test_without_a_token_nothing_is_said(cloud: Cloud) -> None:
    assert cloud.request("GET", f"{V1}/secrets")[0] == 401
    assert cloud.request("POST", "/identity/v3/auth/tokens", password())[0] == 201


def test_no_payload_lies_open_in_the_database(cloud: Cloud) -> None:
    secret = store(cloud, "a-very-recognisable-payload")
    engine = sa.create_engine(cloud.database or f"sqlite:///{cloud.directory / 'cloud.db'}")
    with engine.connect() as connection:
        row = connection.execute(sa.select(secrets).where(secrets.c.id == secret)).mappings().one()
    engine.dispose()
    assert row["sealed"]
    assert b"recognisable" not in row["sealed"]
    assert not any("recognisable" in str(value) for name, value in row.items() if name != "sealed")


def test_lists_come_in_pages(cloud: Cloud, name: str) -> None:
    for _ in range(3):
        assert ask(cloud, "POST", "/secrets", {"name": name})[0] == 201
    first = ask(cloud, "GET", f"/secrets?name={name}&limit=2")[1]
    assert (len(first["secrets"]), first["total"]) == (2, 3)
    rest = ask(cloud, "GET", f"/secrets?name={name}&limit=2&offset=2")[1]
    assert len(rest["secrets"]) == 1
    assert "previous" in rest


def test_a_container_names_secrets_and_its_consumers(cloud: Cloud, demo: Any) -> None:
    leaf = issue("c", "c.example")
    refs = [
        {"name": "certificate", "secret_ref": f"{cloud.url}{V1}/secrets/{store(cloud, leaf.cert_pem)}"},
        {"name": "private_key", "secret_ref": f"{cloud.url}{V1}/secrets/{store(cloud, leaf.key_pem)}"},
    ]
    made = demo.key_manager.create_container(name="tls", type="certificate", secret_refs=refs)
    shown = demo.key_manager.get_container(made.container_id)
    assert shown.type == "certificate"
    assert sorted(shown.secret_refs, key=lambda one: one["name"]) == refs
    path = f"/containers/{made.container_id}/consumers"
    consumer = {"name": "lb", "URL": "https://lb.example/1"}
    for _ in range(2):
        assert ask(cloud, "POST", path, consumer)[1]["consumers"] == [consumer]
    (shown,) = ask(cloud, "GET", path)[1]["consumers"]
    assert consumer.items() <= shown.items()
    assert ask(cloud, "DELETE", path, consumer)[0] == 200
    assert ask(cloud, "DELETE", path, consumer)[0] == 404
    demo.key_manager.delete_container(made.container_id)
    assert ask(cloud, "GET", f"/containers/{made.container_id}")[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"type": "certificate", "secret_refs": []}, 400),
        ({"type": "box"}, 400),
        ({"type": "generic", "secret_refs": [{"name": "a", "secret_ref": "nonsense"}]}, 400),
        ({"type": "generic", "secret_refs": "a"}, 400),
        (
            {"type": "generic", "secret_refs": [{"name": "a", "secret_ref": "00000000-0000-4000-8000-000000000000"}]},
            404,
        ),
    ],
)
def test_a_bad_container_is_refused(cloud: Cloud, body: Any, status: int) -> None:
    assert ask(cloud, "POST", "/containers", body)[0] == status
