"""A node with three pods, a client outside, and the ruleset of the node proxy in the node: real packets go through.

The pods hang on the node as the sandbox's do: a /32 with the node as next hop even for neighbours.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.fabric import Fabric, Machine, fabric
from tests.support.traffic import http_server

from vrata.net import ip, nft
from vrata.net.command import run
from vrata.net.netns import in_namespace
from vrata.nodeport.model import PortView, Rules, Target
from vrata.nodeport.plan import plan_change
from vrata.nodeport.render import SKELETON, render_rules, render_transaction

NODE, NODE_PODS, CLIENT = "192.0.2.10", "10.20.0.1", "192.0.2.50"
CLIENTS = tuple(f"192.0.2.{50 + n}" for n in range(12))
CLUSTER_IP = "10.96.0.5"
PORT, NODE_PORT, POD_PORT = 80, 30080, 8080
PODS = ("10.20.0.2", "10.20.0.3", "10.20.0.4")
SILENCE_S = 0.4
SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    # The interfaces are there already: `default` would come too late, and a redirect eats the next ICMP error's turn.
    "net.ipv4.conf.lan.send_redirects": "0",
    "net.ipv4.conf.pods.send_redirects": "0",
}


def view(*pods: str, **changes: Any) -> PortView:
    """A Service port on these pods, as the Service controller would hand it over."""
    targets = tuple(Target(pod, POD_PORT) for pod in pods)
    values: dict[str, Any] = {
        "service": "default/web",
        "name": "http",
        "protocol": "tcp",
        "cluster_ips": (CLUSTER_IP,),
        "port": PORT,
        "node_port": NODE_PORT,
        "internal": targets,
        "external": targets,
        "external_local": False,
    }
    return PortView(**(values | changes))


@dataclass
class Yard:
    """What a test acts on."""

    node: Machine
    client: Machine
    pods: dict[str, Machine]
    rules: Rules = field(default_factory=Rules)

    async def serve(self, *views: PortView) -> str:
        """Bring the node's ruleset from what it is to these ports in one transaction; returns the transaction."""
        desired = render_rules(views)
        text = render_transaction(plan_change(self.rules, desired))
        await nft.apply(text, netns=self.node.netns)
        self.rules = desired
        return text

    async def ask(self, machine: Machine, address: str, port: int, *, source: str = "", udp: bool = False) -> str:
        """What answers: `POD PEER`, or `refused`, or `silence`."""
        work = _ask_udp if udp else _ask_tcp
        return await asyncio.to_thread(in_namespace, machine.netns, lambda: work(address, port, source))

    async def forget(self) -> None:
        """No Service, no tracked flow: as after boot."""
        await self.serve()
        await run("conntrack", "-F", netns=self.node.netns)


def _told(work: Callable[[], bytes]) -> str:
    try:
        return work().rpartition(b"\r\n\r\n")[2].decode()
    except (ConnectionRefusedError, PermissionError):  # the latter: refused on the way out of the node itself
        return "refused"
    except TimeoutError:
        return "silence"


def _ask_tcp(address: str, port: int, source: str) -> str:
    def once() -> bytes:
        with socket.create_connection((address, port), SILENCE_S, (source, 0) if source else None) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            return connection.recv(4096)

    return _told(once)


def _ask_udp(address: str, port: int, source: str) -> str:
    def once() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.bind((source, 40000))
            connection.settimeout(SILENCE_S)
            connection.connect((address, port))
            connection.send(b"hello")
            return connection.recv(4096)

    return _told(once)


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # 3.11's does not inherit from it

    def datagram_received(self, _data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(f"{self._name} {addr[0]}".encode(), addr)


@contextlib.asynccontextmanager
async def _udp_server(machine: Machine, address: str, name: str) -> AsyncIterator[None]:
    def bound() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, POD_PORT))
        made.settimeout(0)
        return made

    sock = in_namespace(machine.netns, bound)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Echo(name), sock=sock)
    try:
        yield
    finally:
        transport.close()


async def _pod(made: Fabric, name: str, address: str) -> Machine:
    machine = await made.add_machine(name, {"pods": [f"{address}/32"]})
    await ip.batch([f"route add default via {NODE_PODS} dev pods onlink"], netns=machine.netns)
    return machine


@contextlib.asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    """Everything up, with an empty ruleset in the node; the pods answer on TCP and UDP with their address and the peer's."""
    async with fabric("nodeport", "lan", "pods") as made, contextlib.AsyncExitStack() as stack:
        node = await made.add_machine("node", {"lan": [f"{NODE}/24"], "pods": [f"{NODE_PODS}/24"]})
        await run("sysctl", "-q", "-w", *(f"{key}={value}" for key, value in SYSCTLS.items()), netns=node.netns)
        await ip.batch(["link set lo up", f"route add default via {CLIENT}"], netns=node.netns)
        client = await made.add_machine("client", {"lan": [f"{address}/24" for address in CLIENTS]})
        await ip.batch([f"route add 10.96.0.0/16 via {NODE} src {CLIENT}"], netns=client.netns)
        pods = {address: await _pod(made, f"pod-{n}", address) for n, address in enumerate(PODS)}
        for address, machine in pods.items():
            await stack.enter_async_context(http_server(machine, address, POD_PORT, address))
            await stack.enter_async_context(_udp_server(machine, address, address))
        # As on a cloud's node, what pods send elsewhere leaves with the node's address.
        masquerade = "type nat hook postrouting priority srcnat + 10; ip saddr 10.20.0.0/24 oifname lan masquerade;"
        await nft.apply(f"table ip pods {{ chain out {{ {masquerade} }}; }}\n{SKELETON}", netns=node.netns)
        yield Yard(node, client, pods)
