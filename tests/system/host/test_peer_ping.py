"""Who proves that the peer lives: the peer, and nobody else."""

import asyncio
import contextlib
import socket

import pytest

from vrata.host.peer_ping import PeerPing
from vrata.net import ip
from vrata.net.icmp import echo_request
from vrata.net.netns import in_namespace

NETNS, PEER, STRANGER = "vr-peer-ping", "127.0.0.2", "127.0.0.3"


@pytest.mark.parametrize("peer", [PEER, "::1"])
async def test_a_peer_that_answers_is_heard(peer: str) -> None:
    async def on_lost() -> None:
        pytest.fail("it answers")

    await ip.add_namespace(NETNS)
    try:
        with contextlib.closing(PeerPing(NETNS, peer, instances=lambda: 1, lost=on_lost)) as ping:
            deadline = asyncio.get_running_loop().time() + 60
            ping._ask()
            while not ping._is_answered():
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)
    finally:
        await ip.delete_namespace(NETNS)


async def test_replies_of_a_stranger_do_not_keep_a_dead_peer_alive() -> None:
    await ip.add_namespace(NETNS)
    try:
        await ip.set_sysctls({"net.ipv4.icmp_echo_ignore_all": "1"}, netns=NETNS)
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        ping = PeerPing(NETNS, PEER, instances=lambda: 1, lost=on_lost)
        stranger = in_namespace(NETNS, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        with stranger, contextlib.closing(ping):
            stranger.bind((STRANGER, 0))
            ping.start()

            async def forge() -> None:
                """The right identifier and number, which only this process knows, from another address."""
                while True:
                    stranger.sendto(b"\0" + echo_request(ping._number, six=False)[1:], ("127.0.0.1", 0))
                    await asyncio.sleep(0.01)

            forging = asyncio.create_task(forge())
            await asyncio.wait_for(lost.wait(), 60)
            forging.cancel()
    finally:
        await ip.delete_namespace(NETNS)
