"""Watches, as client libraries use them: selections, resumption, initial events, bookmarks, tables."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from tests.support.kubernetes import Cluster


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> Iterator[str]:
    with cluster.proxy() as found:
        yield found


@asynccontextmanager
async def _watch(url: str, **params: str) -> AsyncIterator[AsyncIterator[Any]]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, params={"watch": "1", **params}) as answer,
    ):
        assert answer.status == 200, await answer.text()

        async def events() -> AsyncIterator[Any]:
            async for line in answer.content:
                yield json.loads(line)

        yield events()


def _configmaps(address: str, namespace: str) -> str:
    return f"{address}/api/v1/namespaces/{namespace}/configmaps"


async def _create(url: str, name: str, **labels: str) -> Any:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 201
        return await answer.json()


async def _label(url: str, name: str, **labels: str) -> Any:
    headers = {"content-type": "application/merge-patch+json"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.patch(f"{url}/{name}", data=json.dumps({"metadata": {"labels": labels}})) as answer,
    ):
        assert answer.status == 200
        return await answer.json()


async def _list(url: str, **params: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url, params=params) as answer:
        return await answer.json()


async def test_entering_and_leaving_a_selection_are_events(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    start = (await _list(url))["metadata"]["resourceVersion"]
    async with _watch(url, labelSelector="in=yes", resourceVersion=start) as events:
        await _create(url, "a", other="x")
        await _label(url, "a", **{"in": "yes"})
        await _label(url, "a", more="1")
        await _label(url, "a", **{"in": "no"})
        seen = [(event["type"], event["object"]["metadata"]["name"]) async for event in _first(events, 3)]
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def _first(events: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    left = count
    async for event in events:
        yield event
        left -= 1
        if not left:
            return


async def test_a_watch_resumes_where_the_list_ended(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    first = await _create(url, "a")
    listed = await _list(url, limit="1")
    await _create(url, "b")
    await _label(url, "a", x="y")
    async with _watch(url, resourceVersion=listed["metadata"]["resourceVersion"]) as events:
        seen = [(event["type"], event["object"]["metadata"]["name"]) async for event in _first(events, 2)]
    assert seen == [("ADDED", "b"), ("MODIFIED", "a")]
    assert int(first["metadata"]["resourceVersion"]) <= int(listed["metadata"]["resourceVersion"])


async def test_initial_events_end_with_a_marked_bookmark(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    await _create(url, "a", mine="yes")
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with _watch(url, labelSelector="mine=yes", **params) as events:
        seen = [event async for event in _first(events, 2)]
    if "RequestWatchProgress" in str(seen[0]["object"].get("message")):
        pytest.skip("Kubernetes on an etcd before 3.4.25 (Debian 12's is older) has no such watch")
    assert [event["type"] for event in seen] == ["ADDED", "BOOKMARK"], seen[0]["object"].get("message")
    assert seen[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_after_its_timeout(address: str, namespace: str) -> None:
    async with _watch(_configmaps(address, namespace), timeoutSeconds="1", labelSelector="none=yes") as events:
        assert [event async for event in events] == []


async def test_a_continue_token_keeps_the_first_version(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    for name in ("p1", "p2", "p3"):
        await _create(url, name, page="yes")
    first = await _list(url, limit="2", labelSelector="page=yes")
    await _create(url, "p4", page="yes")
    second = await _list(url, limit="2", labelSelector="page=yes", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in first["items"]] == ["p1", "p2"]
    assert second["items"][0]["metadata"]["name"] == "p3"


async def test_a_stale_update_is_a_conflict(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    created = await _create(url, "a")
    await _label(url, "a", x="y")
    async with aiohttp.ClientSession() as session, session.put(f"{url}/a", json=created) as answer:
        status = await answer.json()
        assert answer.status == 409
    assert status["reason"] == "Conflict"
    assert 'Operation cannot be fulfilled on configmaps "a": the object has been modified' in status["message"]


async def test_a_refusal_carries_its_causes(address: str, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 0}]}}
    url = f"{address}/api/v1/namespaces/{namespace}/services"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        status = await answer.json()
    assert (answer.status, status["kind"], status["reason"], status["code"]) == (422, "Status", "Invalid", 422)
    assert {
        "reason": "FieldValueInvalid",
        "field": "spec.ports[0].port",
        "message": "Invalid value: 0: must be between 1 and 65535, inclusive",
    } in status["details"]["causes"]


async def test_an_unchanged_update_keeps_its_version(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    created = await _create(url, "a", x="y")
    again = await _label(url, "a", x="y")
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_names_can_be_generated(address: str, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(_configmaps(address, namespace), json=body) as answer,
    ):
        created = await answer.json()
    assert created["metadata"]["name"].startswith("gen-")
    assert len(created["metadata"]["name"]) == 9


async def test_tables_carry_columns_and_metadata(address: str, namespace: str) -> None:
    url = _configmaps(address, namespace)
    await _create(url, "a", mine="yes")
    headers = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url, params={"labelSelector": "mine=yes"}) as answer,
    ):
        table = await answer.json()
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 0]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_an_unsupported_field_selector_is_refused(address: str, namespace: str) -> None:
    found = await _list(_configmaps(address, namespace), fieldSelector="data.x=y")
    assert found["code"] == 400
    assert '"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"' in found["message"]
