"""Names that Services stand for."""

import asyncio
import contextlib
import socket
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ingress.objects import WEB

from vrata.ingress.endpoints import servers_of
from vrata.ingress.model import BackendKey
from vrata.ingress.names import Names, Owners, reachable

ELSEWHERE = msgspec.structs.replace(
    WEB, spec=msgspec.structs.replace(WEB.spec, type="ExternalName", external_name="db.example")
)


def test_addresses_of_this_machine_are_left_out() -> None:
    ours = {
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "fe80::1%eth0",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "fd00:ec2::254",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "100.100.100.200",
    }
    assert reachable(ours) == ()
    assert reachable({*ours, "192.0.2.9", "10.0.0.1", "2001:db8::1"}) == ("10.0.0.1", "192.0.2.9", "2001:db8::1")


ADDRESSES = ["10.0.0.1", "10.0.0.2", "FD00::0001", "fd00::1", "None", ""]
CHANGES = st.lists(
    st.tuples(st.sampled_from(["a/one", "a/two", "b/one"]), st.lists(st.sampled_from(ADDRESSES), max_size=4)),
    max_size=20,
)


@given(CHANGES)
def test_an_address_belongs_to_the_namespaces_whose_objects_have_it(changes: list[tuple[str, list[str]]]) -> None:
    owners, last = Owners(), dict[str, list[str]]()
    for key, addresses in changes:
        owners.put(key, key.partition("/")[0], addresses)
        last[key] = addresses
    for address in ("10.0.0.1", "10.0.0.2", "fd00::1"):
        forms = {address, "FD00::0001"} if ":" in address else {address}
        assert {*owners.of(address)} == {key.partition("/")[0] for key, has in last.items() if forms & {*has}}


async def test_services_are_told_of_the_addresses_of_their_name() -> None:
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    names = Names(told.put_nowait)
    names.follow("default/a", "192.0.2.1")
    names.follow("default/b", "192.0.2.1")
    running = asyncio.create_task(names.run())
    try:
        async with asyncio.timeout(90):
            assert await told.get() == {"default/a", "default/b"}
            assert names.get("192.0.2.1") == ("192.0.2.1",)
            names.follow("default/a", "127.0.0.1")
            assert await told.get() == {"default/a"}
            assert names.get("127.0.0.1") == ()
            names.follow("default/b", None)
            assert names.get("192.0.2.1") is None
            names.follow("default/b", "192.0.2.2")
            assert await told.get() == {"default/b"}
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_what_belongs_to_others_is_left_out_whenever_it_is_asked_for() -> None:
    """Another namespace's Service, the API server's, the controller's own pods and balancer."""
    owners = Owners()
    owners.put("service default/kubernetes", "default", ["10.96.0.1"])
    own: set[str] = {"10.20.0.7"}
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    names = Names(told.put_nowait, owners.of, lambda: frozenset(own))
    asked = ("10.96.0.1", "10.20.0.7", "192.0.2.1")
    for address in asked:
        names.follow(f"team/{address}", address)
    running = asyncio.create_task(names.run())
    try:
        async with asyncio.timeout(10):
            assert {*(await told.get()), *(await told.get()), *(await told.get())} == {f"team/{one}" for one in asked}
        assert [names.get(one, "team") for one in asked] == [(), (), ("192.0.2.1",)]
        assert names.get("10.96.0.1", "default") == ("10.96.0.1",), "its own namespace may"
        for prefix in ("::ffff:", "::", "64:ff9b::"):
            for address in ("10.96.0.1", "10.20.0.7"):
                names._found["mapped"] = (f"{prefix}{address}",)
                assert names.get("mapped", "team") == ()
        owners.put("slice others/web", "others", ["192.0.2.1"])
        assert names.get("192.0.2.1", "team") == ()
        assert names.leading_to("192.0.2.1") == {"team/192.0.2.1"}
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_names_that_take_long_keep_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another namespace's, nor whoever checks passwords in a thread."""
    answers, real = threading.Event(), socket.getaddrinfo

    def slow(name: str, *words: Any, **more: Any) -> Any:
        if name.startswith("slow"):
            answers.wait(30)
            raise socket.gaierror
        return real(name, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    names = Names(told.put_nowait)
    for number in range(40):
        names.follow(f"greedy/{number}", f"slow-{number}.example")
    running = asyncio.create_task(names.run())
    try:
        async with asyncio.timeout(90):
            await asyncio.to_thread(lambda: None)
            names.follow("team/a", "192.0.2.1")
            assert await told.get() == {"team/a"}
            await asyncio.to_thread(lambda: None)
    finally:
        answers.set()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def test_a_port_need_not_be_of_the_service() -> None:
    named = ("2001:db8::1", "192.0.2.1")
    servers, wrong = servers_of(BackendKey("default/web:8443"), ELSEWHERE, (), named)
    assert [(one.address, one.port) for one in servers] == [("2001:db8::1", 8443), ("192.0.2.1", 8443)]
    assert wrong is None
    servers, _ = servers_of(BackendKey("default/web:http"), ELSEWHERE, (), named)
    assert [one.port for one in servers] == [80, 80]


def test_a_name_without_addresses_says_what_to_do() -> None:
    _, wrong = servers_of(BackendKey("default/web:80"), ELSEWHERE, (), ())
    message = "service.name: 'db.example' has no address outside this machine and other namespaces; name another one"
    assert wrong == ("NameNotResolved", message)
    _, wrong = servers_of(BackendKey("default/web:grpc"), ELSEWHERE, (), ("192.0.2.1",))
    assert wrong
    assert wrong[0] == "PortNotFound"
