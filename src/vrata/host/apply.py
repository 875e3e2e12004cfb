"""Carries out the steps of a plan on one instance. Decides nothing; every step may be repeated from its beginning."""

import asyncio
import contextlib
import signal
import socket
from functools import partial
from pathlib import Path
from typing import assert_never

import msgspec
import structlog

from vrata.base.errors import VrataError
from vrata.haproxy.model import TlsFile
from vrata.haproxy.plan import AddServer, Change, RemoveServer, ReplaceFile, SetAddress, SetWeight
from vrata.haproxy.render import render_endpoint, render_server_options
from vrata.haproxy.runtime import RuntimeFailed
from vrata.host import sysctls
from vrata.host.forwarding import Flow
from vrata.host.handover import PROOF_OF_LIFE
from vrata.host.model import (
    RULE_PRIORITY,
    AnyAction,
    AwaitHaproxy,
    ChangeHaproxy,
    CreateNamespace,
    DeleteServers,
    Goodbye,
    HandOver,
    LoadNat,
    LoadRules,
    MarkApplied,
    MarkFit,
    PlugLeg,
    Record,
    ReloadHaproxy,
    ReloadKeepalived,
    RestartKeepalived,
    SetRoutes,
    SetSysctls,
    StartConntrackd,
    StartHaproxy,
    StartKeepalived,
    StopConntrackd,
    UnplugLeg,
    WriteRecord,
)
from vrata.host.parts import InstanceParts
from vrata.host.store import HostStore
from vrata.net import daemon, ip, nft
from vrata.net.command import CommandFailed, run
from vrata.net.daemon import DaemonId
from vrata.net.links import find_link, list_links, list_source_rules
from vrata.net.netns import in_namespace
from vrata.vrrp.packet import PROTOCOL

_KILL_TIMEOUT_S = 2.0
_HAND_OVER_S = 0.2  # the peer takes over within a millisecond of the good-bye, and is heard before this one counts

log = structlog.get_logger()
_LOCAL_METRIC = 4096


# Exception: one flat `match` over all actions is longer than a function should be, and easier to read than pieces.
async def apply_action(action: AnyAction, parts: InstanceParts, store: HostStore) -> None:  # noqa: PLR0912, PLR0915
    """Take one step; VrataError says what went wrong and what to do."""
    match action:
        case WriteRecord(record=record):
            store.save_record(record)
        case CreateNamespace(netns=netns, forwards=forwards):
            await ip.add_namespace(netns, {**sysctls.ALWAYS, **(sysctls.FORWARDING if forwards else {})})
        case PlugLeg():
            await _plug(action, parts)
        case UnplugLeg(host_link=link):
            await delete_link(link)
        case SetRoutes():
            await _set_routes(action, parts.netns)
        case SetSysctls(values=values):
            await ip.set_sysctls(dict(values), netns=parts.netns)
        case LoadNat(ruleset=ruleset):
            await nft.apply(ruleset, netns=parts.netns)
            await ip.set_sysctls(sysctls.LIBERAL, netns=parts.netns)  # only there once connection tracking is used
        case LoadRules():
            await _load_rules(action, parts, store)
        case StartHaproxy():
            await _start_haproxy(action, parts)
        case AwaitHaproxy():
            await _await_haproxy(parts)
        case ReloadHaproxy(config=config, files=files):
            await _reload_haproxy(config, files, parts)
        case ChangeHaproxy():
            await _change_haproxy(action, parts)
        case DeleteServers(servers=servers):
            for backend, server in servers:
                await parts.haproxy.runtime.remove_server(backend, server)
        case MarkFit():
            parts.mark_fit()
        case StartKeepalived(config=config, goodbyes=goodbyes, fixed=fixed):
            await _start_keepalived(config, goodbyes, fixed, parts)
        case ReloadKeepalived(config=config):
            await parts.keepalived.check(config)
            parts.keepalived.write_config(config)
            await parts.keepalived.reload()
        case RestartKeepalived(config=config, fixed=fixed):
            await parts.keepalived.check(config)
            await parts.keepalived.stop()
            await _start_keepalived(config, (), fixed, parts)
        case StartConntrackd(config=config):
            await kill_all(parts.netns, "conntrackd")  # one that was started and never recorded
            await asyncio.to_thread(parts.conntrackd.start, config)
        case StopConntrackd():
            await parts.conntrackd.stop()
        case HandOver(active=active):
            if active:
                parts.mark_unfit()
                await asyncio.sleep(_HAND_OVER_S)
                parts.mark_fit()
            if parts.haproxy.running():  # the old worker asks its clients to connect anew, with its next answers
                await parts.haproxy.reload()
        case MarkApplied(desired=desired):
            store.save_applied(desired)
        case _:
            assert_never(action)


