"""New programs under running balancers: another HAProxy is installed, the agent is restarted; no client notices."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.support.fabric import wait_until
from tests.support.traffic import prober
from tests.system.failover.test_handover import download, goes_on, want
from tests.system.host.lab import HOSTS, PORT, VIP, lab

from vrata.net import daemon


async def test_another_haproxy_is_taken_into_use_and_breaks_nothing(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = short_path / "bin"
    programs.mkdir()
    installed = shutil.which("haproxy")
    assert installed
    shutil.copy2(installed, programs / "haproxy")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    async with lab("upgrade", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        masters = [it.pid(host, "haproxy") for host in HOSTS]
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            await goes_on(it, anew, kept)
            async with download(it.client, VIP) as finish:
                shutil.copy2(installed, programs / "newer")
                (programs / "newer").rename(programs / "haproxy")  # as dpkg does
                assert all(daemon.is_replaced(pid) for pid in masters)
                await wait_until(lambda: not any(daemon.is_replaced(pid) for pid in masters), it.logs)
                await goes_on(it, anew, kept)
                assert await finish() == "answered"
            assert (anew.failed, kept.failed) == ([], [])
        assert masters == [it.pid(host, "haproxy") for host in HOSTS]


async def test_an_agent_that_is_upgraded_touches_nothing(short_path: Path) -> None:
    async with lab("agentup", short_path) as it:
        await want(it, 1)
        await wait_until(it.one_active, it.logs)
        await it.answers(it.client, VIP)
        active = it.active()
        before = [it.pid(host, name) for host in HOSTS for name in ("haproxy", "keepalived")]
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            await goes_on(it, anew, kept)
            for host in HOSTS:
                assert await it.kill_agent(host, signal.SIGTERM) == 0
                await it.start_agent(host)
            await want(it, 2)
            await goes_on(it, anew, kept)
            assert (anew.failed, kept.failed) == ([], [])
        assert [it.pid(host, name) for host in HOSTS for name in ("haproxy", "keepalived")] == before
        assert it.active() == active
