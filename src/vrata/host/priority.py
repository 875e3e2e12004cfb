"""The agent in real time while it waits for something to happen, and as a usual process while it builds.

So load does not fake a death, and building an instance does not take the processor from HAProxies that carry traffic
(sched(7)). What the agent starts begins at the usual priority either way.
"""

import contextlib
import os
from collections.abc import Iterator

WATCHING = 1  # below keepalived's
BUILDING_NICE = -5  # below HAProxy's


class Priority:
    """Of the calling thread; counts how many builders are at work. Without the right to, nothing changes."""

    def __init__(self) -> None:
        self._builders = 0

    def watch(self) -> None:
        """Real time from now on."""
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, BUILDING_NICE)
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(WATCHING))

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Not in real time as long as this lasts, and any other one."""
        self._builders += 1
        if self._builders == 1:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        try:
            yield
        finally:
            self._builders -= 1
            if not self._builders:
                self.watch()
