"""`make bench-node`: the node proxy's ruleset for 1,000 and 10,000 Services of two endpoints: loaded whole, and changed.

The peer is a ruleset of kube-proxy's form (a chain for each Service port and each endpoint; Kubernetes 1.36, nftables mode),
loaded and changed by nft in the same run, in turns. What an API server and a kube-proxy process add is not in it.
"""

import asyncio
import ipaddress
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from bench.rows import Row, percentile, row
from vrata.net import ip, nft
from vrata.net.command import run
from vrata.net.flows import Target
from vrata.net.netns import in_namespace
from vrata.nodeport import kernel
from vrata.nodeport.model import PortView, Surroundings
from vrata.nodeport.plan import plan_change
from vrata.nodeport.render import render_leftovers, render_rules, render_transaction

SIZES = (1_000, 10_000)
STARTS, CHANGES = int(os.environ.get("TRIALS", "3")), 30
GOALS = {1_000: (0.5, 15.0), 10_000: (5.0, 40.0)}  # start in s, change in ms
OURS, PEERS = "b-node-ours", "b-node-peer"
PEER = "rules of kube-proxy's form, nft"
FIRST, PODS = (int(ipaddress.ip_address(one)) for one in ("10.96.0.1", "10.128.0.1"))


def view(number: int, *, moved: bool = False) -> PortView:
    """A Service with two endpoints, one of them another after it `moved`."""
    pods = (PODS + 4 * number, PODS + 4 * number + (2 if moved else 1))
    targets = tuple(Target(str(ipaddress.ip_address(pod)), 8080) for pod in pods)
    address = str(ipaddress.ip_address(FIRST + number))
    return PortView(f"d/s{number}", "", "tcp", (address,), 80, 0, targets, targets, False, everywhere=targets)  # noqa: FBT003


def peers_service(one: PortView) -> str:
    """Chains and the map element of one Service port."""
    name, lines = one.service.partition("/")[2], []
    ends = [f"endpoint-{target.address}" for target in one.internal]
    for chain, target in zip(ends, one.internal, strict=True):
        lines += [
            f"add chain ip kp {chain}",
            f"add rule ip kp {chain} ip saddr {target.address} jump mark-for-masquerade",
            f"add rule ip kp {chain} meta l4proto tcp dnat to {target.address}:{target.port}",
        ]
    picks = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(ends))
    lines += [
        f"add chain ip kp service-{name}",
        f"add rule ip kp service-{name} numgen random mod {len(ends)} vmap {{ {picks} }}",
        f"add element ip kp service-ips {{ {one.cluster_ips[0]} . tcp . {one.port} : goto service-{name} }}",
    ]
    return "".join(f"{line}\n" for line in lines)


PEERS_TABLE = """\
add table ip kp
delete table ip kp
add table ip kp
add chain ip kp mark-for-masquerade
add rule ip kp mark-for-masquerade meta mark set meta mark | 0x4000
add map ip kp service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip kp nat-prerouting { type nat hook prerouting priority -100; }
add rule ip kp nat-prerouting ip daddr . meta l4proto . th dport vmap @service-ips
"""


def peers_change(old: PortView, new: PortView) -> str:
    """As kube-proxy writes a changed slice: the new endpoint's chain, the Service's chain anew, the old one's goes."""
    name, ends = new.service.partition("/")[2], [f"endpoint-{target.address}" for target in new.internal]
    added, gone = new.internal[1], old.internal[1]
    picks = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(ends))
    lines = [
        f"add chain ip kp endpoint-{added.address}",
        f"add rule ip kp endpoint-{added.address} meta l4proto tcp dnat to {added.address}:{added.port}",
        f"flush chain ip kp service-{name}",
        f"add rule ip kp service-{name} numgen random mod {len(ends)} vmap {{ {picks} }}",
        f"flush chain ip kp endpoint-{gone.address}",
        f"delete chain ip kp endpoint-{gone.address}",
    ]
    return "".join(f"{line}\n" for line in lines)


async def timed(netns: str, work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Seconds that it takes in the namespace."""

    def inside() -> float:
        began = time.monotonic()
        asyncio.run(work())
        return time.monotonic() - began

    return await asyncio.to_thread(in_namespace, netns, inside)


async def start_ours(size: int) -> None:
    """From views to rules in the kernel."""
    await kernel.replace([render_rules([view(number)]) for number in range(size)], Surroundings())


async def start_peers(size: int) -> None:
    """The same of the peer."""
    text = PEERS_TABLE + "".join(peers_service(view(number)) for number in range(size))
    await run("nft", "-f", "-", stdin=text, timeout_s=600)


async def change_ours(number: int, *, back: bool) -> None:
    """One endpoint of a Service is another."""
    old, new = (render_rules([view(number, moved=moved)]) for moved in (back, not back))
    change = plan_change(old, replace(new, shared={}, maps={}))
    await nft.apply(render_transaction(change) + render_leftovers(change))


async def change_peers(number: int, *, back: bool) -> None:
    """The same of the peer."""
    await nft.apply(peers_change(view(number, moved=back), view(number, moved=not back)))


async def measure() -> list[Row]:
    """Both in turns, at each size."""
    rows = []
    for netns in (OURS, PEERS):
        await ip.delete_namespace(netns)
        await ip.add_namespace(netns)
    try:
        for size in SIZES:
            starts: dict[str, list[float]] = {OURS: [], PEERS: []}
            for _ in range(STARTS):
                starts[OURS].append(await timed(OURS, lambda size=size: start_ours(size)))  # type: ignore[misc]
                starts[PEERS].append(await timed(PEERS, lambda size=size: start_peers(size)))  # type: ignore[misc]
                print(f"{size} Services: {starts[OURS][-1]:.2f} s, peer {starts[PEERS][-1]:.2f} s", flush=True)
            changes: dict[str, list[float]] = {OURS: [], PEERS: []}
            for turn in range(CHANGES):
                number, back = turn // 2 * 7 % size, turn % 2 == 1
                changes[OURS].append(await timed(OURS, lambda n=number, b=back: change_ours(n, back=b)))  # type: ignore[misc]
                changes[PEERS].append(await timed(PEERS, lambda n=number, b=back: change_peers(n, back=b)))  # type: ignore[misc]
            start_s, change_ms = GOALS[size]
            mine, theirs = (percentile(starts[one], 0.5) for one in (OURS, PEERS))
            rows.append(row(f"node_rules_start_{size}", mine, "s", start_s, peer=PEER, peer_value=theirs))
            mine, theirs = (percentile(changes[one], 0.5) * 1000 for one in (OURS, PEERS))
            rows.append(row(f"node_rules_change_{size}_p50", mine, "ms", change_ms, peer=PEER, peer_value=theirs))
    finally:
        for netns in (OURS, PEERS):
            await ip.delete_namespace(netns)
    return rows
