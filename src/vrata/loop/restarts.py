"""When a child process that ended may be started again. Reads no clock, knows no process.

The first time at once: what carries traffic is missed. One that ends again soon after its start waits, and each time
twice as long. One that has lived for a while begins anew.
"""

import math
from dataclasses import dataclass

FIRST_S = 0.5
MOST_S = 15.0
SEVERAL = 3
LIVED_S = 10.0  # so long after its start, and its end is the first again


@dataclass
class Restarts:
    """The restarts of one child. Every `now`: seconds of one clock that never jumps."""

    ends: int = 0  # in a row
    _started: float = -math.inf
    _until: float = -math.inf

    def started(self, now: float) -> None:
        """The child was started, or was found running."""
        self._started = now

    def ended(self, now: float) -> float:
        """The child ended by itself; the pause before its next start, in seconds."""
        self.ends = 1 if now - self._started >= LIVED_S else self.ends + 1
        pause_s = 0.0 if self.ends == 1 else min(FIRST_S * 2.0 ** min(self.ends - 2, 10), MOST_S)
        self._until = now + pause_s
        return pause_s

    def pause_s(self, now: float) -> float:
        """Seconds until it may be started; 0 if it may."""
        return max(0.0, self._until - now)

    def is_failing(self, now: float) -> bool:
        """Whether it ended several times in a row, and has not lived since."""
        return self.ends >= SEVERAL and now - self._started < LIVED_S

    def forgive(self) -> None:
        """What it is started with has changed: nothing is known of that one."""
        self.ends, self._until = 0, -math.inf
