"""Failed logins: how long the answer to one is delayed, and when the next one may come. Does no I/O.

Counted by client address and user together, and by client address alone, in each replica. Nobody can lock a user out
from another address. Kept: KEPT counters, forgotten FORGET_S after the last failure; and the KEPT last successes, so
that those who logged in before do not wait behind those who guess.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from vrata.cloud.slow import KNOWN

FREE, FREE_BY_ADDRESS = 5, 100  # failures before there is a pause
DELAY_S, DELAY_MAX_S = 0.1, 2.0  # of the answer to a failure: this much for each so far
PAUSE_S, PAUSE_MAX_S = 1.0, 60.0  # doubled with each failure beyond the free ones
FORGET_S = 15 * 60.0
KEPT = 10_000


@dataclass
class _Count:
    failures: int
    last_s: float
    free_from_s: float = 0.0  # no further attempt before


class Attempts:
    """The counters. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # address and user of the last successes

    def pause_s(self, address: str, user: str, now_s: float) -> float:
        """How long this client must wait before it may try this user again; 0: not at all."""
        return max([0.0, *(count.free_from_s - now_s for count in self._of(address, user, now_s))])

    def rank(self, address: str, user: str, now_s: float) -> int:
        """Who is checked first, the lowest: KNOWN after a success, else the failures of the address."""
        if (address, user) in self._known:
            return KNOWN
        count = self._counts.get((address, ""))
        return 0 if count is None or now_s - count.last_s > FORGET_S else count.failures

    def failed(self, address: str, user: str, now_s: float) -> float:
        """Count a failure; how long its answer is delayed."""
        delay = 0.0
        self._known.pop((address, user), None)
        for key, free in (((address, user), FREE), ((address, ""), FREE_BY_ADDRESS)):
            count = self._counts.pop(key, None)
            if count is None or now_s - count.last_s > FORGET_S:
                count = _Count(0, now_s)
            count.failures += 1
            count.last_s = now_s
            if count.failures > free:
                count.free_from_s = now_s + min(PAUSE_S * 2 ** min(count.failures - free - 1, 16), PAUSE_MAX_S)
            self._counts[key] = count
            if key[1]:
                delay = min(DELAY_S * count.failures, DELAY_MAX_S)
        while len(self._counts) > KEPT:
            self._counts.popitem(last=False)
        return delay

    def succeeded(self, address: str, user: str) -> None:
        """Forget this client's failures with this user, and remember the success."""
        self._counts.pop((address, user), None)
        self._known.pop((address, user), None)
        self._known[address, user] = None
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def _of(self, address: str, user: str, now_s: float) -> Iterable[_Count]:
        for key in ((address, user), (address, "")):
            count = self._counts.get(key)
            if count is not None and now_s - count.last_s <= FORGET_S:
                yield count
