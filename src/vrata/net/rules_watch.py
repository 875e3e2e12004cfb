"""Notices whoever changes the packet rules of a namespace: the kernel tells of each change (nfnetlink(7), NFNLGRP_NFTABLES)."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

from vrata.net.netns import in_namespace

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_READ = 65536


class RulesWatch:
    """Calls `changed` after a change by anybody. One's own are told apart by `paused` around them."""

    def __init__(self, netns: str, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._pauses = 0
        self._socket = in_namespace(
            netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
        )
        self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_news)

    def _on_news(self) -> None:
        if self._drain():
            self._changed()

    def _drain(self) -> bool:
        found = False
        while True:
            try:
                found = bool(self._socket.recv(_READ)) or found
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more news than it holds are news, too
                    raise
                found = True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Changes of one's own; several may be under way at a time."""
        self._pauses += 1
        self._loop.remove_reader(self._socket)
        try:
            yield
        finally:
            self._pauses -= 1
            self._drain()
            if not self._pauses:
                self._loop.add_reader(self._socket, self._on_news)

    def close(self) -> None:
        """Watch no more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
