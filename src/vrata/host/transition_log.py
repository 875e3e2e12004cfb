"""Changes of one instance's VRRP state: logged at once, and kept until the cloud has acknowledged them.

The length of a failover is read from the kernel a moment later (`vrata.host.adverts`), so that many instances that take
over at once do not compete with their own measurements.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from vrata.base.clock import monotonic_s, now
from vrata.base.errors import VrataError
from vrata.base.wire import Transition, VrrpState
from vrata.host import status
from vrata.host.adverts import cause_of
from vrata.host.observe import observe_silence

READ_AFTER_S = 0.3
UNREPORTED_MAX = 16  # the oldest are dropped where an instance changes faster than it can report

log = structlog.get_logger()


class TransitionLog:
    """Records changes; `changed` is called when there is something to report."""

    def __init__(self, instance_id: str, slots: asyncio.Semaphore, changed: Callable[[], None]) -> None:
        self._id = instance_id
        self._slots = slots
        self._changed = changed
        self._since_s = monotonic_s()
        self._unreported: deque[Transition] = deque(maxlen=UNREPORTED_MAX)
        self._readings: set[asyncio.Task[None]] = set()

    def went(self, before: VrrpState, after: VrrpState, netns: str | None, advert_interval_ms: int) -> None:
        """The instance went from one state to another just now."""
        moment_s = monotonic_s()
        one = Transition(at=now().timestamp(), before=before, after=after, lasted_s=round(moment_s - self._since_s, 3))
        self._since_s = moment_s
        words = {"state": str(after), "before": str(before), "reason": status.reason_of(before, after)}
        log.info("vrrp", instance=self._id, **words, after_s=one.lasted_s)
        if after is not VrrpState.MASTER or netns is None:
            self._unreported.append(one)
            return
        reading = asyncio.get_running_loop().create_task(self._measure(one, moment_s, netns, advert_interval_ms))
        self._readings.add(reading)
        reading.add_done_callback(self._readings.discard)

    def unreported(self) -> tuple[Transition, ...]:
        """What the cloud has not acknowledged, oldest first."""
        return tuple(sorted(self._unreported, key=lambda one: one.at))

    def acknowledged(self, transitions: tuple[Transition, ...]) -> None:
        """The cloud knows these."""
        for one in transitions:
            if one in self._unreported:
                self._unreported.remove(one)

    def close(self) -> None:
        """Measure no more."""
        for reading in self._readings:
            reading.cancel()

    async def _measure(self, one: Transition, moment_s: float, netns: str, advert_interval_ms: int) -> None:
        await asyncio.sleep(READ_AFTER_S)
        silent_s, cause = None, None
        try:
            async with self._slots:
                asked_s = monotonic_s()
                ago_s = await observe_silence(netns)
                since_s = (asked_s + monotonic_s()) / 2 - moment_s  # nft reads about in the middle
        except VrataError as error:
            log.warning("length of the failover not known", instance=self._id, error=str(error))
        else:
            silent_s = None if ago_s is None else round(max(0.0, ago_s - since_s), 3)
            cause = cause_of(silent_s, advert_interval_ms)
        log.info("took over", instance=self._id, cause=cause, silent_s=silent_s)
        self._unreported.append(msgspec.structs.replace(one, cause=cause, silent_s=silent_s))
        self._changed()
