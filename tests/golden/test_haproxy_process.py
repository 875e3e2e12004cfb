"""A real HAProxy through the handles that the host agent and the Ingress controller share."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.fabric import wait_until
from tests.support.haproxy import BINARIES, SYSTEM, adds_backends, present
from tests.support.pki import issue

from vrata.base.errors import VrataError
from vrata.haproxy.process import HaproxyProcess
from vrata.haproxy.runtime import RuntimeFailed

CONFIG = """global
    stats socket {directory}/stats.sock mode 600 level admin
defaults all
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend f
    bind unix@{directory}/front.sock
    use_backend %[req.hdr(host),map({directory}/hosts.map,b)]
backend b
    balance roundrobin
    server s1 127.0.0.1:9 weight 1
"""


@pytest.fixture(params=list(BINARIES.values()), ids=list(BINARIES))
async def process(request: pytest.FixtureRequest) -> AsyncIterator[HaproxyProcess]:
    with tempfile.TemporaryDirectory(prefix="vr-") as name:
        made = HaproxyProcess(Path(name), binary=present(request.param))
        Path(name, "hosts.map").write_text("")
        made.write_config(CONFIG.format(directory=name))
        try:
            await made.start()
            yield made
        finally:
            await made.stop()
            assert made.running() is None


async def test_it_is_adopted_by_another_handle_and_reloads_into_a_new_worker(process: HaproxyProcess) -> None:
    adopted = HaproxyProcess(process.directory)
    master = adopted.running()
    assert master
    before = (await adopted.runtime.information())["Pid"]
    await adopted.reload()
    assert (await adopted.runtime.information())["Pid"] != before
    assert adopted.running() == master


async def test_a_failed_reload_says_why_and_the_old_worker_goes_on(process: HaproxyProcess) -> None:
    before = (await process.runtime.information())["Pid"]
    process.write_config("global\n    nonsense\n")
    with pytest.raises(VrataError, match="could not reload"):
        await process.reload()
    assert (await process.runtime.information())["Pid"] == before


async def test_a_map_larger_than_one_payload_is_replaced_whole(process: HaproxyProcess) -> None:
    name = str(process.directory / "hosts.map")
    await process.runtime.replace_map(name, ((f"host-{n}.example.org", "b") for n in range(2000)))
    assert len((await process.runtime.ask(f"show map {name}")).splitlines()) == 2000
    await process.runtime.replace_map(name, [("only.example.org", "b")])
    assert (await process.runtime.ask(f"show map {name}")).endswith("only.example.org b")


async def test_a_map_row_that_would_be_two_is_refused_before_anything_changes(process: HaproxyProcess) -> None:
    name = str(process.directory / "hosts.map")
    with pytest.raises(VrataError, match="cannot be sent"):
        await process.runtime.replace_map(name, [("a\nb", "c")])
    assert await process.runtime.ask(f"show map {name}") == ""


async def test_servers_come_and_go_at_run_time(process: HaproxyProcess) -> None:
    await process.runtime.add_server("b", "s2", "127.0.0.1:10", ("weight", "2", "check", "inter", "500ms"))
    assert await process.runtime.servers() == {("b", "s1"), ("b", "s2")}
    await process.runtime.set_weight("b", "s2", 0)
    await process.runtime.set_server_address("b", "s2", "127.0.0.2", 11)
    await process.runtime.set_server_state("b", "s2", "drain")
    assert await process.runtime.remove_server("b", "s2")
    assert await process.runtime.servers() == {("b", "s1")}
    with pytest.raises(VrataError, match="refused"):
        await process.runtime.set_weight("b", "nobody", 1)


async def test_a_backend_is_added_as_often_as_one_says_and_refused_by_those_that_can_not(
    process: HaproxyProcess,
) -> None:
    able = "add backend " in await process.runtime.ask("help")
    assert able == adds_backends(process._binary)
    if able:
        for _ in range(2):
            await process.runtime.add_backend("live", "all")
        assert "live" in (await process.runtime.ask("show backend")).splitlines()
        with pytest.raises(RuntimeFailed, match=r"refused `add backend live-2 from nobody"):
            await process.runtime.add_backend("live-2", "nobody")
    else:
        with pytest.raises(RuntimeFailed, match="Unknown command"):
            await process.runtime.add_backend("live", "all")


# HAProxy 3.4.7 itself never gives the lock back after some of these meetings, to nobody: not one to test against.
@pytest.mark.parametrize("process", [SYSTEM], ids=["system"], indirect=True)
async def test_certificates_are_taken_while_somebody_else_looks_at_them(process: HaproxyProcess) -> None:
    runtime, one = process.runtime, issue("one", "one.example")
    for number in range(200):  # so that showing them takes a while
        await runtime.ask(f"new ssl cert {process.directory}/{number:0100d}.pem")

    async def look() -> None:
        while True:
            assert len((await runtime.ask("show ssl cert")).splitlines()) > 200
            await asyncio.sleep(0.005)  # else nobody else would ever have a turn

    async with asyncio.TaskGroup() as group:
        other = group.create_task(look())
        for number in range(100):
            await runtime.add_certificate(f"{process.directory}/{number}.pem", one.cert_pem + one.key_pem)
        other.cancel()


@pytest.mark.parametrize(("kind", "add"), [("cert", "add_certificate"), ("ca-file", "add_authority")])
async def test_a_certificate_is_taken_after_somebody_died_amid_another(
    process: HaproxyProcess, kind: str, add: str
) -> None:
    runtime, pem = process.runtime, {name: issue(name, name, authority=True) for name in ("dead", "new")}
    whole = {name: one.cert_pem + (one.key_pem if kind == "cert" else "") for name, one in pem.items()}
    dead, new = (f"{process.directory}/{name}.pem" for name in whole)
    await runtime.ask(f"new ssl {kind} {dead}")
    assert "ransaction created" in await runtime.ask(f"set ssl {kind} {dead} <<\n{whole['dead']}\n")
    await getattr(runtime, add)(new, whole["new"])
    assert "Subject: /CN=new" in await runtime.ask(f"show ssl {kind} {new}")
    await getattr(runtime, add)(dead, whole["dead"])
    assert "Subject: /CN=dead" in await runtime.ask(f"show ssl {kind} {dead}")


async def test_a_killed_master_is_noticed_and_takes_its_worker_along(process: HaproxyProcess) -> None:
    ended: list[int | None] = []
    master = process.running()
    assert master
    worker = int((await process.runtime.information())["Pid"])
    watch = process.watch(master, ended.append)
    os.kill(master.pid, signal.SIGKILL)
    await wait_until(lambda: ended == [-signal.SIGKILL], "the watch calls back with the status")
    await wait_until(lambda: not Path(f"/proc/{worker}/exe").exists(), "the worker ends")
    watch.close()


async def test_a_missing_program_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(VrataError, match=r"haproxy-missing: command not found; install it: apt-get install"):
        HaproxyProcess(tmp_path, binary="haproxy-missing").spawn()
