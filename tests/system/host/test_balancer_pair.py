"""A pair of balancer instances on two hosts, with real packets: it serves, changes and goes away."""

import signal
from pathlib import Path

import msgspec
from tests.support.fabric import wait_until
from tests.support.traffic import get, prober
from tests.system.host.lab import FIXED, FLOATING, HOSTS, INSTANCES, PORT, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import VrrpState
from vrata.haproxy.runtime import RuntimeClient
from vrata.net import ip


async def members_are(it: Lab, **statuses: str) -> None:
    """Wait until both hosts report exactly these operating statuses."""

    def agreed() -> bool:
        seen = [it.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
        return all(report and report.members == statuses for report in seen)

    await wait_until(agreed, lambda: f"members are {statuses}; {it.cloud.reports}")


async def worker_pid(it: Lab, host: str) -> str:
    """Process id of the HAProxy worker that serves now: another one after each reload."""
    return (await RuntimeClient(it.stats_socket(host)).information())["Pid"]


async def test_a_pair_comes_up_answers_and_leaves_nothing(short_path: Path) -> None:
    async with lab("up", short_path) as it:
        with prober(it.client, VIP, PORT) as seen:
            began = monotonic_s()
            await it.want_pair()
            await wait_until(lambda: bool(seen.good), lambda: f"the address answers; {it.logs()}")
        print(f"\nfresh pair: desired set -> first answer {(seen.good[0] - began) * 1000:.0f} ms")
        await it.settle()
        assert await get(it.client, VIP, PORT) == f"m1 {FIXED[it.active()]}"
        await members_are(it, m1="ONLINE")
        namespaces = {it.netns(host) for host in HOSTS}
        assert namespaces <= ip.list_namespaces()
    assert not namespaces & ip.list_namespaces()


async def test_killed_agents_drop_nothing_and_adopt_what_runs(short_path: Path) -> None:
    async with lab("agent", short_path) as it:
        await it.want_pair()
        await it.settle()
        daemons = {(host, name): it.pid(host, name) for host in HOSTS for name in ("haproxy", "keepalived")}
        active = it.active()
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            for host in HOSTS:
                await it.kill_agent(host)
            it.cloud.reports.clear()
            await wait_until(lambda: len(anew.good) > 100, "traffic without agents")
            for host in HOSTS:
                await it.start_agent(host)
            await it.settle()
            assert await it.kill_agent(active, signal.SIGTERM) == 0
        assert anew.failed == []
        assert kept.failed == []
        assert it.active() == active
        assert {key: it.pid(*key) for key in daemons} == daemons
        assert "step=" not in it.logs_since_restart(active)


async def test_members_and_weights_change_without_a_reload(short_path: Path) -> None:
    async with lab("member", short_path) as it:
        await it.want_pair()
        await it.settle()
        workers = [await worker_pid(it, host) for host in HOSTS]
        with prober(it.client, VIP, PORT, timeout_s=5.0) as seen:
            await it.want_pair(generation=2, members=("m1", "m2"))
            await it.settle(2)
            await members_are(it, m1="ONLINE", m2="ONLINE")
            while not (await it.answers(it.client, VIP)).startswith("m2"):  # it takes its turn
                pass
            await it.want_pair(generation=3, members=("m2",))
            await it.settle(3)
            await members_are(it, m2="ONLINE")
            await it.want_pair(generation=4, members=("m2",), weight=0)
            await it.settle(4)
            await members_are(it, m2="DRAINING")
            await it.want_pair(generation=5, members=("m2",), weight=5)
            await it.settle(5)
        assert [await worker_pid(it, host) for host in HOSTS] == workers
        failures = [reason for _, reason in seen.failed if "503" not in reason]  # all is drained for a moment
        assert failures == []
        # What a reload would read is what was set at run time.
        assert "m2 10.10.0.22:8000 weight 5" in (it.instance_dir(HOSTS[0]) / "haproxy.cfg").read_text()


async def test_a_floating_address_comes_and_goes_live_without_a_dropped_connection(short_path: Path) -> None:
    async with lab("fip", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            began = monotonic_s()
            # One side a while before the other: their lists of addresses differ meanwhile.
            await it.cloud.want(HOSTS[0], balancer(HOSTS[0], generation=2, floating=True))
            await wait_until(lambda: it.generation(HOSTS[0]) == 2, it.logs)
            await it.cloud.want(HOSTS[1], balancer(HOSTS[1], generation=2, floating=True))
            with prober(it.client, FLOATING, PORT) as outside:
                await wait_until(lambda: bool(outside.good), it.logs)
            print(f"\nfloating address: desired set -> first answer {(outside.good[0] - began) * 1000:.0f} ms")
            await it.settle(2)
            assert it.active() == active
            assert await get(it.client, FLOATING, PORT) == f"m1 {FIXED[active]}"
            await it.want_pair(generation=3)
            await it.settle(3)
            assert await get(it.client, FLOATING, PORT, timeout_s=0.2) is None
        print(f"meanwhile on the VIP: longest gap {anew.longest_gap_ms():.0f} ms, failed {len(anew.failed)}")
        assert anew.failed == []
        assert kept.failed == []
        assert it.active() == active
        assert [link for host in HOSTS for link in await it.links(host)] == ["tenant", "tenant"]


async def test_one_bad_instance_says_what_is_wrong_and_stops_no_other(short_path: Path) -> None:
    async with lab("bad", short_path) as it:
        good = balancer(HOSTS[0])
        monitor = msgspec.structs.replace(good.pools[0].healthmonitor, type="SCTP")  # type: ignore[type-var]
        bad = msgspec.structs.replace(
            good,
            id="22222222-aaaa-4aaa-8aaa-000000000009",
            pools=(msgspec.structs.replace(good.pools[0], healthmonitor=monitor),),
        )
        await it.cloud.want(HOSTS[0], bad, good)
        await wait_until(lambda: it.generation(HOSTS[0]) == 1, it.logs)
        await wait_until(lambda: bool((r := it.cloud.seen(HOSTS[0], bad.id)) and r.error), it.logs)
        report = it.cloud.seen(HOSTS[0], bad.id)
        assert report
        assert report.observed_generation == 0
        assert report.error == "healthmonitor.type: 'SCTP' is not valid; use one of TCP, HTTP, HTTPS, TLS-HELLO, PING"
        assert await it.answers(it.client, VIP)


async def test_a_single_instance_without_a_peer_serves_over_both_families(short_path: Path) -> None:
    async with lab("single", short_path) as it:
        base = balancer(HOSTS[0])
        leg = msgspec.structs.replace(
            base.legs[0], fixed=(*base.legs[0].fixed, "fd00::11/64"), virtual=(*base.legs[0].virtual, "fd00::100/64")
        )
        vrrp = msgspec.structs.replace(base.vrrp, peers=(), peer_instances=())
        await it.cloud.want(HOSTS[0], msgspec.structs.replace(base, legs=(leg,), vrrp=vrrp))
        await ip.batch(["address add fd00::50/64 dev tenant nodad"], netns=it.client.netns)
        assert await it.answers(it.client, VIP)
        assert await it.answers(it.client, "fd00::100")
        await wait_until(lambda: it.state(HOSTS[0]) is VrrpState.MASTER, it.logs)
