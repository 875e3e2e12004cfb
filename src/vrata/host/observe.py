"""Reads what there is of one instance: files, namespace, links, processes. Changes nothing."""

import asyncio
import json
import socket
from dataclasses import dataclass, replace

from vrata.base.errors import VrataError
from vrata.host import adverts, forwarding
from vrata.host.model import NOTHING, RULE_PRIORITY, Observed, ObservedLink, Record
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.host.sysctls import all_of
from vrata.net import ip
from vrata.net.command import run
from vrata.net.links import find_link, list_links, list_routes, list_source_rules
from vrata.net.netns import in_namespace
from vrata.net.routes import Route


async def observe_instance(store: HostStore, instance_id: str, parts: InstanceParts) -> Observed:
    """One instance as it is now."""
    record = store.record(instance_id)
    if record is None:
        return replace(NOTHING, user_id=store.user_id(instance_id))
    seen = await asyncio.to_thread(_observe_kernel, record) if record.netns in ip.list_namespaces() else None
    links = seen.links if seen else None
    return Observed(
        record=record,
        namespace_exists=links is not None,
        links=links or (),
        applied=store.applied(instance_id),
        haproxy_runs=parts.haproxy.running() is not None,
        haproxy_outdated=parts.haproxy.outdated(),
        keepalived_runs=parts.keepalived.running() is not None,
        conntrackd_runs=parts.conntrackd.running() is not None,
        marked_unfit=parts.marked_unfit(),
        rules=store.rules(instance_id),
        servers=await observe_servers(parts),
        user_id=store.user_id(instance_id),
        routes=seen.routes if seen else None,
        source_rules=seen.source_rules if seen else None,
        sysctls=seen.sysctls if seen else None,
    )


async def observe_servers(parts: InstanceParts) -> frozenset[tuple[str, str]]:
    """What HAProxy balances over at this moment; nothing if it gives no answer."""
    if parts.haproxy.running() is None:
        return frozenset()
    try:
        return await parts.haproxy.runtime.servers()
    except VrataError:
        return frozenset()


async def observe_chains(netns: str) -> dict[tuple[str, str], int]:
    """The chains of all tables, as (table with its family, chain), and how many rules each has."""
    found: dict[tuple[str, str], int] = {}
    for entry in json.loads(await run("nft", "-j", "-t", "list", "ruleset", netns=netns))["nftables"]:
        if chain := entry.get("chain"):
            found.setdefault((f"{chain['family']} {chain['table']}", chain["name"]), 0)
        elif rule := entry.get("rule"):
            key = (f"{rule['family']} {rule['table']}", rule["chain"])
            found[key] = found.get(key, 0) + 1
    return found


async def observe_counters(netns: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes of every counter of the listeners that the kernel carries."""
    answer = await run("nft", "-j", "list", "counters", "table", *forwarding.TABLE.split(), netns=netns)
    found = (entry["counter"] for entry in json.loads(answer)["nftables"] if "counter" in entry)
    return {one["name"]: (one["packets"], one["bytes"]) for one in found}


async def observe_flows(netns: str) -> str:
    """What the kernel tracks, one flow a line (conntrack(8))."""
    found = [await run("conntrack", "-L", "-f", family, netns=netns) for family in ("ipv4", "ipv6")]
    return "".join(found)


async def observe_silence(netns: str) -> float | None:
    """Seconds since the peer's last advert; None if none was heard within an hour."""
    return adverts.parse_silence(await run("nft", "list", "set", *adverts.TABLE.split(), adverts.SET, netns=netns))


@dataclass(frozen=True)
class _Kernel:
    links: tuple[ObservedLink, ...]
    routes: frozenset[Route]
    source_rules: frozenset[tuple[str, int]]
    sysctls: dict[str, str]


def _observe_kernel(record: Record) -> _Kernel | None:
    links = observe_links(record)
    if links is None:
        return None
    names = all_of(record.links)

    def look() -> _Kernel:
        return _Kernel(links, list_routes(), list_source_rules(RULE_PRIORITY), ip.read_sysctls(names))

    return in_namespace(record.netns, look)


def observe_links(record: Record) -> tuple[ObservedLink, ...] | None:
    """The legs inside the namespace, and where their host ends are plugged in; OSError if the namespace goes away.

    None for one that was left half made: loopback comes up, and has addresses, last (`ip.add_namespace`).
    """
    inside = in_namespace(record.netns, list_links)
    if not any(link.name == "lo" and link.addresses for link in inside):
        return None
    return tuple(
        ObservedLink(
            name=link.name,
            mac_address=link.mac_address,
            mtu=link.mtu,
            addresses=frozenset(address.cidr for address in link.addresses if address.is_global),
            bridge=_bridge_of(record.links[link.name]),
            is_up=link.is_up and _is_up(record.links[link.name]),
        )
        for link in inside
        if link.name in record.links
    )


def _is_up(host_link: str) -> bool:
    link = find_link(host_link)
    return link is None or link.is_up


def _bridge_of(host_link: str) -> str | None:
    link = find_link(host_link)
    return socket.if_indextoname(link.master) if link and link.master else None
