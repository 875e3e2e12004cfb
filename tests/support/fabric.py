"""A network in a namespace: bridges that stand for the networks, machines plugged into them, cables that can be cut.

Everything is named by `kernel_name` with the process id in it, so that several test runs do not meet, and goes away
at the end of `async with`, whatever happened inside. Cutting takes the machine's port out of the fabric's bridge: its
peers keep their carrier, as with a real switch.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from tests.support.pauses import pause_s

from vrata.base.clock import monotonic_s
from vrata.base.ids import kernel_name
from vrata.net import daemon, ip
from vrata.net.netns import in_namespace

_numbers = itertools.count()


@dataclass
class Machine:
    """A namespace plugged into some of the fabric's networks. `ports`: network -> port in the fabric."""

    name: str
    netns: str
    ports: dict[str, str] = field(default_factory=dict)
    bridges: dict[str, str] = field(default_factory=dict)


class Fabric:
    """The networks and machines of one test."""

    def __init__(self, label: str) -> None:
        self._key = f"{label}:{os.getpid()}:{next(_numbers)}"
        self.netns = str(kernel_name("f", self._key))
        self._networks: dict[str, str] = {}
        self._machines: list[Machine] = []

    async def add_network(self, name: str) -> None:
        """A bridge that stands for a network."""
        bridge = str(kernel_name("b", self._key, name))
        self._networks[name] = bridge
        await ip.batch([f"link add name {bridge} type bridge", f"link set {bridge} up"], netns=self.netns)

    async def add_machine(
        self, name: str, addresses: dict[str, Sequence[str]], *, default_via: str | None = None
    ) -> Machine:
        """A machine with one interface a network, named after it."""
        machine = await self._machine(name)
        for network, cidrs in addresses.items():
            await self._cable(machine, network, network)
            lines = [f"address add {cidr} dev {network}{' nodad' if ':' in cidr else ''}" for cidr in cidrs]
            await ip.batch([*lines, f"link set {network} up"], netns=machine.netns)
        if default_via:
            await ip.batch([f"route add default via {default_via}"], netns=machine.netns)
        return machine

    async def add_host(self, name: str, networks: Sequence[str], management: dict[str, str] | None = None) -> Machine:
        """A machine with a bridge a network, its uplink plugged in; `management`: network -> address of its own."""
        machine = await self.add_machine(name, {network: [cidr] for network, cidr in (management or {}).items()})
        for network in networks:
            bridge, uplink = f"br-{network}"[:15], f"up-{network}"[:15]
            machine.bridges[network] = bridge
            await self._cable(machine, network, uplink)
            lines = [f"link add name {bridge} type bridge", f"link set {uplink} master {bridge} up"]
            await ip.batch([*lines, f"link set {bridge} up"], netns=machine.netns)
        return machine

    async def cut(self, machine: Machine, *networks: str) -> None:
        """Take the machine off these networks (all, if none is named)."""
        ports = [machine.ports[network] for network in networks or machine.ports]
        await ip.batch([f"link set {port} nomaster" for port in ports], netns=self.netns)

    async def heal(self, machine: Machine, *networks: str) -> None:
        """Plug it in again."""
        lines = [f"link set {machine.ports[n]} master {self._networks[n]}" for n in networks or machine.ports]
        await ip.batch(lines, netns=self.netns)

    async def _machine(self, name: str) -> Machine:
        machine = Machine(name, str(kernel_name("m", self._key, name)))
        self._machines.append(machine)
        await ip.add_namespace(machine.netns)
        return machine

    async def _cable(self, machine: Machine, network: str, interface: str) -> None:
        port = str(kernel_name("p", self._key, machine.name, network))
        machine.ports[network] = port
        lines = [
            f"link add {port} type veth peer name {interface} netns {machine.netns}",
            f"link set {port} master {self._networks[network]} up",
        ]
        await ip.batch(lines, netns=self.netns)

    async def _remove(self) -> None:
        for netns in [*(machine.netns for machine in self._machines), self.netns]:
            for pid in ip.processes_in(netns):
                found = daemon.identify(pid)
                if found:
                    daemon.send(found, signal.SIGKILL)
                    await daemon.wait_gone(found, 2.0)
            await ip.delete_namespace(netns)


@contextlib.asynccontextmanager
async def fabric(label: str, *networks: str) -> AsyncIterator[Fabric]:
    """A fabric with these networks, removed at the end together with every process in its machines."""
    made = Fabric(label)
    try:
        await ip.add_namespace(made.netns)
        for network in networks:
            await made.add_network(network)
        yield made
    finally:
        await made._remove()


def listen_in(netns: str, address: str, port: int = 0) -> socket.socket:
    """A listening TCP socket in the namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return in_namespace(netns, lambda: socket.create_server((address, port), family=family, backlog=1024))


async def wait_until(condition: Callable[[], bool], what: str | Callable[[], str], timeout_s: float = 90.0) -> float:
    """Wait for a condition, looking every few milliseconds; seconds it took, AssertionError with `what` if never."""
    began = looked = monotonic_s()
    while not condition():
        now = monotonic_s()
        if now - began >= timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(pause_s(now - looked, 0.003))
        looked = monotonic_s()
    return monotonic_s() - began
