"""The agent's loop: take the desired set, keep every instance of it (and remove every other), report.

Without the cloud it goes on with the last set on disk, and so it does with a set that it cannot trust
(`vrata.host.trust`). One instance's failure is in its report and nowhere else.
"""

import asyncio
import contextlib

import structlog

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.ids import new_uuid
from vrata.base.wire import DesiredSet, HostReport, InstanceReport, Refusal, VrrpState
from vrata.host import trust
from vrata.host.api import CloudClient
from vrata.host.instance import InstanceKeeper
from vrata.host.model import Settings
from vrata.host.priority import Priority
from vrata.host.store import HostStore

COLLECT_S = 1.0
COLLECT_COST_S = 0.01  # at most a hundred instances a second
HEARTBEAT_S = 0.5
CONCURRENT_PASSES = 8
RETRY_LEAST_S = 0.1
RETRY_MOST_S = 2.0

log = structlog.get_logger()


class HostAgent:
    """One host's agent; `run` ends by cancellation only and leaves everything running."""

    def __init__(self, settings: Settings, store: HostStore, cloud: CloudClient) -> None:
        self._settings = settings
        self._store = store
        self._cloud = cloud
        self._keepers: dict[str, InstanceKeeper] = {}
        self._slots = asyncio.Semaphore(CONCURRENT_PASSES)
        self._priority = Priority()
        self._news = asyncio.Event()
        self._desired = DesiredSet(revision=0, instances=())
        self._refusal: Refusal | None = None

    async def run(self) -> None:
        """Adopt what is there, then follow the cloud."""
        self._priority.watch()
        self._store.prepare()
        self._store.clear_up()
        async with asyncio.TaskGroup() as group:
            last = self._store.load_desired()
            self._refusal = self._store.load_refusal()
            if last is not None:
                self._take(last, group)
            group.create_task(self._follow(group))
            group.create_task(self._report())
            group.create_task(self._cloud.renew())

    def _take(self, desired: DesiredSet, group: asyncio.TaskGroup) -> None:
        self._desired = desired
        wanted = {instance.id: instance for instance in desired.instances}
        for instance_id in (*wanted, *self._store.known(), *self._keepers):
            keeper = self._keepers.get(instance_id)
            if keeper is None:
                keeper = InstanceKeeper(
                    instance_id,
                    self._settings,
                    self._store,
                    self._slots,
                    self._priority,
                    self._news.set,
                    lambda: len(self._keepers),
                )
                self._keepers[instance_id] = keeper
                group.create_task(self._keep(keeper, group))
            keeper.want(wanted.get(instance_id))
            keeper.broken = desired.broken.get(instance_id)

    def _judge(self, received: DesiredSet) -> DesiredSet | None:
        """The set that is to be carried out, None if it is refused."""
        wanted = {one.id: one for one in self._desired.instances}
        going = {keeper.id for keeper in self._keepers.values() if keeper.desired is None}
        last = self._desired if self._desired.revision else None
        carried = {*wanted, *self._keepers, *(() if last else self._store.known())} - going
        refusal = trust.refuse(last, carried, received, self._refusal, new_uuid())
        if refusal != self._refusal:
            self._note(refusal, received)
        if refusal is not None:
            return None
        known = {one: held for one in received.broken if (held := wanted.get(one) or self._store.applied(one))}
        return trust.with_broken(received, known)

    def _note(self, refusal: Refusal | None, received: DesiredSet) -> None:
        if refusal is not None:
            log.error("desired set refused", reason=refusal.reason)
        else:
            log.warning("desired set adopted", revision=received.revision, database=received.database)
        self._refusal = refusal
        self._news.set()
        try:
            self._store.save_refusal(refusal)
        except VrataError as error:
            log.error("refusal not kept: a restart of the agent forgets it", error=str(error))

    async def _keep(self, keeper: InstanceKeeper, group: asyncio.TaskGroup) -> None:
        await keeper.run()
        del self._keepers[keeper.id]
        self._news.set()
        if any(instance.id == keeper.id for instance in self._desired.instances):  # wanted again while it went
            self._take(self._desired, group)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        seen, retry_s = DesiredSet(revision=0, instances=()), RETRY_LEAST_S
        while True:
            try:
                received = await self._cloud.poll_desired(seen.revision, seen.database)
            except VrataError as error:
                if retry_s == RETRY_LEAST_S:
                    log.warning("cloud unreachable, continuing with the last desired set", error=str(error))
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, RETRY_MOST_S)
                continue
            retry_s = RETRY_LEAST_S
            if received is None:
                continue
            seen = received
            desired = self._judge(received)
            if desired is None:
                continue
            log.info("desired", revision=desired.revision, instances=len(desired.instances))
            self._take(desired, group)
            try:
                await asyncio.to_thread(self._store.save_desired, desired)  # nobody waits for the disk
            except VrataError as error:  # a full disk: serve on, a restart would only ask the cloud again
                log.error("desired set not kept", error=str(error))

    async def _report(self) -> None:
        """Send every change at once, what has been collected since, and a sign of life in any case."""
        collected = 0.0
        while True:
            self._news.clear()
            due = monotonic_s() - collected >= max(COLLECT_S, COLLECT_COST_S * len(self._keepers))
            collected = monotonic_s() if due else collected
            await asyncio.gather(*(keeper.collect() for keeper in self._keepers.values() if due or keeper.fresh))
            try:
                report = self._compose()
                await self._cloud.send_report(report)
                self._told(report)
            except VrataError as error:
                log.debug("report not delivered", error=str(error))
                await asyncio.sleep(RETRY_LEAST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()

    def _told(self, report: HostReport) -> None:
        for one in report.instances:
            if keeper := self._keepers.get(one.id):
                keeper.acknowledged(one)

    def _compose(self) -> HostReport:
        never_built = (
            InstanceReport(id=instance_id, observed_generation=0, state=VrrpState.UNKNOWN, error=why)
            for instance_id, why in self._desired.broken.items()
            if instance_id not in self._keepers
        )
        return HostReport(
            physical_networks=tuple(network for network, _ in self._settings.bridges),
            instances=(*(keeper.report() for keeper in self._keepers.values()), *never_built),
            refusal=self._refusal,
        )
