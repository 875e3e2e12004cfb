"""A node with three pods, a client outside, and the ruleset of the node proxy in the node: real packets go through.

The pods hang on the node as the sandbox's do: a /32 with the node as next hop even for neighbours.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support import sctp
from tests.support.fabric import Fabric, Machine, fabric
from tests.support.traffic import http_server

from vrata.net import ip, nft
from vrata.net.command import run
from vrata.net.flows import Target
from vrata.net.netns import in_namespace
from vrata.nodeport.model import PortView, Rules, Surroundings
from vrata.nodeport.plan import plan_change
from vrata.nodeport.render import render_leftovers, render_rules, render_skeleton, render_transaction

NODE, NODE_PODS, CLIENT = "192.0.2.10", "10.20.0.1", "192.0.2.50"
CLIENTS = tuple(f"192.0.2.{50 + n}" for n in range(12))
CLUSTER_IP = "10.96.0.5"
PORT, NODE_PORT, POD_PORT = 80, 30080, 8080
PODS = ("10.20.0.2", "10.20.0.3", "10.20.0.4")
NODE_6, NODE_PODS_6, CLIENT_6, CLUSTER_IP_6 = "fd00:1::10", "fd00:20::1", "fd00:1::50", "fd00:96::5"
PODS_6 = ("fd00:20::2", "fd00:20::3", "fd00:20::4")
SILENCE_S = 0.4
AROUND = Surroundings(local_pods=("10.20.0.0/24", "fd00:20::/64"))
SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
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
        change = plan_change(self.rules, desired)
        text = render_transaction(change)
        await nft.apply(text, netns=self.node.netns)
        await nft.apply(render_leftovers(change), netns=self.node.netns)
        self.rules = desired
        return text

    async def ask(self, machine: Machine, address: str, port: int, *, source: str = "", udp: bool = False) -> str:
        """What answers: `POD PEER`, or `refused`, or `silence`."""
        work = _ask_udp if udp else _ask_tcp
        return await asyncio.to_thread(in_namespace, machine.netns, lambda: work(address, port, source))

    async def associate(self, machine: Machine, address: str, port: int) -> str:
        """What answers over SCTP, as `ask`."""

        def work() -> str:
            return _told(lambda: sctp.associate(address, port, SILENCE_S))

        return await asyncio.to_thread(in_namespace, machine.netns, work)

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
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as connection:
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
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, POD_PORT))
        made.settimeout(0)
        return made

    sock = in_namespace(machine.netns, bound)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Echo(name), sock=sock)
    try:
        yield
    finally:
        transport.close()


async def _pod(made: Fabric, name: str, address: str, address_6: str) -> Machine:
    machine = await made.add_machine(name, {"pods": [f"{address}/32", f"{address_6}/128"]})
    routes = [f"route add default via {gateway} dev pods onlink" for gateway in (NODE_PODS, NODE_PODS_6)]
    await ip.batch(routes, netns=machine.netns)
    return machine


@contextlib.asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    """Everything up, with an empty ruleset in the node; pods answer on TCP, UDP and SCTP with their and the peer's address."""
    async with fabric("nodeport", "lan", "pods") as made, contextlib.AsyncExitStack() as stack:
        networks: dict[str, Sequence[str]] = {
            "lan": [f"{NODE}/24", f"{NODE_6}/64"],
            "pods": [f"{NODE_PODS}/24", f"{NODE_PODS_6}/64"],
        }
        node = await made.add_machine("node", networks)
        await run("sysctl", "-q", "-w", *(f"{key}={value}" for key, value in SYSCTLS.items()), netns=node.netns)
        await ip.batch(
            ["link set lo up", f"route add default via {CLIENT}", f"route add default via {CLIENT_6}"], netns=node.netns
        )
        lan = [*(f"{address}/24" for address in CLIENTS), f"{CLIENT_6}/64"]
        client = await made.add_machine("client", {"lan": lan})
        routes = [f"route add 10.96.0.0/16 via {NODE} src {CLIENT}", f"route add fd00:96::/64 via {NODE_6}"]
        await ip.batch(routes, netns=client.netns)
        pods = {address: await _pod(made, f"pod-{n}", address, PODS_6[n]) for n, address in enumerate(PODS)}
        for (address, machine), address_6 in zip(pods.items(), PODS_6, strict=True):
            for one in (address, address_6):
                await stack.enter_async_context(http_server(machine, one, POD_PORT, one))
                await stack.enter_async_context(_udp_server(machine, one, one))
                await stack.enter_async_context(sctp.sctp_server(machine, one, POD_PORT, one))
        # As on a cloud's node, what pods send elsewhere leaves with the node's address.
        skeleton = render_skeleton(AROUND, anew=True)
        masquerade = "type nat hook postrouting priority srcnat + 10; ip saddr 10.20.0.0/24 oifname lan masquerade;"
        await nft.apply(f"table ip pods {{ chain out {{ {masquerade} }}; }}\n{skeleton}", netns=node.netns)
        yield Yard(node, client, pods)
