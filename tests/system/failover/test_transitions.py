"""What the cloud is told of a failover: every change once, the length as the kernel measured it, and why."""

import os
import signal
from pathlib import Path

from tests.support.fabric import wait_until
from tests.system.host.lab import HOSTS, INSTANCES, Lab, lab

from vrata.base.wire import Cause, Transition, VrrpState

ADVERT_S = 0.1  # of the lab's pair
ROUNDS = 3  # a machine that is busy may keep a good-bye waiting so long that it looks like silence


def takeovers(it: Lab, host: str) -> list[Transition]:
    """How often a host's instance became active, as the cloud was told."""
    return [one for one in it.cloud.transitions[INSTANCES[host]] if one.after is VrrpState.MASTER]


async def test_a_host_that_is_cut_off_was_silent_for_three_adverts_even_if_the_cloud_hears_of_it_late(
    short_path: Path,
) -> None:
    async with lab("told", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        await wait_until(lambda: len(takeovers(it, active)) == 1, it.logs)
        assert takeovers(it, standby) == []
        it.cloud.deaf = True
        await it.fabric.cut(it.hosts[active])
        await wait_until(lambda: "took over" in it.logs_since_restart(standby), it.logs)
        assert takeovers(it, standby) == []
        it.cloud.deaf = False
        await wait_until(lambda: len(takeovers(it, standby)) == 1, it.logs)
        [last] = takeovers(it, standby)
        assert last.before is VrrpState.BACKUP
        assert last.cause is Cause.SILENCE
        assert last.silent_s is not None
        assert last.silent_s >= 2 * ADVERT_S
        print(f"\nhost cut off: silent for {last.silent_s * 1000:.0f} ms")
        await it.fabric.heal(it.hosts[active])
        await wait_until(it.one_active, it.logs)
        for told in it.cloud.transitions.values():
            assert len({one.at for one in told}) == len(told)


async def test_an_haproxy_that_is_killed_says_good_bye(short_path: Path) -> None:
    async with lab("bye", short_path) as it:
        await it.want_pair()
        await it.settle()
        causes: list[Cause | None] = []
        while Cause.GOODBYE not in causes and len(causes) < ROUNDS:
            await wait_until(it.one_active, it.logs)
            active = it.active()
            standby = HOSTS[1 - HOSTS.index(active)]
            before = len(takeovers(it, standby))
            os.kill(it.pid(active, "haproxy"), signal.SIGKILL)
            await wait_until(lambda s=standby, n=before: len(takeovers(it, s)) > n, it.logs)  # type: ignore[misc]
            last = takeovers(it, standby)[-1]
            causes.append(last.cause)
            print(f"\nHAProxy killed: {last.cause}, {(last.silent_s or 0) * 1000:.0f} ms since the last that was heard")
        assert causes[-1] is Cause.GOODBYE
