"""Who of several replicas works: a Lease (coordination.k8s.io/v1), as client-go's leader election keeps it.

The holder writes its name and the time again and again; whoever sees no change for the lease's duration, on its own
clock, takes it. Only one write of two at the same time succeeds (resourceVersion). The holder counts from before it
sent its last good renewal and stops its work earlier than anybody may take over; at a clean end it gives the lease
back, so that the next one need not wait.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import msgspec
import structlog

from vrata.base import clock
from vrata.base.errors import VrataError
from vrata.kube.client import ApiError, Kube
from vrata.kube.objects import ObjectMeta
from vrata.kube.resources import LEASES

STOP_S = 5.0  # how long work may take to end before the process goes without it

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Times:
    """Seconds: how long a silent holder keeps the lease, when it gives up itself, how often it is written or looked at."""

    duration_s: int = 5

    @property
    def renew_deadline_s(self) -> float:
        return self.duration_s * 2 / 3

    @property
    def retry_s(self) -> float:
        return self.duration_s / 7.5


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseObject(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class LeaseLost(VrataError):
    """Somebody else may work now; this process must end."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the lease is lost: {why}", remedy="another replica works on; start this one again")


@dataclass(frozen=True)
class Seen:
    """A lease, and when it last changed by our own clock (seconds, monotonic)."""

    lease: LeaseObject
    since_s: float


def may_take(seen: Seen | None, identity: str, now_s: float) -> bool:
    """Whether the lease is free: there is none, it was given back, it is ours, or its holder has been silent too long."""
    if seen is None:
        return True
    spec = seen.lease.spec
    return spec.holder_identity in (None, "", identity) or now_s >= seen.since_s + (spec.lease_duration_seconds or 0)


def taken(old: LeaseSpec, identity: str, duration_s: int, now: str) -> LeaseSpec:
    """The lease as its holder writes it: taken, or renewed if it was ours."""
    ours = old.holder_identity == identity
    transitions = old.lease_transitions or 0
    return LeaseSpec(
        holder_identity=identity,
        lease_duration_seconds=duration_s,
        acquire_time=old.acquire_time if ours else now,
        renew_time=now,
        lease_transitions=transitions if ours or not old.acquire_time else transitions + 1,
    )


class Leadership:
    """One replica's wish for a lease; `identity` must be another in each process."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, times: Times | None = None) -> None:
        self._kube = kube
        self._namespace, self._name, self._identity = namespace, name, identity
        self._times = times or Times()
        self._seen: Seen | None = None
        self._until_s = float("-inf")  # until when we may work, by our own clock
        self.looked = False  # whether the API server has answered about the lease

    def is_held(self) -> bool:
        """Whether we may work at this instant, even if nothing of us has run for a while."""
        return clock.monotonic_s() < self._until_s

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, work while it is ours, give it back. LeaseLost if it went; the work's own errors pass."""
        await self._acquire()
        log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self._identity)
        working, renewing = asyncio.ensure_future(work()), asyncio.ensure_future(self._renew())
        tasks = {working, renewing}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_S)
            if working.done():
                await self._release()
        for task in done:
            task.result()

    async def _acquire(self) -> None:
        while True:
            try:
                if await self._try():
                    return
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("lease not read", error=str(error) or type(error).__name__)
            await asyncio.sleep(self._times.retry_s)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._times.retry_s)
            left_s = self._until_s - clock.monotonic_s()
            try:
                async with asyncio.timeout(max(left_s, 0)):
                    if await self._try():
                        continue
                assert self._seen
                raise LeaseLost(f"{self._seen.lease.spec.holder_identity or 'somebody'} has it")
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                if not self.is_held():
                    raise LeaseLost(f"not renewed in time ({str(error) or type(error).__name__})") from error

    async def _try(self) -> bool:
        """Take or renew the lease if it is free or ours; False if it is another's."""
        found = await self._kube.get(LEASES, LeaseObject, self._name, self._namespace)
        self.looked = True
        self._see(found)
        if not may_take(self._seen, self._identity, clock.monotonic_s()):
            return False
        sent_s = clock.monotonic_s()
        spec = taken(
            found.spec if found else LeaseSpec(),
            self._identity,
            self._times.duration_s,
            clock.rfc3339_micro(clock.now()),
        )
        if not await self._write(spec, found):
            return False
        self._until_s = sent_s + self._times.renew_deadline_s
        return True

    def _see(self, found: LeaseObject | None) -> None:
        if found is None:
            self._seen = None
        elif self._seen is None or self._seen.lease.metadata.resource_version != found.metadata.resource_version:
            self._seen = Seen(found, clock.monotonic_s())

    async def _write(self, spec: LeaseSpec, found: LeaseObject | None) -> bool:
        """Write over exactly what was found; False if somebody was faster."""
        metadata: dict[str, str] = {"name": self._name}
        try:
            if found is None:
                await self._kube.create(LEASES, {"metadata": metadata, "spec": spec}, self._namespace)
            else:
                metadata["resourceVersion"] = found.metadata.resource_version
                await self._kube.patch(LEASES, self._name, {"metadata": metadata, "spec": spec}, self._namespace)
        except ApiError as error:
            if error.code != 409:
                raise
            return False
        return True

    async def _release(self) -> None:
        """Give back what is ours; whoever waits finds it free at its next look."""
        self._until_s = float("-inf")
        with contextlib.suppress(ApiError, aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_S):
                found = await self._kube.get(LEASES, LeaseObject, self._name, self._namespace)
                if found and found.spec.holder_identity == self._identity:
                    now = clock.rfc3339_micro(clock.now())
                    spec = taken(found.spec, self._identity, 1, now)
                    await self._write(msgspec.structs.replace(spec, holder_identity=""), found)
