"""What dies, and what a client sees of it: gaps are printed, never asserted (a machine may be busy)."""

import os
import signal
from pathlib import Path

from tests.support.fabric import wait_until
from tests.support.traffic import Seen, prober
from tests.system.host.lab import HOSTS, PORT, VIP, Lab, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import VrrpState
from vrata.net import ip


async def goes_on(seen: Seen, it: Lab) -> None:
    """Wait until a good answer came that was asked for after now."""
    now = monotonic_s() + 0.1
    await wait_until(lambda: bool(seen.good) and seen.good[-1] > now, it.logs)


async def holders(it: Lab) -> list[str]:
    """Hosts whose instance has the VIP on its interface."""
    return [
        host
        for host in HOSTS
        for link in await ip.query("address", "show", netns=it.netns(host))
        if link["ifname"] != "lo" and any(info.get("local") == VIP for info in link["addr_info"])
    ]


async def test_the_standby_answers_when_the_active_host_is_cut_off_and_one_is_left_after_healing(
    short_path: Path,
) -> None:
    async with lab("cut", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        with prober(it.client, VIP, PORT) as seen:
            await goes_on(seen, it)
            began = monotonic_s()
            await it.fabric.cut(it.hosts[active])
            await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
            await goes_on(seen, it)
            print(f"\nhost cut off: longest gap {seen.longest_gap_ms(began - 0.1):.0f} ms")
            await it.fabric.heal(it.hosts[active])
            await wait_until(it.one_active, it.logs)
            await goes_on(seen, it)
        assert len(await holders(it)) == 1


async def test_killed_haproxy_hands_over_at_once_and_returns_as_standby(short_path: Path) -> None:
    async with lab("hap", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        master = it.pid(active, "haproxy")
        with prober(it.client, VIP, PORT) as seen:
            await goes_on(seen, it)
            began = monotonic_s()
            os.kill(master, signal.SIGKILL)
            await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
            await wait_until(lambda: it.pid(active, "haproxy") not in (0, master), it.logs)
            await wait_until(it.one_active, it.logs)
            await goes_on(seen, it)
        print(f"\nHAProxy killed: longest gap {seen.longest_gap_ms(began - 0.1):.0f} ms, failed {len(seen.failed)}")
        assert it.active() == standby
        assert await holders(it) == [standby]


async def test_killed_keepalived_leaves_no_second_holder_and_returns_as_standby(short_path: Path) -> None:
    async with lab("kad", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        child = int((it.instance_dir(active) / "keepalived-vrrp.own.pid").read_text())
        parent = it.pid(active, "keepalived")
        with prober(it.client, VIP, PORT) as seen:
            await goes_on(seen, it)
            began = monotonic_s()
            os.kill(parent, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
            await wait_until(it.one_active, it.logs)
            await goes_on(seen, it)
        print(f"\nkeepalived killed: longest gap {seen.longest_gap_ms(began - 0.1):.0f} ms, failed {len(seen.failed)}")
        assert it.active() == standby
        assert await holders(it) == [standby]


async def test_killed_keepalived_parent_alone_ends_its_child_too(short_path: Path) -> None:
    async with lab("kap", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        parent = it.pid(active, "keepalived")
        with prober(it.client, VIP, PORT) as seen:
            await goes_on(seen, it)
            began = monotonic_s()
            os.kill(parent, signal.SIGKILL)
            await wait_until(lambda: it.pid(active, "keepalived") not in (0, parent), it.logs)
            await wait_until(it.one_active, it.logs)
            await goes_on(seen, it)
        print(f"\nkeepalived's parent killed: longest gap {seen.longest_gap_ms(began - 0.1):.0f} ms")
        assert len(await holders(it)) == 1


async def test_haproxy_that_dies_without_an_agent_is_noticed_by_keepalived(short_path: Path) -> None:
    async with lab("noagent", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        with prober(it.client, VIP, PORT) as seen:
            await goes_on(seen, it)
            began = monotonic_s()
            await it.kill_agent(active)
            os.kill(it.pid(active, "haproxy"), signal.SIGKILL)
            await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs)
            await goes_on(seen, it)
            print(f"\nHAProxy killed, agent dead: longest gap {seen.longest_gap_ms(began - 0.1):.0f} ms")
            await it.start_agent(active)
            await wait_until(it.one_active, it.logs)
        assert it.active() == standby
        assert await holders(it) == [standby]


async def test_an_agent_restarted_without_the_cloud_repairs_from_what_is_on_disk(short_path: Path) -> None:
    async with lab("nocloud", short_path) as it:
        await it.want_pair()
        await it.settle()
        host = it.active()
        await it.fabric.cut(it.hosts[host], "mgmt")
        await it.kill_agent(host)
        master = it.pid(host, "haproxy")
        os.kill(master, signal.SIGKILL)
        await wait_until(lambda: it.pid(host, "haproxy") == 0, it.logs)
        await it.start_agent(host)
        await wait_until(lambda: it.pid(host, "haproxy") not in (0, master), it.logs)
        assert await it.answers(it.client, VIP)
