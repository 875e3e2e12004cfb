"""The store: what survives, what a watch may resume from, and what a service gets."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.sandbox.apiserver.errors import ApiError
from vrata.sandbox.apiserver.selectors import parse_fields, parse_labels, selector
from vrata.sandbox.apiserver.services import Allocator, allocate
from vrata.sandbox.apiserver.store import Event, Store
from vrata.sandbox.apiserver.table import human_duration, json_path


def _object(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", **more}}


def test_a_reopened_store_goes_on_where_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("pods", _object("a"))
    record = store.put("pods", _object("b", ownerReferences=[{"uid": "uid-a"}]))
    store.delete(store.put("pods", _object("c")))
    last = store.rv
    store.close()
    again = Store(tmp_path / "db")
    assert again.rv == last
    assert [found.key[1] for found in again.scan("pods")] == ["a", "b"]
    assert again.dependents == {"uid-a": {("pods", ("default", "b"))}}
    assert [event.type for event in again.events_since("pods", record.rv)] == ["ADDED", "DELETED"]
    again.close()


def test_history_is_bounded_and_what_is_older_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", history=5)
    for i in range(20):
        store.put("pods", _object(f"p{i}"))
    kept = store.events_since("pods", store.rv - 5)
    assert len(kept) == 5
    with pytest.raises(ApiError) as caught:
        store.events_since("pods", store.rv - 6)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    horizon = store.horizon
    store.close()
    again = Store(tmp_path / "db", history=5)
    assert again.horizon == horizon
    again.close()


def test_a_refused_write_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("pods", _object("a"))
    seen: list[Event] = []
    store.subscribe("pods", seen.append)
    rv = store.rv
    store._db.execute("PRAGMA query_only=ON")
    with pytest.raises(ApiError, match="could not be written"):
        store.put("pods", _object("b"))
    assert (store.rv, store.get("pods", "default", "b"), seen) == (rv, None, [])
    store._db.execute("PRAGMA query_only=OFF")
    assert store.put("pods", _object("b")).rv == rv + 1
    store.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=20))
def test_scans_are_sorted_and_complete(steps: list[tuple[str, str, bool]]) -> None:
    store = Store(Path(":memory:"))
    present: set[tuple[str, str]] = set()
    for namespace, name, keep in steps:
        record = store.get("pods", namespace, name)
        if keep:
            store.put("pods", _object(name, namespace))
            present.add((namespace, name))
        elif record is not None:
            store.delete(record)
            present.discard((namespace, name))
        assert [found.key for found in store.scan("pods")] == sorted(present)
        assert [found.key for found in store.scan("pods", "b")] == sorted(key for key in present if key[0] == "b")
    store.close()


def _allocator() -> Allocator:
    return Allocator(ipaddress.IPv4Network("10.96.0.0/24"), range(30000, 30005))


def _service(name: str, **spec: Any) -> dict[str, Any]:
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"type": "NodePort", **spec}}


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12))
def test_no_two_services_ever_share_an_address_or_port(names: list[str]) -> None:
    allocator = _allocator()
    held: dict[str, Any] = {}
    for name in names:
        if name in held:
            allocator.release(held.pop(name))
        else:
            service = _service(name)
            assert allocate(service, None, allocator) == []
            allocator.hold(service)
            held[name] = service
        specs = [service["spec"] for service in held.values()]
        assert len({spec["clusterIP"] for spec in specs}) == len(specs) == len(allocator.addresses)
        assert len({spec["ports"][0]["nodePort"] for spec in specs}) == len(specs) == len(allocator.node_ports)


def test_an_exhausted_range_says_so() -> None:
    allocator = _allocator()
    for i in range(5):
        service = _service(f"s{i}")
        assert allocate(service, None, allocator) == []
        allocator.hold(service)
    causes = allocate(_service("late"), None, allocator)
    assert "range is full" in causes[0].message


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a!=b", {}, True),
        ("a in (b,c),d", {"a": "c", "d": ""}, True),
        ("a notin (b)", {"a": "b"}, False),
        ("!a", {"a": ""}, False),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], matches: bool) -> None:
    chosen = selector(parse_labels(text), ())
    assert chosen is not None
    assert chosen({"metadata": {"labels": labels}}) is matches


def test_field_selectors_know_their_fields() -> None:
    chosen = selector((), parse_fields("status.phase!=Running,metadata.name=a", frozenset(("status.phase",))))
    assert chosen is not None
    assert chosen({"metadata": {"name": "a"}, "status": {"phase": "Pending"}})
    with pytest.raises(ApiError, match="field label not supported"):
        parse_fields("spec.x=y", frozenset(("status.phase",)))
    with pytest.raises(
        ApiError, match=r'"spec.x" is not a known field selector: only "metadata.name", "metadata.namesp'
    ):
        parse_fields("spec.x=y", frozenset())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600 + 60, "3h1m"),
        (86400 * 3, "3d"),
        (86400 * 800, "2y70d"),
    ],
)
def test_ages_read_as_in_kubectl(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_printer_columns_find_their_value() -> None:
    obj = {
        "status": {"conditions": [{"type": "A", "status": "1"}, {"type": "Ready", "status": "True"}]},
        "l": [{"n": 1}, {"n": 2}],
    }
    assert json_path(obj, '.status.conditions[?(@.type=="Ready")].status') == ["True"]
    assert json_path(obj, ".l[*].n") == [1, 2]
    assert json_path(obj, ".none.x") == []
