"""The writing half as a whole, on a store in memory: whatever is sent, the answer is an object or a refusal."""

import contextlib
import functools
import ipaddress
from collections.abc import Iterator
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


@contextlib.contextmanager
def _objects() -> Iterator[Objects]:
    allocator = Allocator(ipaddress.IPv4Network("10.96.0.0/16"), range(30000, 32768))
    with contextlib.closing(Store(Path(":memory:"))) as store:
        objects = Objects(store, Registry(), allocator, clock.now)
        objects.create(_resource(objects, "Namespace"), "", {"metadata": {"name": "default"}}, Options())
        yield objects


@pytest.fixture
def objects() -> Iterator[Objects]:
    with _objects() as made:
        yield made


def _resource(objects: Objects, kind: str) -> Resource:
    return next(resource for resource in objects.registry.all() if resource.kind == kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_whatever_is_sent_is_stored_or_refused(kind: str, data: st.DataObject) -> None:
    with _objects() as objects:
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


def test_an_ingress_gets_the_default_class(objects: Objects) -> None:
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    body = {"metadata": {"name": "vrata", "annotations": mark}, "spec": {"controller": "vrata.example.com/ingress"}}
    objects.create(_resource(objects, "IngressClass"), "", body, Options())
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    ingress = {"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}}
    created = objects.create(_resource(objects, "Ingress"), "default", ingress, Options())
    assert created["spec"]["ingressClassName"] == "vrata"


def _stored(objects: Objects, kind: str, **body: Any) -> tuple[Resource, dict[str, Any]]:
    resource = _resource(objects, kind)
    return resource, objects.create(resource, "default", body | {"metadata": {"name": "x"}}, Options())


@pytest.mark.parametrize(
    ("kind", "spec", "kept"),
    [
        ("Service", {"type": "LoadBalancer", "ports": [{"port": 80}]}, ()),
        ("Ingress", {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}, ()),
        ("Pod", {"containers": [{"name": "c", "image": "vrata/echo"}]}, ("ownerReferences",)),
    ],
)
def test_a_write_of_the_status_may_change_metadata(
    kind: str, spec: dict[str, Any], kept: tuple[str, ...], objects: Objects
) -> None:
    """Controllers take their finalizer away with the last status (the OpenStack cloud controller does)."""
    resource, created = _stored(objects, kind, spec=spec)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "00000000-0000-4000-8000-000000000000"}
    written = {"finalizers": ["example.com/x"], "ownerReferences": [owner], "labels": {"a": "b"}}
    for change in (written, dict.fromkeys(written)):
        body = created | {"metadata": created["metadata"] | change, "spec": {}}
        created = objects.update(resource, "default", "x", body, "status", Options())
        shown = {key: created["metadata"].get(key) for key in written}
        assert shown == {key: None if key in kept else value for key, value in change.items()}
        assert created["spec"]


@pytest.mark.parametrize("field", ["finalizers", "labels", "annotations", "ownerReferences"])
def test_an_empty_list_or_map_of_metadata_is_none(field: str, objects: Objects) -> None:
    resource, created = _stored(objects, "Service", spec={"ports": [{"port": 80}]})
    empty: Any = {} if field in ("labels", "annotations") else []
    patch = {"metadata": {field: empty}}
    patched, _ = objects.patch(
        resource, "default", "x", "application/merge-patch+json", patch, "", Options(manager="kubectl")
    )
    assert patched["metadata"] == created["metadata"]  # nothing has changed, no new version either
    body = {"metadata": {"name": "y", field: empty}, "spec": {"ports": [{"port": 80}]}}
    assert field not in objects.create(resource, "default", body, Options())["metadata"]


def test_a_services_status_follows_its_type(objects: Objects) -> None:
    resource, created = _stored(objects, "Service", spec={"type": "LoadBalancer", "ports": [{"port": 80}]})
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.example"}]}}
    created = objects.update(resource, "default", "x", created | {"status": status}, "status", Options())
    entries = created["status"]["loadBalancer"]["ingress"]
    assert entries == [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a.example"}]
    created = objects.update(resource, "default", "x", created | {"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}, "",
                             Options())  # fmt: skip
    assert created["status"] == {"loadBalancer": {}}


def test_two_classes_are_refused_on_create_only(objects: Objects) -> None:
    resource = _resource(objects, "Ingress")
    spec = {"ingressClassName": "vrata", "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}
    meta = {"name": "x", "annotations": {"kubernetes.io/ingress.class": "other"}}
    with pytest.raises(ApiError, match="must match `ingressClassName`"):
        objects.create(resource, "default", {"metadata": meta, "spec": spec}, Options())
    created = objects.create(resource, "default", {"metadata": {"name": "x"}, "spec": spec}, Options())
    objects.update(resource, "default", "x", created | {"metadata": created["metadata"] | meta}, "", Options())


def _policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "types"),
    [({}, ["Ingress"]), ({"egress": [{}]}, ["Ingress", "Egress"]), ({"policyTypes": ["Egress"]}, ["Egress"])],
)
def test_a_network_policy_gets_its_directions(spec: dict[str, Any], types: list[str], objects: Objects) -> None:
    created = objects.create(_resource(objects, "NetworkPolicy"), "default", _policy(**spec), Options())
    assert created["spec"]["policyTypes"] == types
    assert created["spec"]["podSelector"] == {}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"from": [{}]}, r"spec\.ingress\[0\]\.from\[0\]: Required value: must specify a peer"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}, r"ipBlock\.cidr: Invalid value"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}, r"except\[0\]: Invalid value"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/8"]}}]}, r"except\[0\]: Invalid value"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}, r"from\[0\]: Forbidden"),
        ({"ports": [{"port": 70000}]}, r"ports\[0\]\.port: Invalid value: 70000"),
        ({"ports": [{"port": 80, "endPort": 79}]}, r"ports\[0\]\.endPort: Invalid value: 79"),
        ({"ports": [{"port": "http", "endPort": 80}]}, r"ports\[0\]\.endPort: Invalid value: 80"),
        ({"ports": [{"protocol": "ICMP"}]}, r"ports\[0\]\.protocol: Unsupported value"),
    ],
)
def test_a_network_policy_that_means_nothing_is_refused(rule: dict[str, Any], message: str, objects: Objects) -> None:
    with pytest.raises(ApiError, match=message):
        objects.create(_resource(objects, "NetworkPolicy"), "default", _policy(ingress=[rule]), Options())
