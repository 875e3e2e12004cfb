"""Whatever an object looks like, reading it gives a value or says why not; nothing is raised."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube import objects
from vrata.kube.client import Unreadable, decode_object
from vrata.kube.objects import Projection
from vrata.sandbox.apiserver.kinds.apps import TYPES
from vrata.sandbox.apiserver.schema import Schema
from vrata.sandbox.kubelet import model as kubelet
from vrata.sandbox.workloads import model as workloads

SOURCE = Path(__file__).parents[3] / "src" / "vrata"
WATCHED: dict[str, type[Any]] = {
    "ConfigMap": objects.ConfigMap,
    "DaemonSet": workloads.DaemonSet,
    "Deployment": workloads.Deployment,
    "EndpointSlice": objects.EndpointSlice,
    "Ingress": objects.Ingress,
    "IngressClass": objects.IngressClass,
    "Node": objects.Node,
    "PartialObject": objects.PartialObject,
    "Pod": workloads.Pod,
    "ReplicaSet": workloads.ReplicaSet,
    "Service": objects.Service,
}
CHECKED_BY_VALIDATION = ("Ingress.spec.rules.http.paths.pathType",)  # required, though not by the schema
READ: list[type[Any]] = [*WATCHED.values(), kubelet.Pod, objects.Secret, objects.Namespace]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)


@cache
def field_names() -> list[str]:
    """Every name that any projection has, as JSON spells it."""
    found: set[str] = set()
    todo = list(READ)
    while todo:
        type_ = todo.pop()
        for field in msgspec.structs.fields(type_):
            if field.encode_name not in found or field.name == "metadata":
                found.add(field.encode_name)
                todo += [one for one in nested(field.type) if one is not type_]
    return sorted(found)


def nested(type_: Any) -> list[type[Any]]:
    """The projections that a field's type speaks of."""
    if isinstance(type_, type) and issubclass(type_, Projection):
        return [type_]
    return [one for part in getattr(type_, "__args__", ()) for one in nested(part)]


known_names = st.deferred(lambda: st.sampled_from(field_names()))
odd_objects = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_names | st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
)


def test_every_kind_that_is_watched_is_read_here() -> None:
    found = {
        name
        for file in SOURCE.rglob("*.py")
        for name in re.findall(r"Informer\(\s*(?:self\.)?_?kube,\s*resources\.\w+,\s*(\w+)", file.read_text())
    }
    assert found == set(WATCHED)


@pytest.mark.parametrize("type_", READ, ids=lambda type_: f"{type_.__module__.rpartition('.')[0]}.{type_.__name__}")
@given(
    metadata=odd_objects,
    spec=odd_objects,
    status=odd_objects,
    rest=st.dictionaries(known_names, odd_objects, max_size=3),
)
def test_an_odd_object_is_read_or_said_to_be_unreadable(
    type_: type[Any], metadata: Any, spec: Any, status: Any, rest: dict[str, Any]
) -> None:
    decoder = msgspec.json.Decoder(type_)
    named = {**metadata, "name": "web", "namespace": "default"} if isinstance(metadata, dict) else metadata
    found = decode_object(msgspec.json.encode({**rest, "metadata": named, "spec": spec, "status": status}), decoder)
    assert isinstance(found, type_ | Unreadable)
    if isinstance(found, Unreadable):
        assert found.error
    if isinstance(metadata, dict):
        assert found.metadata.key == "default/web"


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"7", b'{"metadata":[]}', b"{}"])
def test_what_is_no_object_is_unreadable(raw: bytes) -> None:
    found = decode_object(raw, msgspec.json.Decoder(objects.Service))
    assert isinstance(found, Unreadable)
    assert found.metadata.name == ""


def test_a_deeply_nested_object_is_unreadable() -> None:
    deep = b'{"metadata":{"name":"deep"},"template":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert isinstance(decode_object(deep, msgspec.json.Decoder(dict[str, Any])), Unreadable)


def required_beyond(type_: type[Any], schema: Schema, at: str) -> list[str]:
    """Fields that a projection cannot do without although the API does not ask for them."""
    wrong = []
    for field in msgspec.structs.fields(type_):
        name, inner = field.encode_name, schema.child(field.encode_name)
        if field.required and name not in schema.required and name not in ("metadata", "spec"):
            wrong.append(f"{at}.{name}")
        for part in nested(field.type):
            below = inner.items or inner
            if below.fields:
                wrong += required_beyond(part, below, f"{at}.{name}")
    return wrong


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(name, type_) for name, type_ in WATCHED.items() if name != "PartialObject"] + [("Pod", kubelet.Pod)],
)
def test_no_projection_requires_what_the_api_does_not(kind: str, type_: type[Any]) -> None:
    wrong = required_beyond(type_, TYPES[kind], kind)
    assert [one for one in wrong if not one.endswith("metadata.name") and one not in CHECKED_BY_VALIDATION] == []
