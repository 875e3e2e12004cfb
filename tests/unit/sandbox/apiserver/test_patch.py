"""JSON, merge and strategic merge patches."""

from typing import Any

import pytest

from vrata.sandbox.apiserver.errors import ApiError
from vrata.sandbox.apiserver.kinds.apps import TYPES
from vrata.sandbox.apiserver.patch import json_patch, merge_patch, strategic_merge

POD = TYPES["PodSpec"]


def _containers(*items: dict[str, Any]) -> dict[str, Any]:
    return {"containers": list(items)}


def test_lists_merge_by_their_key() -> None:
    merged = strategic_merge(
        POD, _containers({"name": "a", "image": "1"}), _containers({"name": "a", "tty": True}, {"name": "b"})
    )
    assert merged == _containers({"name": "a", "image": "1", "tty": True}, {"name": "b"})


def test_an_item_is_deleted_by_directive() -> None:
    merged = strategic_merge(
        POD, _containers({"name": "a"}, {"name": "b"}), _containers({"name": "a", "$patch": "delete"})
    )
    assert merged == _containers({"name": "b"})


def test_a_list_is_replaced_by_directive() -> None:
    merged = strategic_merge(POD, _containers({"name": "a"}), _containers({"name": "b"}, {"$patch": "replace"}))
    assert merged == _containers({"name": "b"})


def test_order_and_primitive_deletions() -> None:
    meta = TYPES["ObjectMeta"]
    merged = strategic_merge(meta, {"finalizers": ["x", "y"]}, {"$deleteFromPrimitiveList/finalizers": ["x"]})
    assert merged == {"finalizers": ["y"]}
    order = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "i"}]}
    merged = strategic_merge(POD, _containers({"name": "a"}, {"name": "b"}), order)
    assert [container["name"] for container in merged["containers"]] == ["b", "a"]


def test_only_retained_keys_stay() -> None:
    spec = TYPES["DeploymentSpec"]
    live = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_merge(spec, live, patch) == {"strategy": {"type": "Recreate"}}


def test_atomic_lists_are_replaced() -> None:
    live = {"tolerations": [{"key": "a"}]}
    assert strategic_merge(POD, live, {"tolerations": [{"key": "b"}]}) == {"tolerations": [{"key": "b"}]}


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        strategic_merge(POD, _containers({"name": "a"}), _containers({"image": "x"}))


def test_null_deletes_in_a_merge_patch() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "d": [1]}) == {"a": {"c": 2}, "d": [1]}


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        [{"op": "test", "path": "/a", "value": 2}],
        [{"op": "remove", "path": "/none"}],
        [{"op": "fly", "path": "/a"}],
        [{"op": "replace", "path": "", "value": 7}],
    ],
)
def test_bad_json_patches_are_refused(operations: Any) -> None:
    with pytest.raises(ApiError):
        json_patch({"a": 1}, operations)
