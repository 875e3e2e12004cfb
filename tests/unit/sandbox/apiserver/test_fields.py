"""Schemas: the notation, unknown fields, defaults, and custom resources' checks."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.sandbox.apiserver.crd import read_schema
from vrata.sandbox.apiserver.errors import ApiError
from vrata.sandbox.apiserver.fields import conform, fill_defaults, validate, validate_custom
from vrata.sandbox.apiserver.kinds.apps import TYPES
from vrata.sandbox.apiserver.protobuf import decode
from vrata.sandbox.apiserver.schema import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def test_the_notation_reads_types_keys_and_defaults() -> None:
    types = parse("Item\n  name! string\nThing\n  items [Item] map=name merge=name\n  size int = 3\n  on {bool}", {})
    thing = types["Thing"]
    assert (thing.fields["items"].list_keys, thing.fields["items"].merge_key) == (("name",), "name")
    assert thing.fields["size"].default == 3
    assert types["Item"].required == ("name",)


@pytest.mark.parametrize("text", ["Thing\n  x", "Thing\n  x string sometimes", "  x string"])
def test_bad_notation_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="schema notation"):
        parse(text, {})


def test_unknown_fields_are_dropped_and_named() -> None:
    body = {"spec": {"containers": [{"name": "a", "imgae": "x"}], "foo": 1}, "metadata": {"labels": {"any": "thing"}}}
    found = conform(TYPES["Pod"], body)
    assert sorted(found.unknown) == ["spec.containers[0].imgae", "spec.foo"]
    assert found.value["spec"] == {"containers": [{"name": "a"}]}


@given(JSON)
def test_any_json_conforms_or_is_reported(value: Any) -> None:
    found = conform(TYPES["Deployment"], {"spec": value})
    if not found.mismatches:
        validate(TYPES["Deployment"], fill_defaults(TYPES["Deployment"], found.value))


@given(JSON, JSON)
def test_custom_validation_never_fails_by_itself(shape: Any, value: Any) -> None:
    schema = read_schema(
        {
            "type": "object",
            "properties": {
                "a": {"type": "string", "enum": ["x"]},
                "b": shape
                if isinstance(shape, dict) and isinstance(shape.get("type", ""), str) and not set(shape) - {"type"}
                else {"type": "integer"},
            },
        }
    )
    validate_custom(schema, value, "spec")


def test_every_broken_rule_of_a_custom_resource_is_named() -> None:
    schema = read_schema(
        {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
                "list": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            },
        }
    )
    causes = validate_custom(schema, {"name": "ABCD", "list": ["a", 1]}, "spec")
    said = {f"{cause.field}: {cause.message}" for cause in causes}
    assert "spec.size: Required value" in said
    assert any("should match '^[a-z]+$'" in text for text in said)
    assert any("should be at most 3 chars long" in text for text in said)
    assert any("should have at most 1 items" in text for text in said)
    assert any("must be of type string" in text for text in said)


def test_defaults_reach_into_lists_but_not_into_absent_parents() -> None:
    pod = fill_defaults(
        TYPES["Pod"], {"spec": {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 1}}}]}}
    )
    probe = pod["spec"]["containers"][0]["livenessProbe"]
    assert (probe["periodSeconds"], probe["httpGet"]["scheme"]) == (10, "HTTP")
    assert "readinessProbe" not in pod["spec"]["containers"][0]


@given(st.binary(max_size=64))
def test_damaged_protobuf_is_refused_not_crashed_on(data: bytes) -> None:
    about = b"\n\x0f\n\x02v1\x12\tConfigMap"
    for body in (data, b"k8s\x00" + data, b"k8s\x00" + about + b"\x12" + bytes([len(data)]) + data):
        with contextlib.suppress(ApiError):
            assert decode(body)["kind"]
