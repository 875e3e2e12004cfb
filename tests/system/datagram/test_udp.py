"""UDP listeners on a real pair with real packets: choice, persistence, refusal, health, failover, an agent that dies."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from tests.support.datagrams import UdpClient, ask, udp_server
from tests.support.fabric import wait_until
from tests.system.host.lab import FIXED, HOSTS, INSTANCES, MEMBERS, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import DesiredInstance, HealthMonitor, Listener, Member, Pool, VrrpState
from vrata.net import ip
from vrata.net.command import run

DNS, MEMBER_PORT = 53, 5300
WAIT_S = 30.0


def udp(host: str, *, generation: int = 1, weights: dict[str, int] | None = None, **options: object) -> DesiredInstance:
    """One half of a pair with one UDP listener before monitored members."""
    pool: dict[str, object] = {"lb_algorithm": "ROUND_ROBIN", "healthmonitor": None}
    monitor = HealthMonitor(id="m", type="UDP-CONNECT", delay=1, timeout=1, max_retries_down=1)
    pool |= {"healthmonitor": monitor} | {k: v for k, v in options.items() if k in Pool.__struct_fields__}
    listener = {k: v for k, v in options.items() if k in Listener.__struct_fields__}
    members = tuple(
        Member(id=name, address=MEMBERS[name], protocol_port=MEMBER_PORT, weight=weight)
        for name, weight in ({"m1": 1, "m2": 1} if weights is None else weights).items()
    )
    return msgspec.structs.replace(
        balancer(host, generation=generation),
        listeners=(Listener(id="dns", protocol="UDP", protocol_port=DNS, default_pool_id="p", **listener),),  # type: ignore[arg-type]
        pools=(Pool(id="p", protocol="UDP", members=members, **pool),),  # type: ignore[arg-type]
    )


async def want(it: Lab, generation: int = 1, **options: object) -> None:
    for host in HOSTS:
        await it.cloud.want(host, udp(host, generation=generation, **options))  # type: ignore[arg-type]
    await it.settle(generation)


@contextlib.asynccontextmanager
async def running(
    label: str, path: Path, **options: object
) -> AsyncIterator[tuple[Lab, dict[str, contextlib.AsyncExitStack]]]:
    """A settled pair, with both members' servers on the stack."""
    async with lab(label, path) as it, contextlib.AsyncExitStack() as stack:
        servers = {name: contextlib.AsyncExitStack() for name in MEMBERS}
        for name, server in servers.items():
            await stack.enter_async_context(server)
            await server.enter_async_context(udp_server(it.inside, MEMBERS[name], MEMBER_PORT, name))
        await want(it, **options)  # type: ignore[arg-type]
        yield it, servers


async def answer(it: Lab, source: str = "") -> str:
    """The answer on a fresh flow; waits for one."""
    deadline = monotonic_s() + WAIT_S
    while monotonic_s() < deadline:
        said = await ask(it.client, VIP, DNS, source)
        if said:
            return said
    raise AssertionError(it.logs())


async def members_are(it: Lab, **statuses: str) -> None:
    def agreed() -> bool:
        seen = [it.cloud.seen(host, INSTANCES[host]) for host in HOSTS]
        return all(report and report.members == statuses for report in seen)

    await wait_until(agreed, lambda: f"members are {statuses}; {it.cloud.reports}", WAIT_S)


async def test_new_flows_go_round_by_weight_and_members_see_the_balancer(short_path: Path) -> None:
    async with running("udp", short_path, weights={"m1": 3, "m2": 1}) as (it, _):
        first = await answer(it)
        assert first.split()[1] == VIP
        seen = Counter([(await answer(it)).split()[0] for _ in range(8)])
        assert seen == {"m1": 6, "m2": 2}
        with UdpClient(it.client) as client:
            flow = {await client.ask(VIP, DNS, 3.0) for _ in range(5)}
        assert len(flow) == 1
        await members_are(it, m1="ONLINE", m2="ONLINE")

        def counted() -> bool:
            report = it.cloud.seen(it.active(), INSTANCES[it.active()])
            stats = report.listeners.get("dns") if report else None
            return bool(stats and stats.total_connections >= 10 and stats.bytes_in and stats.bytes_out)

        await wait_until(counted, "the listener's counters are reported", WAIT_S)
        # Weight 0: who is there stays, nobody comes.
        with contextlib.ExitStack() as stack:
            flows = [stack.enter_context(UdpClient(it.client)) for _ in range(4)]
            answers = [await one.ask(VIP, DNS, 3.0) for one in flows]
            await want(it, 2, weights={"m1": 0, "m2": 1})
            assert {(await answer(it)).split()[0] for _ in range(4)} == {"m2"}
            assert [await one.ask(VIP, DNS, 3.0) for one in flows] == answers
        await members_are(it, m1="DRAINING", m2="ONLINE")


