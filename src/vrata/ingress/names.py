"""Addresses of the names that Services of type ExternalName stand for, asked of this machine's resolver again and again.

A name that can not be resolved any more keeps the addresses it had. One that leads to this machine itself has none: whoever
may write a Service shall not reach what listens here for others.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import structlog

AGAIN_S = 10.0  # the resolver tells nobody how long an answer holds
AT_ONCE, THREADS = 4, 32  # of one namespace; of all

log = structlog.get_logger(__name__)


class Names:
    """`changed` is called with the keys of Services whose name has got other addresses."""

    def __init__(self, changed: Callable[[frozenset[str]], None]) -> None:
        self._changed = changed
        self._services: dict[str, set[str]] = {}  # by name
        self._name: dict[str, str] = {}  # of a Service
        self._found: dict[str, tuple[str, ...]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}  # by namespace
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
                asking = self._asking.pop(old, None)
                if asking:
                    asking.cancel()
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
        # Of its own: nobody else waits for names that take long.
        threads = ThreadPoolExecutor(THREADS, "names")
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._news.clear()
                    for name in self._services.keys() - self._asking.keys():
                        self._asking[name] = group.create_task(self._keep(name, threads))
                    await self._news.wait()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _keep(self, name: str, threads: Executor) -> None:
        """One namespace's names wait for each other, never for another one's."""
        while True:
            namespace = min(self._services[name]).partition("/")[0]
            async with self._turns.setdefault(namespace, asyncio.Semaphore(AT_ONCE)):
                await self._ask(name, threads)
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, name: str, threads: Executor) -> None:
        ask = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        try:
            answers = await asyncio.get_running_loop().run_in_executor(threads, ask)
        except (OSError, ValueError) as error:  # also of what is no name at all
            log.warning("name not resolved", name=name, error=str(error))
            answers = None
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
