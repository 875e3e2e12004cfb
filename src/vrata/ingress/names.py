"""Addresses of the names that Services of type ExternalName stand for, asked of this machine's resolver again and again.

A name that cannot be resolved any more keeps the addresses it had. Addresses of this machine and its links, of metadata
services, of the controller itself, and of Services and pods of other namespaces are left out each time that it is asked
for: who may write a Service must not reach through the controller what he may not reach himself.
"""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import structlog

from vrata.ingress.model import NEAR

AGAIN_S = 10.0  # the resolver tells nobody how long an answer holds
AT_ONCE, THREADS = 4, 32  # of one namespace; of all
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOLD_IPV4 = tuple(ipaddress.ip_network(one) for one in ("::/96", "::ffff:0:0/96", "64:ff9b::/96"))
_NEAR = tuple(ipaddress.ip_network(one) for one in NEAR)

log = structlog.get_logger(__name__)


class Owners:
    """The namespaces that addresses belong to, by the objects that name them."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, frozenset[str]]] = {}  # namespace and addresses, by object
        self._namespaces: dict[str, Counter[str]] = {}  # by address

    def put(self, key: str, namespace: str, addresses: Iterable[str]) -> frozenset[str]:
        """The object has these addresses from now on; those whose owners may have changed."""
        new = frozenset(filter(None, map(_canonical, addresses)))
        _, old = self._of.pop(key, (namespace, frozenset()))
        if new:
            self._of[key] = namespace, new
        for address in old - new:
            left = self._namespaces[address]
            left[namespace] -= 1
            if not left[namespace]:
                del left[namespace]
            if not left:
                del self._namespaces[address]
        for address in new - old:
            self._namespaces.setdefault(address, Counter())[namespace] += 1
        return new ^ old

    def of(self, address: str) -> Collection[str]:
        """The namespaces that an address belongs to; none: it is nobody's here."""
        return self._namespaces.get(address, ())


class Names:
    """`changed` is called with the keys of Services whose name has got other addresses.

    `owners` are the namespaces of an address, `own` the addresses of the controller and of the API server.
    """

    def __init__(
        self,
        changed: Callable[[frozenset[str]], None],
        owners: Callable[[str], Collection[str]] = lambda _address: (),
        own: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._changed = changed
        self._owners = owners
        self._own = own
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

    def get(self, name: str, namespace: str = "") -> tuple[str, ...] | None:
        """The addresses that a Service of a namespace may lead to, sorted; None: not asked for yet."""
        found = self._found.get(name)
        own = {_canonical(one) for one in self._own()}
        meant = [(one, _canonical(one)) for one in found or ()]
        return found and tuple(
            one for one, to in meant if to not in own and namespace in (self._owners(to) or (namespace,))
        )

    def leading_to(self, address: str) -> frozenset[str]:
        """The Services whose name has an address."""
        names = (name for name, found in self._found.items() if address in map(_canonical, found))
        return frozenset(service for name in names for service in self._services.get(name, ()))

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
    """Without those of this machine and its links, and those that are nobody's or a cloud's; sorted."""
    kept = []
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not any(one in network for one in (address, _meant(address)) for network in _NEAR):
            kept.append(str(address))
    return tuple(sorted(kept))


def _meant(address: Address) -> Address:
    """The IPv4 address that a connection to one of IPv6 comes to: mapped, compatible (RFC 4291, 2.5.5), NAT64 (RFC 6052, 2.1)."""
    if address.version == 6 and any(address in network for network in _HOLD_IPV4):
        return ipaddress.IPv4Address(int(address) % 2**32)
    return address


def _canonical(text: str) -> str:
    """As `Owners` knows an address; empty if it is none."""
    try:
        return str(_meant(ipaddress.ip_address(text)))
    except ValueError:
        return ""
