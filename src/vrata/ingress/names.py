"""Addresses of the names that Services of type ExternalName stand for, asked of this machine's resolver again and again.

A name that can not be resolved any more keeps the addresses it had. One that leads to this machine itself has none: whoever
may write a Service shall not reach what listens here for others.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable

import structlog

AGAIN_S = 10.0  # the resolver tells nobody how long an answer holds
AT_ONCE = 8

log = structlog.get_logger(__name__)


class Names:
    """`changed` is called with the keys of Services whose name has got other addresses."""

    def __init__(self, changed: Callable[[frozenset[str]], None]) -> None:
        self._changed = changed
        self._services: dict[str, set[str]] = {}  # by name
        self._name: dict[str, str] = {}  # of a Service
        self._found: dict[str, tuple[str, ...]] = {}
        self._news = asyncio.Event()

    def follow(self, service: str, name: str | None) -> None:
        """The Service stands for this name from now on; None: for none that anybody asks for."""
        old = self._name.get(service)
        if old == name:
            return
        if old is not None:
            self._services[old].discard(service)
            if not self._services[old]:
                del self._services[old]
                self._found.pop(old, None)
            del self._name[service]
        if name is not None:
            self._name[service] = name
            self._services.setdefault(name, set()).add(service)
            self._news.set()

    def get(self, name: str) -> tuple[str, ...] | None:
        """Its addresses, sorted; None: not asked for yet."""
        return self._found.get(name)

    async def run(self) -> None:
        """Ask until cancelled."""
        room = asyncio.Semaphore(AT_ONCE)
        while True:
            self._news.clear()
            new = [name for name in self._services if name not in self._found]
            async with asyncio.TaskGroup() as group:
                for name in new or list(self._services):
                    group.create_task(self._ask(name, room))
            if not new:
                try:
                    async with asyncio.timeout(AGAIN_S):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _ask(self, name: str, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                answers = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                log.warning("name not resolved", name=name, error=str(error))
                answers = None
        if name not in self._services:
            return
        before = self._found.get(name)
        found = before or () if answers is None else reachable({str(entry[4][0]) for entry in answers})
        if found != before:
            self._found[name] = found
            self._changed(frozenset(self._services[name]))


def reachable(addresses: set[str]) -> tuple[str, ...]:
    """Without those of this machine and its links, and those that are nobody's; sorted."""
    kept = []
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not (mapped.is_loopback or mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified):
            kept.append(str(address))
    return tuple(sorted(kept))
