"""Kill -9 of each part in turn, under load: established services go on, and `up` repairs."""

import asyncio
import signal

import pytest

from vrata.net import daemon
from vrata.sandbox.demo.manifests import echo_deployment, service
from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.lifecycle import silent

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTS = ("cloud", "apiserver", "host-a", "host-b", "workloads", "kubelet-worker-0", "node-worker-0", "provider")


async def test_no_part_that_dies_takes_a_service_with_it(stage: Stage) -> None:
    await stage.apply(echo_deployment("steady"), service("steady", "LoadBalancer"))
    address = await stage.address_of("steady")
    await stage.until_answers("client", f"http://{address}/")
    options = ("--seconds", "300", "--timeout-ms", "5000", "--interval-ms", "10", "--keep-alive", "1")
    probe = await stage.start_probe("client", address, *options)
    known = {entry.name for entry in stage.sandbox.all_parts()}
    for name in PARTS:
        if name in known:
            record = stage.sandbox.parts.record(name)
            assert record
            assert record.is_alive(), f"{name} runs before it is killed"
            daemon.send(record.process, signal.SIGKILL)
            await asyncio.sleep(0.5)  # under load for a while without it
    await stage.sandbox.up(silent)
    assert all(stage.sandbox.parts.is_running(name) for name in known)
    result = await stage.finish_probe(probe)
    assert result["sent"] > 100
    assert result["failures"] == {}
    await stage.apply(service("after", "LoadBalancer", "steady"))
    after = await stage.address_of("after")
    await stage.until_answers("client", f"http://{after}/")
