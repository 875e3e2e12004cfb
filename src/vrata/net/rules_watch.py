"""Notices whoever changes the packet rules of a namespace: the kernel tells of each change (nfnetlink(7), NFNLGRP_NFTABLES).

Each message names the table, and in its header the socket that asked for the change: nft(8) has one with its process' number.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Container, Iterator

from vrata.net.netns import in_namespace

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_READ = 65536
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, sender
_ATTRIBUTE = struct.Struct("=HH")
_NFGENMSG_BYTES = 4
_NEW_GENERATION = 15  # ends a transaction, and names no table
_TABLE = 1  # this attribute is the table's name in all other messages


class RulesWatch:
    """Calls `changed` after a change by anybody else, perhaps of one table only (of whichever family).

    Own changes are told apart by their senders, or by `paused` around them.
    """

    def __init__(
        self, netns: str | None, changed: Callable[[], None], table: str = "", own: Container[int] = frozenset()
    ) -> None:
        self._changed = changed
        self._table = table
        self._own = own
        self._pauses = 0
        self._writing = 0
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
                found = self._is_news(self._socket.recv(_READ)) or found
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = found or not self._writing  # more news than it holds are news, too

    def _is_news(self, data: bytes) -> bool:
        return any(
            sender not in self._own and (not self._table or table == self._table) for sender, table in changes_in(data)
        )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Own changes that are told apart by their senders: more of them than the socket holds are no news."""
        self._writing += 1
        try:
            yield
        finally:
            self._on_news()
            self._writing -= 1

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


def changes_in(data: bytes) -> Iterator[tuple[int, str]]:
    """Sender and table of each message; no table for the end of a transaction."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, sender = _HEADER.unpack_from(data, at)
        first = at + _HEADER.size + _NFGENMSG_BYTES
        table = ""
        if kind & 0xFF != _NEW_GENERATION and first + _ATTRIBUTE.size <= len(data):
            size, attribute = _ATTRIBUTE.unpack_from(data, first)
            if attribute == _TABLE:
                table = data[first + _ATTRIBUTE.size : first + size].rstrip(b"\0").decode(errors="replace")
        yield sender, table
        at += max((length + 3) & ~3, _HEADER.size)
