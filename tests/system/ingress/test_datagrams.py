"""UDP services of a ConfigMap, with packets; a controller of its own, for its ports are its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.datagrams import UdpClient, udp_server
from tests.support.fabric import fabric
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Json, Site, endpoint, service

from vrata.ingress.datagrams import IDLE_S, LINGER_S, Relay
from vrata.net import ip
from vrata.net.command import inside, run


@pytest.fixture(scope="module")
def carried(kubernetes: Cluster, site: Site) -> Iterator[Site]:
    assert site.process  # it has made `front`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Site(kubernetes, Path(folder), "--udp-services-configmap", "default/udp", "--spare-backends", "4")
        try:
            made.start()
            yield made
        finally:
            made.stop()


class Pods(Echoes):
    """Echo servers of UDP, each on a port of its own."""

    def port(self, pod: str) -> int:
        if pod not in self._running:
            number = free_port()
            argv = [sys.executable, "-m", "vrata.sandbox.echo", "--udp-port", str(number)]
            process = subprocess.Popen(argv, env=os.environ | {"POD_NAME": pod}, stderr=subprocess.DEVNULL)
            self._running[pod] = number, process
            wait_for(lambda: answer(number) == pod, f"{pod} listens")
        return self._running[pod][0]

    def kill(self, pod: str) -> None:
        """It has gone before anybody says so."""
        self._running[pod][1].kill()
        self._running[pod][1].wait()


@pytest.fixture(scope="module")
def pods(carried: Site) -> Iterator[Pods]:
    """Two Services, `names` (pod `red`) and `clocks` (pod `blue`)."""
    made = Pods()
    try:
        carried.apply(
            udp_service("names"),
            udp_endpoint("names", "red", made.port("red")),
            udp_service("clocks"),
            udp_endpoint("clocks", "blue", made.port("blue")),
        )
        yield made
    finally:
        made.stop()


def udp_service(name: str) -> Json:
    made = service(name)
    made["spec"]["ports"] = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    return made


def udp_endpoint(name: str, pod: str, port: int) -> Json:
    return endpoint(name, pod, port) | {"ports": [{"name": "dns", "port": port, "protocol": "UDP"}]}


def config_map(data: dict[int | str, str]) -> Json:
    body = {str(port): text for port, text in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "udp"}, "data": body}


@contextlib.contextmanager
def udp_socket() -> Iterator[socket.socket]:
    """A pod, or a client of several addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5.0)
        yield made


