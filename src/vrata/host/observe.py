"""Reads what there is of one instance: files, namespace, links, processes. Changes nothing."""

import json
from typing import Any

from vrata.base.errors import VrataError
from vrata.host import datagram
from vrata.host.model import NOTHING, Observed, ObservedLink, Record
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.net import ip
from vrata.net.command import run


async def observe_instance(store: HostStore, instance_id: str, parts: InstanceParts) -> Observed:
    """One instance as it is now."""
    record = store.record(instance_id)
    if record is None:
        return NOTHING
    exists = parts.netns in ip.list_namespaces()
    return Observed(
        record=record,
        namespace_exists=exists,
        links=await observe_links(record) if exists else (),
        applied=store.applied(instance_id),
        haproxy_runs=parts.haproxy.running() is not None,
        keepalived_runs=parts.keepalived.running() is not None,
        conntrackd_runs=parts.conntrackd.running() is not None,
        marked_unfit=parts.marked_unfit(),
        rules=store.rules(instance_id),
        servers=await observe_servers(parts),
    )


async def observe_servers(parts: InstanceParts) -> frozenset[tuple[str, str]]:
    """What HAProxy balances over at this moment; nothing if it gives no answer."""
    if parts.haproxy.running() is None:
        return frozenset()
    try:
        return await parts.haproxy.runtime.servers()
    except VrataError:
        return frozenset()


async def observe_counters(netns: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes of every counter of the UDP listeners."""
    answer = await run("nft", "-j", "list", "counters", "table", *datagram.TABLE.split(), netns=netns)
    found = (entry["counter"] for entry in json.loads(answer)["nftables"] if "counter" in entry)
    return {one["name"]: (one["packets"], one["bytes"]) for one in found}


async def observe_links(record: Record) -> tuple[ObservedLink, ...]:
    """The legs inside the namespace, and where their host ends are plugged in."""
    inside = await ip.query("address", "show", netns=record.netns)
    masters = {link["ifname"]: link.get("master") for link in await ip.query("link", "show", "type", "veth")}
    return tuple(
        ObservedLink(
            name=link["ifname"],
            mac_address=link["address"],
            mtu=link["mtu"],
            addresses=frozenset(_global_addresses(link)),
            bridge=masters.get(record.links.get(link["ifname"], "")),
        )
        for link in inside
        if link["ifname"] in record.links
    )


def _global_addresses(link: dict[str, Any]) -> list[str]:
    return [
        f"{info['local']}/{info['prefixlen']}"
        for info in link.get("addr_info", [])
        if info.get("scope") == "global" and "local" in info
    ]