async def test_a_dead_members_clients_move_and_a_returned_one_serves_again(short_path: Path) -> None:
    async with running("die", short_path) as (it, servers):
        with UdpClient(it.client) as client:
            said = await client.ask(VIP, DNS, 3.0) or ""
            victim = said.split()[0]
            other = ({*MEMBERS} - {victim}).pop()
            await servers[victim].aclose()
            await members_are(it, **{victim: "ERROR", other: "ONLINE"})
            deadline = monotonic_s() + WAIT_S
            while (await client.ask(VIP, DNS) or "").split()[:1] != [other]:
                assert monotonic_s() < deadline, it.logs()
            assert {(await answer(it)).split()[0] for _ in range(4)} == {other}
            await servers[victim].enter_async_context(udp_server(it.inside, MEMBERS[victim], MEMBER_PORT, victim))
            await members_are(it, **{victim: "ONLINE", other: "ONLINE"})
            assert {(await answer(it)).split()[0] for _ in range(4)} == {victim, other}
            # A machine that is gone can not even refuse.
            await ip.set_sysctls({"net.ipv4.conf.tenant.promote_secondaries": "1"}, netns=it.inside.netns)
            await ip.batch([f"address delete {MEMBERS[victim]}/24 dev tenant"], netns=it.inside.netns)
            await members_are(it, **{victim: "ERROR", other: "ONLINE"})


async def test_a_flow_that_met_nobody_finds_a_member_that_comes(short_path: Path) -> None:
    """A sender with a fixed port never reached a member again after the pool had been empty."""
    async with running("back", short_path) as (it, _):
        with UdpClient(it.client) as client:
            assert await client.ask(VIP, DNS, 3.0)
            await want(it, 2, weights={})
            for _ in range(3):
                assert await client.ask(VIP, DNS) is None
            await want(it, 3)
            deadline = monotonic_s() + WAIT_S
            while not await client.ask(VIP, DNS):
                assert monotonic_s() < deadline, it.logs()


async def test_rules_that_somebody_flushed_are_back(short_path: Path) -> None:
    """What was loaded was taken for what is there: nothing answered until the next change of the load balancer."""
    async with running("flush", short_path) as (it, _):
        assert await answer(it)
        for host in HOSTS:
            await run("nft", "flush", "ruleset", netns=it.netns(host))
        assert await answer(it)
        for host in HOSTS:
            await it.kill_agent(host)
            await run("nft", "flush", "ruleset", netns=it.netns(host))
            await it.start_agent(host)
        assert await answer(it)


async def test_a_source_keeps_its_member_and_strangers_are_refused(short_path: Path) -> None:
    options = {"persistence_type": "SOURCE_IP", "persistence_timeout": 300, "persistence_granularity": "255.255.255.0"}
    async with running("keep", short_path, **options) as (it, _):
        more = [f"address add 10.10.0.{n}/24 dev tenant" for n in (51, 52)]
        await ip.batch([*more, "address add 10.10.1.5/32 dev tenant"], netns=it.client.netns)
        await ip.batch([f"route add 10.10.1.0/24 via {VIP}"], netns=it.inside.netns)
        near = {(await answer(it, f"10.10.0.{n}")).split()[0] for n in (50, 51, 52, 50, 51)}
        assert len(near) == 1
        active = it.active()
        await want(it, 2, **options, allowed_cidrs=("10.10.0.51/32", "2001:db8::/32"))
        kept = {(await answer(it, "10.10.0.51")).split()[0]}
        assert kept == near  # what was learnt outlives a change of the listener
        assert await ask(it.client, VIP, DNS, "10.10.0.50") is None
        assert it.active() == active


async def test_more_flows_than_the_limit_are_refused(short_path: Path, opened: contextlib.ExitStack) -> None:
    async with running("limit", short_path, connection_limit=3) as (it, _):
        flows = [opened.enter_context(UdpClient(it.client)) for _ in range(5)]
        answers = [await flow.ask(VIP, DNS) for flow in flows]
        assert sum(said is not None for said in answers) == 3
        again = [await flow.ask(VIP, DNS) for flow in flows]
        assert [said is not None for said in again] == [said is not None for said in answers]


async def test_a_flow_keeps_its_member_over_a_failover_and_agents_may_die(
    short_path: Path, opened: contextlib.ExitStack
) -> None:
    async with running("over", short_path) as (it, _):
        active = it.active()
        standby = HOSTS[1 - HOSTS.index(active)]
        flows = [opened.enter_context(UdpClient(it.client)) for _ in range(6)]
        before = [await flow.ask(VIP, DNS, 3.0) for flow in flows]
        assert None not in before
        assert [await flow.ask(VIP, DNS, 3.0) for flow in flows] == before
        await it.kill_agent(active)
        assert [await flow.ask(VIP, DNS, 3.0) for flow in flows] == before
        await it.start_agent(active)
        it.cloud.reports.clear()
        await it.settle()
        assert "step=LoadRules" not in it.logs_since_restart(active)

        await replicated(it, standby, len(flows))
        await it.fabric.cut(it.hosts[active])
        await wait_until(lambda: it.state(standby) is VrrpState.MASTER, it.logs, WAIT_S)
        deadline = monotonic_s() + WAIT_S
        while await flows[0].ask(VIP, DNS) is None:
            assert monotonic_s() < deadline, it.logs()
        assert [await flow.ask(VIP, DNS, 3.0) for flow in flows] == before
        await it.fabric.heal(it.hosts[active])
        assert FIXED[active] not in str(before)


async def replicated(it: Lab, host: str, count: int) -> None:
    """Wait until the host's instance knows this many flows."""
    deadline = monotonic_s() + WAIT_S
    while True:
        listed = await run("conntrack", "-L", "-p", "udp", "--dport", str(DNS), netns=it.netns(host))
        if len(listed.splitlines()) >= count:
            return
        assert monotonic_s() < deadline, listed