async def remove_instance(instance_id: str, record: Record | None, directory: Path, store: HostStore) -> None:
    """Remove everything an instance has on this host, by its recorded names; safe to repeat.

    keepalived goes first, so that its peer hears the good-bye; then HAProxy, so that its clients do. What else lives in
    the namespace is ours by the namespace alone, and ends by force.
    """
    if record is not None:
        parts = InstanceParts(directory, record.netns)
        await parts.keepalived.stop()
        await parts.haproxy.stop()  # who is still connected is told
        if record.netns in ip.list_namespaces():
            await kill_all(record.netns)
        for link in record.links.values():
            await delete_link(link)
        await ip.delete_namespace(record.netns)
    store.forget(instance_id)


async def forget_peer(netns: str) -> None:
    """Take back the proof that the peer lives: packets of its connections are not passed on any more."""
    with contextlib.suppress(VrataError, OSError):  # it ended by itself
        await run("nft", "delete", "element", *PROOF_OF_LIFE, netns=netns)


async def kill_all(netns: str, name: str | None = None) -> None:
    """End every process in the namespace (or only those whose executable has this name), and wait for it."""
    await _gone(_doom(netns, name))


def _doom(netns: str, name: str | None) -> list[DaemonId]:
    doomed = [
        found
        for pid in ip.processes_in(netns)
        if (name is None or ip.executable_of(pid) == name) and (found := daemon.identify(pid))
    ]
    for found in doomed:
        daemon.send(found, signal.SIGKILL)
    return doomed


async def _gone(doomed: list[DaemonId]) -> None:
    ended = await asyncio.gather(*(daemon.wait_gone(found, _KILL_TIMEOUT_S) for found in doomed))
    left = [found.pid for found, gone in zip(doomed, ended, strict=True) if not gone]
    if left:
        log.warning("killed and still there", pids=left)


async def delete_link(name: str) -> None:
    """Remove an interface of the host; one that does not exist is fine."""
    if await asyncio.to_thread(find_link, name):
        await ip.batch([f"link delete {name}"])


async def release_addresses(netns: str, keep: tuple[str, ...]) -> bool:
    """Take every global address off the namespace's interfaces except those to keep; whether there was any."""
    lines = [
        f"address delete {address.cidr} dev {link.name}"
        for link in await asyncio.to_thread(in_namespace, netns, list_links)
        if link.name != "lo"
        for address in link.addresses
        if address.is_global and address.cidr not in keep
    ]
    await ip.batch(lines, netns=netns)
    return bool(lines)


async def _plug(action: PlugLeg, parts: InstanceParts) -> None:
    leg, host = action.leg, action.host_link
    present = await asyncio.to_thread(find_link, host) is not None
    if present and action.replace:
        await ip.batch([f"link delete {host}"])
        present = False
    create = (
        f"link add {host} mtu {leg.mtu} type veth"
        f" peer name {leg.name} address {leg.mac_address} mtu {leg.mtu} netns {parts.netns}"
    )
    plug = f"link set {host} master {action.bridge} up"
    await ip.batch([plug] if present else [create, plug])
    addresses = [
        f"address replace {cidr} dev {leg.name}{' nodad' if ':' in cidr else ' broadcast +'}" for cidr in leg.fixed
    ]
    await ip.batch([*addresses, f"link set {leg.name} up"], netns=parts.netns)


async def _load_rules(action: LoadRules, parts: InstanceParts, store: HostStore) -> None:
    """What is about to change is marked, so that an interruption is found and made good."""
    store.save_rules(action.instance_id, msgspec.structs.replace(action.state, digest=""))
    if not action.forwards:
        await ip.set_sysctls(dict.fromkeys(sysctls.FORWARDING, "0"), netns=parts.netns)
    await nft.apply(action.ruleset, netns=parts.netns)
    if action.tracks:  # only there once connection tracking is used
        await ip.set_sysctls(sysctls.TRACKING, netns=parts.netns)
    if action.forwards:  # never a moment without the rules that say what is forwarded
        await ip.set_sysctls({**sysctls.FORWARDING, **sysctls.neighbours(action.legs)}, netns=parts.netns)
    for flow in action.forget:
        await _forget(flow, parts.netns)
    store.save_rules(action.instance_id, action.state)


async def _forget(flow: Flow, netns: str) -> None:
    family = "ipv6" if flow.version == 6 else "ipv4"
    argv = ["conntrack", "-D", "-f", family, "-p", flow.transport, "--dport", str(flow.virtual_port)]
    argv += ["--reply-src", flow.address, "--reply-port-src", str(flow.port)]
    try:
        await run(*argv, netns=netns)
    except CommandFailed as error:
        if "0 flow entries" not in error.stderr:
            raise


async def _set_routes(action: SetRoutes, netns: str) -> None:
    present = await asyncio.to_thread(in_namespace, netns, partial(list_source_rules, RULE_PRIORITY))
    rules, local = _rule_lines(action.rules, present), _local_lines(action)
    await ip.batch((*action.lines, *(one for one in (*rules, *local) if ":" not in one)), netns)
    await ip.batch((one for one in (*rules, *local) if ":" in one), netns, family="-6")


def _rule_lines(wanted: tuple[tuple[str, int], ...], present: frozenset[tuple[str, int]]) -> list[str]:
    changes = [("add", rule) for rule in wanted if rule not in present]
    changes += [("delete", rule) for rule in sorted(present - set(wanted))]
    return [f"rule {verb} from {source} lookup {table} priority {RULE_PRIORITY}" for verb, (source, table) in changes]


