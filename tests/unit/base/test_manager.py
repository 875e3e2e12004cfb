"""What systemd is told: ready, alive, ending."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from vrata.base.manager import supervised


@pytest.fixture
def notified(tmp_path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "notify"))
    receiver.settimeout(5)
    return receiver


async def test_a_service_says_that_it_is_ready_alive_and_ends(notified: socket.socket, tmp_path: Path) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "20000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with notified:
        ready = asyncio.Event()
        async with supervised(ready, environment):
            await asyncio.sleep(0.05)
            notified.settimeout(0)
            with pytest.raises(BlockingIOError):
                notified.recv(100)
            notified.settimeout(5)
            ready.set()
            await asyncio.sleep(0.05)
            assert notified.recv(100) == b"READY=1"
            assert notified.recv(100) == b"WATCHDOG=1"
            assert notified.recv(100) == b"WATCHDOG=1"
        said = b""
        while said != b"STOPPING=1":
            said = notified.recv(100)


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
async def test_without_a_watchdog_there_are_no_signs_of_life(
    notified: socket.socket, tmp_path: Path, watchdog: dict[str, str]
) -> None:
    with notified:
        async with supervised(None, {"NOTIFY_SOCKET": str(tmp_path / "notify")} | watchdog):
            await asyncio.sleep(0.05)
        assert [notified.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


async def test_without_systemd_or_with_one_that_has_gone_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"NOTIFY_SOCKET": "@nobody"}):
        async with supervised(None, environment):
            pass
