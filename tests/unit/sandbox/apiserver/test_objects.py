"""The writing half as a whole, on a store in memory: whatever is sent, the answer is an object or a refusal."""

import functools
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrata.base import clock
from vrata.sandbox.apiserver.errors import ApiError
from vrata.sandbox.apiserver.objects import Objects, Options
from vrata.sandbox.apiserver.resources import Registry, Resource
from vrata.sandbox.apiserver.schema import Schema
from vrata.sandbox.apiserver.services import Allocator
from vrata.sandbox.apiserver.store import Store
from vrata.sandbox.apiserver.table import render_table

WORDS = st.sampled_from(
    ["", "a", "web", "A_b", "10.96.0.9", "None", "25%", "*.a.example.com", "/x/../y", "a/b", "Local"]
)
NUMBERS = st.sampled_from([-1, 0, 1, 80, 30001, 70000])
KINDS = sorted({resource.kind for resource in Registry().all()} - {"Namespace", "SelfSubjectAccessReview"})

SCHEMAS = {resource.kind: resource.schema for resource in Registry().all()}


@functools.cache
def _values(schema: Schema, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema's type, more or less sensible, with holes."""
    match schema.type:
        case "boolean":
            return st.booleans()
        case "integer" | "number":
            return NUMBERS
        case "int-or-string":
            return NUMBERS | WORDS
        case "array" if schema.items is not None:
            return st.lists(_values(schema.items, depth + 1) | st.none(), max_size=2)
        case "object" if schema.values is not None:
            return st.dictionaries(WORDS, _values(schema.values, depth + 1), max_size=2)
        case "object" if depth < 9:
            fields = {name: _values(child, depth + 1) for name, child in schema.fields.items()}
            return st.fixed_dictionaries({}, optional=fields)
        case "string" if schema.enum:
            return st.sampled_from(schema.enum) | WORDS
        case "string" if schema.format == "date-time":
            return st.just("2026-01-01T00:00:00Z")
        case "string":
            return WORDS
    return st.dictionaries(WORDS, WORDS, max_size=1)


def _objects() -> Objects:
    allocator = Allocator(ipaddress.IPv4Network("10.96.0.0/16"), range(30000, 32768))
    objects = Objects(Store(Path(":memory:")), Registry(), allocator, clock.now)
    objects.create(_resource(objects, "Namespace"), "", {"metadata": {"name": "default"}}, Options())
    return objects


def _resource(objects: Objects, kind: str) -> Resource:
    return next(resource for resource in objects.registry.all() if resource.kind == kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_whatever_is_sent_is_stored_or_refused(kind: str, data: st.DataObject) -> None:
    objects = _objects()
    resource = _resource(objects, kind)
    skipped = ("metadata", "apiVersion", "kind")
    body = {name: value for name, value in data.draw(_values(SCHEMAS[kind])).items() if name not in skipped}
    namespace = "default" if resource.namespaced else ""
    try:
        created = objects.create(resource, namespace, body | {"metadata": {"name": "x"}}, Options())
    except ApiError as error:
        assert error.code in (400, 422)  # noqa: PT017 -- a refusal is one of two right answers
        return
    assert objects.find(resource, namespace, "x").load()["metadata"]["uid"] == created["metadata"]["uid"]
    assert render_table(resource, [created], clock.now(), "None", {})["rows"]
    objects.store.close()


def test_an_ingress_gets_the_default_class() -> None:
    objects = _objects()
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    body = {"metadata": {"name": "vrata", "annotations": mark}, "spec": {"controller": "vrata.example.com/ingress"}}
    objects.create(_resource(objects, "IngressClass"), "", body, Options())
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    ingress = {"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}}
    created = objects.create(_resource(objects, "Ingress"), "default", ingress, Options())
    assert created["spec"]["ingressClassName"] == "vrata"
    objects.store.close()
