"""Real time while nothing is built; what is started never inherits it."""

import os
import threading

from vrata.host.priority import Priority


def test_builders_take_real_time_away_until_the_last_one_is_done() -> None:
    seen: list[int] = []

    def policy() -> int:
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

    def work() -> None:  # in a thread of its own: the policy is the thread's
        priority = Priority()
        priority.watch()
        seen.append(policy())
        with priority.building():
            with priority.building():
                seen.append(policy())
            seen.append(policy())
        seen.append(policy())
        assert os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [os.SCHED_RR, os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_RR]