def _local_lines(action: SetRoutes) -> list[str]:
    """Behind the route that an address on a leg brings: only that one says that the instance holds it now."""
    return [
        *(f"route replace local {cidr} dev lo table local metric {_LOCAL_METRIC}" for cidr in action.local),
        *(f"route flush table local exact {cidr} dev lo" for cidr in action.foreign),
    ]


async def _start_haproxy(action: StartHaproxy, parts: InstanceParts) -> None:
    """Start without asking `haproxy -c` first: nothing runs that a bad file could harm, and the start tells as much."""
    if action.clear_strays:
        await kill_all(parts.netns, "haproxy")
    parts.haproxy.write_config(action.config, action.files)
    parts.haproxy.sweep_files(action.files)
    await asyncio.to_thread(parts.haproxy.spawn)
    # A newcomer to a pair that serves may be unheard for longer than three adverts: it must not win with nothing to serve.
    if action.early:
        parts.mark_fit()
    else:
        parts.mark_unfit()


async def _await_haproxy(parts: InstanceParts) -> None:
    started = parts.haproxy.running()
    if started is None:
        parts.mark_unfit()
        raise VrataError(f"HAProxy does not start: {parts.haproxy.log_tail()}")
    try:
        await parts.haproxy.wait_started(started)
    except VrataError:
        parts.mark_unfit()
        raise
    parts.mark_fit()


async def _change_haproxy(action: ChangeHaproxy, parts: InstanceParts) -> None:
    """Change the running process, then the file, so that a later start gives the same.

    No `haproxy -c` here, which costs more than all the rest: every word that is new has just been read by HAProxy
    itself, and nothing but the next start or reload (which asks first) reads the file. A refusal (a server left from
    before or from an interruption, still draining) is answered by a reload, which needs no luck.
    """
    try:
        for change in action.changes:
            await _change(change, parts)
    except RuntimeFailed as error:
        log.info("reload after all", netns=parts.netns, reason=str(error))
        await _reload_haproxy(action.config, action.files, parts)
    else:
        parts.haproxy.write_config(action.config, action.files)


async def _reload_haproxy(config: str, files: tuple[TlsFile, ...], parts: InstanceParts) -> None:
    await parts.haproxy.check(config, files)
    parts.haproxy.write_config(config, files)
    await parts.haproxy.reload()
    parts.haproxy.sweep_files(files)


async def _change(change: Change, parts: InstanceParts) -> None:
    runtime = parts.haproxy.runtime
    match change:
        case AddServer(backend=backend, server=server, tls_dir=tls_dir):
            endpoint = render_endpoint("member", server.address, server.port)
            options = render_server_options(backend, server, tls_dir)
            await runtime.add_server(backend.name, server.name, endpoint, options)
        case RemoveServer(backend=backend_name, server=server_name):
            # One that still has connections takes no new ones; every pass tries to delete it again.
            await runtime.remove_server(backend_name, server_name)
        case SetWeight(backend=backend_name, server=server_name, weight=weight):
            await runtime.set_weight(backend_name, server_name, weight)
        case SetAddress(backend=backend_name, server=server_name, address=address, port=port):
            await runtime.set_server_address(backend_name, server_name, address, port)
        case ReplaceFile(path=path, file=file):
            await runtime.replace_file(str(file.kind), path, file.content)
        case _:
            assert_never(change)


async def _start_keepalived(
    config: str, goodbyes: tuple[Goodbye, ...], fixed: tuple[str, ...], parts: InstanceParts
) -> None:
    """Clear up after a keepalived that was killed, which left its addresses, then start anew as BACKUP.

    Only an active one has something to hand over: a standby's good-bye would take nothing from nobody, but a peer
    that is active reads it as a conflict, so it is said only where virtual addresses are found.
    """
    await parts.keepalived.clear()
    doomed = _doom(parts.netns, "keepalived")  # one that was started and never recorded
    # Before waiting for anybody's end: until then two hold the addresses.
    if await release_addresses(parts.netns, fixed) and goodbyes:
        with contextlib.suppress(OSError):  # a courtesy: without it the peer's timer does the same, later
            await asyncio.to_thread(in_namespace, parts.netns, partial(send_goodbyes, goodbyes))
    await _gone(doomed)
    parts.keepalived.write_config(config)
    await asyncio.to_thread(parts.keepalived.start)


def send_goodbyes(goodbyes: tuple[Goodbye, ...]) -> None:
    """Send VRRP messages from the current namespace, with the hop limit that RFC 9568 demands."""
    for goodbye in goodbyes:
        family, level, option = (
            (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            if ":" in goodbye.source
            else (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL)
        )
        with socket.socket(family, socket.SOCK_RAW, PROTOCOL) as raw:
            raw.setsockopt(level, option, 255)
            raw.bind((goodbye.source, 0))
            raw.sendto(goodbye.message, (goodbye.peer, 0))
