"""A machine on the tenant's network cannot take part in what a pair's instances send each other."""

import asyncio
import itertools
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.fabric import Machine, wait_until
from tests.system.host.lab import FIXED, HOSTS, INSTANCES, VIP, Lab, lab

from vrata.base.wire import VrrpState
from vrata.host.pair_guard import CONNTRACK_PORT, PEERS_PORT, TABLE
from vrata.net import ip
from vrata.net.command import run
from vrata.net.netns import in_namespace
from vrata.vrrp.packet import PROTOCOL

ATTACKER = "10.10.0.50"
ROUTER_ID = 7  # of the lab's pair
ADVERTS = 30  # three times what a standby waits for
GROUP = "224.0.0.18"
IP_TRANSPARENT = 19  # linux/in.h: send from any address; the socket module has no name for it


def advert(source: str, target: str, priority: int = 255) -> bytes:
    """A VRRPv3 advertisement of the pair's address (RFC 9568, section 5.2)."""
    head = struct.pack("!BBBBH", 0x31, ROUTER_ID, priority, 1, 10)
    addresses = socket.inet_aton(VIP)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, PROTOCOL, 12)
    words = struct.unpack("!12H", pseudo + head + b"\0\0" + addresses)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head + struct.pack("!H", ~total & 0xFFFF) + addresses


def send(machine: Machine, source: str, target: str, ttl: int, priority: int) -> None:
    """Adverts from this machine with any source address."""

    def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
            raw.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            raw.bind((source, 0))
            for _ in range(ADVERTS):
                raw.sendto(advert(source, target, priority), (target, 0))

    in_namespace(machine.netns, work)


async def forged(it: Lab, host: str) -> int:
    """How many packets the host's instance has dropped as forged."""
    said = await run("nft", "list", "counter", *TABLE.split(), "forged", netns=it.netns(host))
    return int(said.split("packets")[1].split()[0])


async def dropped(it: Lab, host: str, least: int) -> None:
    """Wait until so many were dropped."""
    async with asyncio.timeout(20):
        while await forged(it, host) < least:
            await asyncio.sleep(0.02)


def became_active(it: Lab) -> list[str]:
    """The hosts whose instance reported that it became active, once for each time."""
    return [
        host
        for host in HOSTS
        for transition in it.cloud.transitions[INSTANCES[host]]
        if transition.after is VrrpState.MASTER
    ]


async def test_forged_adverts_move_no_address(short_path: Path) -> None:
    async with lab("forged", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        await wait_until(lambda: became_active(it) == [active], "the election is reported")
        for host in HOSTS:
            peer = FIXED[HOSTS[1 - HOSTS.index(host)]]
            for source, ttl, priority in itertools.product((ATTACKER, peer), (255, 64), (255, 0)):
                before = await forged(it, host)
                await asyncio.to_thread(send, it.client, source, FIXED[host], ttl, priority)
                await dropped(it, host, before + ADVERTS)
        await ip.batch([f"route add {GROUP} dev tenant"], netns=it.client.netns)
        await asyncio.to_thread(send, it.client, ATTACKER, GROUP, 255, 255)
        assert (await it.answers(it.client, VIP)).startswith("m1")
        assert it.active() == active
        assert became_active(it) == [active]


async def test_the_ports_of_a_pair_are_closed_to_others(short_path: Path) -> None:
    async with lab("closed", short_path) as it:
        await it.want_pair()
        await it.settle()

        def connect(host: str) -> None:
            with socket.create_connection((FIXED[host], PEERS_PORT), 0.5):
                raise AssertionError("it accepts connections")

        def datagram(host: str) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.sendto(b"forged", (FIXED[host], CONNTRACK_PORT))

        async def attack(what: Callable[[str], None], host: str) -> None:
            before = await forged(it, host)
            await asyncio.to_thread(in_namespace, it.client.netns, lambda: what(host))
            await dropped(it, host, before + 1)

        for host in HOSTS:
            with pytest.raises(OSError, match="timed out"):
                await attack(connect, host)
            await attack(datagram, host)
        assert (await it.answers(it.client, VIP)).startswith("m1")
