"""Builds and removes the sandbox's machines: namespaces, cables and switches. Every name is recorded before it is made.

Building is idempotent: what exists is left alone, what is missing is added, so it also repairs.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import msgspec

from vrata.net import daemon, ip, nft
from vrata.net.command import CommandFailed
from vrata.sandbox.model import NETWORKS, POD_NETWORK, Machine, Topology
from vrata.sandbox.roster import Paths

NODE_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}
# With br_netfilter a bridge would run the packets it merely switches through the machine's IP rules, and send a
# translated one straight back out of its port. Where the kernel has no such filter there is no such key.
BRIDGE_SYSCTLS = {"net.bridge.bridge-nf-call-iptables": "0"} if Path("/proc/sys/net/bridge").exists() else {}
FABRIC_SYSCTLS = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
KILL_WAIT_S = 5.0


def record_namespace(paths: Paths, name: str) -> None:
    """Append a namespace to the record of what this sandbox creates, durably, before it is created."""
    with paths.record.open("ab") as record:
        record.write(msgspec.json.encode({"netns": name}) + b"\n")


def recorded_namespaces(paths: Paths) -> tuple[str, ...]:
    """All namespaces this sandbox ever recorded."""
    if not paths.record.exists():
        return ()
    names: dict[str, None] = {}
    for line in paths.record.read_bytes().splitlines():
        try:
            names[msgspec.json.decode(line)["netns"]] = None
        except (msgspec.DecodeError, KeyError):
            continue  # the last line of a crash in the middle of an append: nothing was created for it
    return tuple(names)


async def build(paths: Paths, layout: Topology) -> None:
    """Make or complete the fabric and all machines."""
    existing = ip.list_namespaces()
    for name in (layout.fabric, *(machine.netns for machine in layout.machines)):
        if name not in existing:
            record_namespace(paths, name)
    await ip.add_namespace(layout.fabric, FABRIC_SYSCTLS | BRIDGE_SYSCTLS)
    present = await _interfaces(layout.fabric)
    await ip.batch(
        [f"link add {network} type bridge forward_delay 0" for network in NETWORKS if network not in present]
        + [f"link set {network} up" for network in NETWORKS],
        netns=layout.fabric,
    )
    await asyncio.gather(*(_build_machine(layout, machine, present) for machine in layout.machines))


async def _interfaces(netns: str) -> frozenset[str]:
    return frozenset(entry["ifname"] for entry in await ip.query("link", "show", netns=netns))


async def _build_machine(layout: Topology, machine: Machine, plugged: frozenset[str]) -> None:
    netns = machine.netns
    await ip.add_namespace(netns, NODE_SYSCTLS | BRIDGE_SYSCTLS)
    present = await _interfaces(netns)
    # A cable whose other end went with a lost namespace: the kernel clears up only some time later.
    stale = [link for link in machine.links if link.interface not in present and link.fabric_end in plugged]
    for link in stale:
        with contextlib.suppress(CommandFailed):  # or just now
            await ip.batch([f"link delete {link.fabric_end}"], netns=layout.fabric)
    await ip.batch(
        [
            f"link add {link.fabric_end} type veth peer name {link.interface} address {link.mac} netns {netns}"
            for link in machine.links
            if link.interface not in present
        ]
        + [f"link set {link.fabric_end} master {link.network} up" for link in machine.links],
        netns=layout.fabric,
    )
    lines = [f"link add {name} type bridge forward_delay 0" for name in machine.bridges if name not in present]
    lines += [f"link set {name} up" for name in machine.bridges]
    lines += [f"addr replace {address} dev {name}" for name, address in machine.bridges.items() if address]
    for link in machine.links:
        master = f" master {link.bridge}" if link.bridge else ""
        lines.append(f"link set {link.interface}{master} up")
        if link.address:
            lines.append(f"addr replace {link.address} dev {link.interface}")
    lines += [f"route replace {route}" for route in machine.routes]
    await ip.batch(lines, netns=netns)
    if machine.pod_cidr:
        await nft.apply(_masquerade(machine), netns=netns)


def _masquerade(machine: Machine) -> str:
    """What pods send out of the cluster leaves with the node's address."""
    return (
        "table ip vrata-pods {}\ndelete table ip vrata-pods\n"
        "table ip vrata-pods { chain postrouting { type nat hook postrouting priority srcnat + 10; "
        f"ip saddr {machine.pod_cidr} ip daddr != {POD_NETWORK} masquerade; }}; }}\n"
    )


async def cut(layout: Topology, machine: Machine, *, up: bool = False) -> None:
    """Cut a machine off from every network (or, with `up`, plug it in again): its ports in the fabric go down."""
    state = "up" if up else "down"
    await ip.batch([f"link set {link.fabric_end} {state}" for link in machine.links], netns=layout.fabric)


async def remove_namespaces(names: tuple[str, ...]) -> None:
    """Kill what runs in these namespaces and delete them."""
    victims = [process for name in names for pid in ip.processes_in(name) if (process := daemon.identify(pid))]
    for process in victims:
        daemon.send(process, signal.SIGKILL)
    await asyncio.gather(*(daemon.wait_gone(process, KILL_WAIT_S) for process in victims))
    for name in names:
        await ip.delete_namespace(name)
