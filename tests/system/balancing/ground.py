"""A pair of balancers before members that say what reached them; `serve` gives it another desired state."""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from tests.support.everything import authority, leaf
from tests.support.fabric import wait_until
from tests.support.members import Answer, Client, context, member
from tests.support.pauses import pause_s
from tests.system.host.lab import HOSTS, INSTANCES, MEMBERS, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import HealthMonitor, L7Policy, Listener, ListenerTls, Member, Pool
from vrata.haproxy.runtime import RuntimeClient
from vrata.net import ip

T = TypeVar("T")
PLAIN, TLS, MUTUAL, PROXY, PROXY_TLS = 8100, 8443, 8444, 8200, 8445
SECOND_CLIENT = "10.10.0.51"


class Ground:
    """The pair at work."""

    def __init__(self, made: Lab) -> None:
        self.lab = made
        self._generations = itertools.count(1)

    async def want(self, listeners: tuple[Listener, ...], pools: tuple[Pool, ...] = ()) -> int:
        """Desire this on both hosts; the generation it has."""
        number = next(self._generations)
        for host in HOSTS:
            base = balancer(host, generation=number)
            await self.lab.cloud.want(host, msgspec.structs.replace(base, listeners=listeners, pools=pools))
        return number

    async def serve(self, *listeners: Listener, pools: tuple[Pool, ...] = ()) -> None:
        """Desire this and wait until both hosts have carried it out, and one of them holds the address."""
        await self.lab.settle(await self.want(listeners, pools))

    async def refused(self, says: str, *listeners: Listener, pools: tuple[Pool, ...] = ()) -> None:
        """Desire what can not be, and wait until both hosts say why."""
        await self.want(listeners, pools)

        def refused() -> bool:
            reports = [self.lab.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
            return all(report and says in (report.error or "") for report in reports)

        await wait_until(refused, lambda: f"{says}; {self.lab.cloud.reports}")

    async def members(self, **statuses: str) -> None:
        """Wait until both hosts report at least these operating statuses."""

        def agreed() -> bool:
            reports = [self.lab.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
            return all(report and statuses.items() <= report.members.items() for report in reports)

        await wait_until(agreed, lambda: f"members are {statuses}; {self.lab.cloud.reports}")

    async def worker(self) -> str:
        """Process id of the active HAProxy worker: another one after each reload."""
        return (await self.runtime().information())["Pid"]

    def runtime(self) -> RuntimeClient:
        """The active HAProxy."""
        return RuntimeClient(self.lab.stats_socket(self.lab.active()))

    def client(
        self, port: int, *, tls: ssl.SSLContext | None = None, sni: str | None = None, source: str | None = None
    ) -> Client:
        """A client of the pair's address."""
        return Client(self.lab.client, VIP, port, tls, sni, source)

    async def get(self, port: int, path: str = "/", **headers: str) -> Answer:
        """One plain request."""
        return await asyncio.to_thread(lambda: self.client(port).get(path, **headers))


async def eventually(look: Callable[[], T], wanted: Callable[[T], bool], what: str) -> T:
    """Look, in a thread, until it is as wanted; AssertionError with what was seen last after half a minute."""
    deadline = monotonic_s() + 30.0
    seen: object = None
    while (looked := monotonic_s()) < deadline:
        try:
            found = await asyncio.to_thread(look)
        except OSError as error:
            seen = error
        else:
            seen = found
            if wanted(found):
                return found
        await asyncio.sleep(pause_s(monotonic_s() - looked, 0.01))
    raise AssertionError(f"{what}: {seen!r}")


def web(port: int, pool: str | None = "pool", *policies: L7Policy, **options: object) -> Listener:
    """An HTTP listener."""
    values: dict[str, object] = {"protocol": "HTTP", "default_pool_id": pool, "l7policies": policies}
    values |= {"id": f"listener-{port}", "protocol_port": port}
    return Listener(**(values | options))  # type: ignore[arg-type]


def secure(port: int, tls: ListenerTls, pool: str | None = "pool", **options: object) -> Listener:
    """A listener that ends TLS."""
    return web(port, pool, protocol="TERMINATED_HTTPS", tls=tls, **options)


def pool(*names: str, id: str = "pool", port: int = PLAIN, monitor: str | None = None, **options: object) -> Pool:  # noqa: A002
    """A pool of m1, m2 or both."""
    check = HealthMonitor(id="monitor", type=monitor, delay=1, timeout=1, max_retries_down=2) if monitor else None
    values: dict[str, object] = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": check}
    members = tuple(Member(id=name, address=MEMBERS[name], protocol_port=port) for name in names or ("m1",))
    return Pool(id=id, **({"members": members} | values | options))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def ground(directory: Path) -> AsyncIterator[Ground]:
    """A running pair with nothing desired yet."""
    async with lab("balance", directory) as made:
        await ip.batch([f"address add {SECOND_CLIENT}/24 dev tenant"], netns=made.client.netns)
        with contextlib.ExitStack() as stack:
            for name, address in MEMBERS.items():
                plain = context(leaf(f"{name}.example.org"), server=True)
                mutual = context(leaf(f"{name}.example.org"), server=True, trust=authority())
                for port, tls, proxy in (
                    (PLAIN, None, False),
                    (TLS, plain, False),
                    (MUTUAL, mutual, False),
                    (PROXY, None, True),
                    (PROXY_TLS, plain, True),
                ):
                    stack.enter_context(member(made.inside, address, port, name, tls=tls, proxy=proxy))
            yield Ground(made)