@contextlib.contextmanager
def client(port: int, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """It hears nobody but the address that it speaks to."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((address, port))
        made.settimeout(1.0)
        yield made


def told(asking: socket.socket, words: str = "hello") -> str:
    """The pod that answers; empty if none does."""
    with contextlib.suppress(OSError):
        asking.send(words.encode())
        while True:  # answers to an earlier question may be under way
            pod, _, said = asking.recv(65536).decode().partition(" ")
            if said == words:
                return pod
    return ""


def answer(port: int, address: str = "127.0.0.1") -> str:
    """The pod that answers a new client."""
    with client(port, address) as asking:
        return told(asking)


def relay_of(site: Site) -> int:
    """The process that carries; 0 if there is none."""
    assert site.process
    tasks = Path(f"/proc/{site.process.pid}/task")
    children = " ".join(file.read_text() for file in tasks.glob("*/children")).split()
    return next((int(child) for child in children if is_relay(int(child))), 0)


def is_relay(pid: int) -> bool:
    """Whether it runs: what waits to be reaped has no command line."""
    with contextlib.suppress(OSError):
        return b"vrata.ingress.datagrams" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def files_of(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_port_leads_to_a_service_and_elsewhere(carried: Site, pods: Pods) -> None:
    assert pods
    port = free_port()
    carried.apply(config_map({port: "default/names:53"}))
    wait_for(lambda: answer(port) == "red", "the port answers")
    reloads = carried.reloads()
    with client(port) as asking:
        assert told(asking) == "red"
        carried.apply(config_map({port: "default/clocks:dns"}))
        wait_for(lambda: told(asking) == "blue", "it leads to the other Service")
    assert answer(port, "127.0.0.9") == "blue"  # and this address answers
    if socket.has_dualstack_ipv6():
        assert answer(port, "::1") == "blue"
    carried.apply(config_map({}))
    wait_for(lambda: answer(port) == "", "and nowhere")
    assert carried.reloads() == reloads


def test_tcp_may_have_the_same_port(carried: Site, pods: Pods) -> None:
    assert pods
    carried.apply(config_map({carried.http: "default/names:53"}))
    wait_for(lambda: answer(carried.http) == "red", "the port answers")
    assert carried.ask("nobody", "/")[0] == 404


def test_clients_of_a_pod_that_goes_away_reach_another_one(carried: Site, pods: Pods) -> None:
    port = free_port()
    carried.apply(udp_service("line"), udp_endpoint("line", "one", pods.port("one")))
    carried.apply(config_map({port: "default/line:53"}))
    with client(port) as asking:
        wait_for(lambda: told(asking) == "one", "the port answers")
        carried.apply(udp_endpoint("line", "two", pods.port("two")))
        wait_for(lambda: {answer(port) for _ in range(8)} == {"one", "two"}, "both answer new clients")
        assert {told(asking) for _ in range(8)} == {"one"}
        carried.cluster.kubectl("delete", "endpointslice", "line-one")
        wait_for(lambda: told(asking) == "two", "the client reaches the other one")
        carried.apply(udp_endpoint("line", "three", pods.port("three")))
        wait_for(lambda: {answer(port) for _ in range(8)} == {"two", "three"}, "both answer new clients")
        assert told(asking) == "two"
        pods.kill("two")
        wait_for(lambda: told(asking) == "three", "before anybody says that it has gone")


def test_clients_at_once_get_their_own_answers(carried: Site, pods: Pods) -> None:
    assert pods
    first, second = free_port(), free_port()
    carried.apply(config_map({first: "default/names:53", second: "default/clocks:53"}))
    wait_for(lambda: (answer(first), answer(second)) == ("red", "blue"), "both ports answer")
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(client(port)) for port in (first, second) * 8]
        for number, one in enumerate(asking):
            one.send(f"number {number}".encode())
        heard = [one.recv(65536).decode() for one in asking]
    assert heard == [f"{'blue' if number % 2 else 'red'} number {number}" for number in range(16)]


def test_empty_and_large_datagrams_arrive_whole(carried: Site, pods: Pods) -> None:
    assert pods
    port = free_port()
    carried.apply(config_map({port: "default/names:53"}))
    wait_for(lambda: answer(port) == "red", "the port answers")
    with client(port) as asking:
        for words in (b"", b"x" * 60_000):
            asking.send(words)
            assert asking.recv(65536) == b"red " + words


def test_what_is_wrong_is_told_on_the_config_map_and_the_rest_is_carried(carried: Site, pods: Pods) -> None:
    assert pods
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("127.0.0.1", 0))
        taken = int(somebody.getsockname()[1])
        data: dict[int | str, str] = {port: "default/names:53", taken: "default/names:53", "dns": "default/names:53"}
        carried.apply(config_map(data | {1: "default/names:53:PROXY", 2: "default/web:80"}))
        wait_for(lambda: answer(port) == "red", "the good port answers")
        for words in (
            f"data.{taken}: it cannot be opened here",
            "'dns' is no port",
            "names no Service; write namespace/service:port",
            "has no UDP port '80'",
        ):
            wait_for(lambda words=words: words in carried.events(), words)  # type: ignore[misc]
    wait_for(lambda: answer(taken) == "red", "the port is had as soon as it is free")


def test_a_relay_that_dies_comes_back(carried: Site, pods: Pods) -> None:
    assert pods
    port = free_port()
    carried.apply(config_map({port: "default/names:53"}))
    with client(port) as asking:
        wait_for(lambda: told(asking) == "red", "the port answers")
        killed = relay_of(carried)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: relay_of(carried) not in (0, killed), "another one runs")
        wait_for(lambda: told(asking) == "red", "it knows what to carry")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_controller_leaves_no_relay(carried: Site, pods: Pods, number: signal.Signals) -> None:
    assert pods
    port = free_port()
    carried.apply(config_map({port: "default/names:53"}))
    wait_for(lambda: answer(port) == "red", "the port answers")
    relay = relay_of(carried)
    assert is_relay(relay)
    try:
        assert carried.process
        carried.process.send_signal(number)
        carried.process.wait(90)
        wait_for(lambda: not is_relay(relay), "the relay has ended")
    finally:
        carried.stop()
        carried.start()
    wait_for(lambda: answer(port) == "red", "the next one carries")


def test_of_more_clients_than_may_be_the_newest_are_served(pods: Pods) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "vrata.ingress.datagrams", "--sessions", "4"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdin
        assert relay.stdout
        wanted = {port: [["127.0.0.1", pods.port("red")], ["127.0.0.1", pods.port("blue")]]}
        try:
            relay.stdin.write(f"{json.dumps(wanted)}\n")
            relay.stdin.flush()
            assert relay.stdout.readline() == "{}\n"
            files = files_of(relay.pid)
            with contextlib.ExitStack() as stack:
                asking = [stack.enter_context(client(port)) for _ in range(9)]
                chosen = [told(one) for one in asking]
                assert set(chosen) == {"red", "blue"}
                assert files_of(relay.pid) == files + 4
                assert [told(one) for one in asking[-4:]] == chosen[-4:]  # their sessions are still there
        finally:
            relay.stdin.close()


async def test_a_silent_client_is_forgotten(pods: Pods) -> None:
    port, loop = free_port(), asyncio.get_running_loop()
    relay = Relay(loop, 4)
    try:
        relay.want({port: [("127.0.0.1", pods.port("red"))]})
        assert await asyncio.to_thread(answer, port) == "red"
        relay.tick(loop.time() + IDLE_S - 1)
        assert len(relay.sessions) == 1
        relay.tick(loop.time() + IDLE_S + 1)
        assert not relay.sessions
    finally:
        relay.want({})
    assert answer(port) == ""


async def test_an_answer_of_a_pod_that_has_left_still_arrives(pods: Pods) -> None:
    port, loop = free_port(), asyncio.get_running_loop()
    relay = Relay(loop, 4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow, client(port) as asking:
        slow.bind(("127.0.0.1", 0))
        try:
            relay.want({port: [slow.getsockname()]})
            asking.send(b"early")
            question, session = await asyncio.to_thread(slow.recvfrom, 100)
            relay.want({port: [("127.0.0.1", pods.port("red"))]})
            slow.sendto(b"slow " + question, session)
            assert await asyncio.to_thread(asking.recv, 100) == b"slow early"
            assert await asyncio.to_thread(told, asking) == "red"
            relay.tick(loop.time() + LINGER_S + 1)
            assert [one.pod[1] for one in relay.sessions.values()] == [pods.port("red")]
            slow.connect(session)
            slow.send(b"late")
            with pytest.raises(ConnectionRefusedError):  # which the one before met
                slow.send(b"later")
        finally:
            relay.want({})


@pytest.mark.parametrize("both", [True, False])
async def test_each_address_that_was_asked_answers(monkeypatch: pytest.MonkeyPatch, *, both: bool) -> None:
    if both and not socket.has_dualstack_ipv6():
        pytest.skip("a machine without IPv6")
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: both)
    port, relay = free_port(), Relay(asyncio.get_running_loop(), 4)
    with udp_socket() as slow, udp_socket() as asking:
        try:
            relay.want({port: [slow.getsockname()]})
            for address in ("127.0.0.2", "127.0.0.3"):
                asking.sendto(address.encode(), (address, port))
            questions = [await asyncio.to_thread(slow.recvfrom, 100) for _ in range(2)]
            for question, session in questions:
                slow.sendto(question, session)
            answers = [await asyncio.to_thread(asking.recvfrom, 100) for _ in range(2)]
            assert sorted(answers) == [(one.encode(), (one, port)) for one in ("127.0.0.2", "127.0.0.3")]
        finally:
            relay.want({})


async def test_a_pod_that_no_way_leads_to_costs_no_datagram(pods: Pods) -> None:
    port, relay = free_port(), Relay(asyncio.get_running_loop(), 8)
    try:
        relay.want({port: [("fe80::1", 53), ("127.0.0.1", pods.port("red"))]})  # of no link
        assert [await asyncio.to_thread(answer, port) for _ in range(4)] == ["red"] * 4
    finally:
        relay.want({})


async def test_a_narrower_way_to_the_pod_is_no_reason_for_another_one() -> None:
    async with fabric("narrow", "near", "far") as made, contextlib.AsyncExitStack() as stack:
        machine = await made.add_machine("relay", {"near": ["198.51.100.1/25"]}, default_via="198.51.100.2")
        router = await made.add_machine("router", {"near": ["198.51.100.2/25"], "far": ["198.51.100.129/25"]})
        addresses = ("198.51.100.130", "198.51.100.131")
        far = [f"{address}/25" for address in addresses]
        server = await made.add_machine("pods", {"far": far}, default_via="198.51.100.129")
        await run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", netns=router.netns)
        await ip.batch(["link set far mtu 1200"], netns=router.netns)
        for address in addresses:
            await stack.enter_async_context(udp_server(server, address, 53, address))
        argv = inside(machine.netns, sys.executable, "-m", "vrata.ingress.datagrams")
        relay = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert relay.stdin
        assert relay.stdout
        try:
            relay.stdin.write(json.dumps({53: [(address, 53) for address in addresses]}).encode() + b"\n")
            assert await relay.stdout.readline() == b"{}\n"
            asking = stack.enter_context(UdpClient(machine))
            pod = await asking.ask("127.0.0.1", 53, 5.0)
            assert pod
            assert await asking.ask("127.0.0.1", 53, 0.5, b"x" * 1400) is None  # too long for the router
            assert await asking.ask("127.0.0.1", 53, 5.0, b"x" * 1400) == pod
        finally:
            relay.stdin.close()
            await relay.wait()


async def test_a_burst_waits_its_turn() -> None:
    port, relay = free_port(), Relay(asyncio.get_running_loop(), 4)
    with udp_socket() as pod, client(port) as asking:
        pod.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        try:
            relay.want({port: [pod.getsockname()]})
            for number in range(400):  # nobody reads meanwhile: this is the relay's own thread
                asking.send(str(number).encode())
            heard = [int(await asyncio.to_thread(pod.recv, 100)) for _ in range(400)]
        finally:
            relay.want({})
    assert heard == list(range(400))


def test_an_input_that_breaks_off_is_an_end() -> None:
    argv = [sys.executable, "-m", "vrata.ingress.datagrams"]
    done = subprocess.run(argv, input=b'{"53": [["127.', capture_output=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"", b"")
