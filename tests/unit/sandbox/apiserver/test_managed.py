"""Field ownership: round trips, and the laws of server-side apply."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.sandbox.apiserver import managed
from vrata.sandbox.apiserver.errors import ApiError
from vrata.sandbox.apiserver.kinds.apps import TYPES

DEPLOYMENT = TYPES["Deployment"]
NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(NAMES, st.sampled_from(["1", "2"]), max_size=3)


def _env(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    container = {"name": "main", "env": _env(draw(LABELS))}
    config: dict[str, Any] = {"spec": {"template": {"spec": {"containers": [container]}}}}
    labels = draw(LABELS)
    if labels:
        config["metadata"] = {"labels": labels}
    if draw(st.booleans()):
        config["spec"]["replicas"] = draw(st.integers(0, 3))
    return config


def _apply(live: Any, config: Any, managers: Any, name: str, *, force: bool = True) -> managed.Applied:
    writer = managed.Writer(name, "Apply", "apps/v1")
    return managed.apply(DEPLOYMENT, live, config, managers, writer, "t", force=force, has_status=True)


@given(configs())
def test_field_sets_survive_their_encoding(config: dict[str, Any]) -> None:
    fields = managed.field_set(DEPLOYMENT, config)
    assert managed.decode_fields(managed.encode_fields(fields)) == fields


@given(configs(), configs())
def test_applying_again_changes_nothing(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = _apply({}, first, {}, "one")
    two = _apply(one.value, second, one.managers, "two")
    again = _apply(two.value, second, two.managers, "two")
    assert again.value == two.value
    assert again.managers.keys() == two.managers.keys()


@given(configs(), configs())
def test_what_the_only_manager_drops_is_gone(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = _apply({}, first, {}, "one")
    two = _apply(one.value, second, one.managers, "one")
    left = managed.owned(managed.field_set(DEPLOYMENT, two.value))
    assert left == managed.owned(managed.field_set(DEPLOYMENT, second))


@given(configs(), configs())
def test_what_another_manager_holds_stays(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = _apply({}, first, {}, "one")
    two = _apply(one.value, second, one.managers, "two")
    empty = _apply(two.value, {}, two.managers, "two")
    kept = managed.field_set(DEPLOYMENT, empty.value)
    writer = managed.Writer("one", "Apply", "apps/v1")
    assert empty.managers.get(writer, managed.Entry(set(), "")).fields <= kept | {("f:spec",), ("f:metadata",)}


def test_a_conflict_names_manager_and_path() -> None:
    writer = managed.Writer("kubectl", "Update", "apps/v1")
    live = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "a"}]}}}}
    managers = managed.record_update(DEPLOYMENT, {}, live, {}, writer, "2026-01-01T00:00:00Z", has_status=True)
    config = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "b"}]}}}}
    with pytest.raises(ApiError) as caught:
        _apply(live, config, managers, "me", force=False)
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: '
        '.spec.template.spec.containers[name="main"].image'
    )
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["reason"] == "FieldManagerConflict"


def test_equal_values_are_shared_without_conflict() -> None:
    one = _apply({}, {"spec": {"replicas": 1}}, {}, "one", force=False)
    two = _apply(one.value, {"spec": {"replicas": 1}}, one.managers, "two", force=False)
    assert len(two.managers) == 2


def test_status_belongs_to_its_subresource() -> None:
    fields: managed.Fields = {("f:status", "f:phase"), ("f:spec", "f:x"), ("f:metadata", "f:name")}
    assert managed.owned(fields) == {("f:spec", "f:x")}
    assert managed.owned(fields, subresource="status") == {("f:status", "f:phase")}
