"""Names that Services stand for."""

import asyncio
import contextlib
import socket
import threading
from typing import Any

import msgspec
import pytest
from tests.unit.ingress.objects import WEB

from vrata.ingress.endpoints import servers_of
from vrata.ingress.model import BackendKey
from vrata.ingress.names import Names, reachable

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
    }
    assert reachable(ours) == ()
    assert reachable({*ours, "192.0.2.9", "10.0.0.1", "2001:db8::1"}) == ("10.0.0.1", "192.0.2.9", "2001:db8::1")


async def test_services_are_told_of_the_addresses_of_their_name() -> None:
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    names = Names(told.put_nowait)
    names.follow("default/a", "192.0.2.1")
    names.follow("default/b", "192.0.2.1")
    running = asyncio.create_task(names.run())
    try:
        async with asyncio.timeout(10):
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
        async with asyncio.timeout(10):
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
    message = "service.name: 'db.example' has no address outside this machine; name another one"
    assert wrong == ("NameNotResolved", message)
    _, wrong = servers_of(BackendKey("default/web:grpc"), ELSEWHERE, (), ("192.0.2.1",))
    assert wrong
    assert wrong[0] == "PortNotFound"
