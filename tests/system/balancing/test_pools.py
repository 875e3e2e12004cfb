"""How members are chosen, kept, judged and changed, and who may not come in: real packets through a real pair."""

import asyncio
import contextlib
import socket

import msgspec
import pytest
from tests.support.fabric import wait_until
from tests.support.members import exchange
from tests.system.balancing.ground import (
    PLAIN,
    PROXY,
    SECOND_CLIENT,
    TLS,
    Ground,
    eventually,
    pool,
    web,
)
from tests.system.host.lab import HOSTS, INSTANCES, MEMBERS

from vrata.base.wire import HealthMonitor, Listener, Member
from vrata.haproxy.runtime import RuntimeClient
from vrata.net import ip

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def names(pair: Ground, port: int, times: int = 12, source: str | None = None) -> list[str]:
    """Who answered, one connection a request."""
    client = pair.client(port, source=source)
    return await asyncio.to_thread(lambda: [client.get().seen["name"] for _ in range(times)])


async def test_every_algorithm_reaches_members(pair: Ground) -> None:
    kinds = {81: "ROUND_ROBIN", 82: "LEAST_CONNECTIONS", 83: "SOURCE_IP", 84: "SOURCE_IP_PORT"}
    await pair.serve(
        *(web(port, kind) for port, kind in kinds.items()),
        web(85, "SOURCE_IP_PORT", id="tcp", protocol="TCP"),
        pools=tuple(pool("m1", "m2", id=kind, lb_algorithm=kind) for kind in kinds.values()),
    )
    assert set(await names(pair, 81)) == {"m1", "m2"}
    assert set(await names(pair, 82)) == {"m1", "m2"}
    assert len(set(await names(pair, 83))) == 1
    assert set(await names(pair, 84, 40)) == {"m1", "m2"}
    assert set(await names(pair, 85, 40)) == {"m1", "m2"}

    def on_one_connection() -> set[str]:
        with pair.client(84).connect() as connection:
            return {exchange(connection).seen["name"] for _ in range(6)}

    assert len(await asyncio.to_thread(on_one_connection)) == 1


async def test_weights_share_drain_and_spare(pair: Ground) -> None:
    def members(one: int, two: int, *, backup: bool = False) -> tuple[Member, ...]:
        return (
            Member(id="m1", address=MEMBERS["m1"], protocol_port=PLAIN, weight=one),
            Member(id="m2", address=MEMBERS["m2"], protocol_port=PLAIN, weight=two, backup=backup),
        )

    await pair.serve(web(80), pools=(pool(members=members(192, 64), monitor="TCP"),))
    assert (await names(pair, 80, 40)).count("m1") == 30
    worker = await pair.worker()
    await pair.serve(web(80), pools=(pool(members=members(0, 256), monitor="TCP"),))
    assert set(await names(pair, 80)) == {"m2"}
    await pair.members(m1="DRAINING")
    assert await pair.worker() == worker
    await pair.serve(web(80), pools=(pool(members=members(1, 1, backup=True)),))
    assert set(await names(pair, 80)) == {"m1"}


async def test_persistence_keeps_a_client_at_its_member(pair: Ground) -> None:
    await pair.serve(
        *(web(port, kind) for port, kind in ((81, "SOURCE_IP"), (82, "HTTP_COOKIE"), (83, "APP_COOKIE"))),
        pools=(
            pool("m1", "m2", id="SOURCE_IP", persistence_type="SOURCE_IP"),
            pool("m1", "m2", id="HTTP_COOKIE", persistence_type="HTTP_COOKIE"),
            pool("m1", "m2", id="APP_COOKIE", persistence_type="APP_COOKIE", cookie_name="JSESSIONID"),
        ),
    )
    assert len(set(await names(pair, 81))) == 1
    for port, prefix in ((82, "SRV="), (83, "JSESSIONID=")):
        first = await pair.get(port)
        cookies = first.headers["set-cookie"]
        if not cookies.startswith(prefix):  # HAProxy adds its own after the member's
            raw = await asyncio.to_thread(_cookies, pair, port)
            first_name, cookies = raw
        else:
            first_name = first.seen["name"]
        cookie = cookies.split(";")[0]
        assert cookie.startswith(prefix)
        again = [(await pair.get(port, Cookie=cookie)).seen["name"] for _ in range(6)]
        assert set(again) == {first_name}
    assert set(await names(pair, 82)) == {"m1", "m2"}


def _cookies(pair: Ground, port: int) -> tuple[str, str]:
    with pair.client(port).connect() as connection:
        answer = exchange(connection)
        return answer.seen["name"], answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("monitor", "port"), [("TCP", PLAIN), ("HTTP", PLAIN), ("TLS-HELLO", TLS), ("HTTPS", TLS), ("PING", PLAIN)]
)
async def test_every_monitor_tells_the_living_from_the_dead(pair: Ground, monitor: str, port: int) -> None:
    dead = "10.10.0.99" if monitor == "PING" else MEMBERS["m1"]
    members = (
        Member(id="good", address=MEMBERS["m2"], protocol_port=port),
        Member(id="bad", address=dead, protocol_port=port if monitor == "PING" else 9),
    )
    await pair.serve(web(80, protocol="TCP"), pools=(pool(members=members, monitor=monitor, protocol="TCP"),))
    await pair.members(good="ONLINE", bad="ERROR")


async def test_a_pinged_member_comes_back(pair: Ground) -> None:
    inside, address = pair.lab.inside, "10.10.0.98"
    await pair.serve(
        web(80),
        pools=(
            pool(
                members=(
                    Member(id="p1", address=MEMBERS["m1"], protocol_port=PLAIN),
                    Member(id="p2", address=MEMBERS["m2"], protocol_port=PLAIN, monitor_address=address),
                ),
                monitor="PING",
            ),
        ),
    )
    await pair.members(p1="ONLINE", p2="ERROR")
    assert set(await names(pair, 80)) == {"m1"}
    await ip.batch([f"address add {address}/24 dev tenant"], netns=inside.netns)
    try:
        await pair.members(p1="ONLINE", p2="ONLINE")
        assert set(await names(pair, 80)) == {"m1", "m2"}
    finally:
        await ip.batch([f"address delete {address}/24 dev tenant"], netns=inside.netns)


async def test_members_keep_the_state_of_their_pings_while_the_agent_is_away(pair: Ground) -> None:
    members = (
        Member(id="good", address=MEMBERS["m1"], protocol_port=PLAIN),
        Member(id="bad", address="10.10.0.99", protocol_port=PLAIN),
    )
    await pair.serve(web(80), pools=(pool(members=members, monitor="PING"),))
    await pair.members(good="ONLINE", bad="ERROR")
    active = pair.lab.active()
    await pair.lab.kill_agent(active)
    try:
        runtime = RuntimeClient(pair.lab.stats_socket(active))

        async def agent_checks() -> dict[str, tuple[str, str]]:
            rows = await runtime.statistics()
            return {
                row["svname"]: (row["status"], row["agent_status"]) for row in rows if row["pxname"].startswith("pool:")
            }

        # Nobody answers any more: HAProxy has asked and says so, and judges nobody by it.
        await eventually(
            lambda: asyncio.run(agent_checks()), lambda seen: seen["good"][1] == "L4CON", "the question fails"
        )
        assert {name: seen[0] for name, seen in (await agent_checks()).items() if name in ("good", "bad")} == {
            "good": "no check",
            "bad": "DOWN (agent)",
        }
        assert set(await names(pair, 80, 4)) == {"m1"}
    finally:
        await pair.lab.start_agent(active)


async def test_an_http_monitor_asks_with_version_and_name_and_wants_its_codes(pair: Ground) -> None:
    asks = HealthMonitor(
        id="hm",
        type="HTTP",
        delay=1,
        timeout=1,
        http_version=1.1,
        domain_name="check.example",
        expected_codes="200-204",
    )
    wants = msgspec.structs.replace(asks, expected_codes="404")
    good = Member(id="good", address=MEMBERS["m1"], protocol_port=PLAIN)
    bad = Member(id="bad", address=MEMBERS["m1"], protocol_port=PLAIN)
    await pair.serve(
        web(81, "asks"),
        web(82, "wants"),
        pools=(
            pool(id="asks", members=(good,), healthmonitor=asks),
            pool(id="wants", members=(bad,), healthmonitor=wants),
        ),
    )
    await pair.members(good="ONLINE", bad="ERROR")


async def test_proxy_headers_carry_the_client_to_members(pair: Ground) -> None:
    await pair.serve(
        web(81, "v1"),
        web(82, "v2", protocol="TCP"),
        web(83, "plain", protocol="TCP"),
        pools=(
            pool(id="v1", port=PROXY, protocol="PROXY"),
            pool(id="v2", port=PROXY, protocol="PROXYV2", monitor="TCP"),
            pool(id="plain", protocol="TCP"),
        ),
    )
    assert (await pair.get(81)).seen["proxy"] == "v1 10.10.0.50"
    assert (await pair.get(82)).seen["proxy"] == "v2 10.10.0.50"
    assert (await pair.get(83)).seen["proxy"] == ""


async def test_only_allowed_networks_come_in(pair: Ground) -> None:
    await pair.serve(
        web(80, allowed_cidrs=(f"{SECOND_CLIENT}/32", "192.0.2.0/24")),
        web(81, protocol="TCP", allowed_cidrs=(f"{SECOND_CLIENT}/32",)),
        pools=(pool(),),
    )
    for port in (80, 81):
        assert set(await names(pair, port, 2, SECOND_CLIENT)) == {"m1"}
        with pytest.raises(OSError, match=r"reset|closed"):
            await pair.get(port)


async def test_a_connection_beyond_the_limit_waits_until_another_ends(pair: Ground) -> None:
    await pair.serve(web(80, connection_limit=2), pools=(pool(),))

    def crowd() -> tuple[bool, int]:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(pair.client(80).connect()) for _ in range(2)]
            assert [exchange(one).status for one in held] == [200, 200]
            third = stack.enter_context(pair.client(80).connect())
            third.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            third.settimeout(0.5)
            try:
                refused = not third.recv(1)
            except TimeoutError:
                refused = True
            third.settimeout(30.0)
            held[0].close()
            return refused, len(third.recv(4096))

    refused, answered = await asyncio.to_thread(crowd)
    assert refused
    assert answered


async def test_a_silent_client_is_left_after_its_timeout(pair: Ground) -> None:
    await pair.serve(web(80, protocol="TCP", timeout_client_data=200, timeout_member_data=200), pools=(pool(),))

    def wait_for_the_end() -> bytes:
        with pair.client(80).connect() as connection:
            return connection.recv(1)

    assert await asyncio.to_thread(wait_for_the_end) == b""


async def test_an_exporter_listener_answers_metrics_and_nothing_else(pair: Ground) -> None:
    await pair.serve(web(80), Listener(id="metrics", protocol="PROMETHEUS", protocol_port=9090), pools=(pool(),))
    await pair.get(80)
    answer = await pair.get(9090, "/metrics")
    assert 'haproxy_frontend_http_requests_total{proxy="listener-80"} 1' in answer.body

    def counted() -> bool:
        seen = pair.lab.cloud.seen(pair.lab.active(), INSTANCES[pair.lab.active()])
        return bool(seen and (found := seen.listeners.get("listener-80")) and found.total_connections == 1)

    await wait_until(counted, lambda: f"statistics of the listener; {pair.lab.cloud.reports}")
    assert (await pair.get(9090, "/")).status == 404


async def test_a_member_moves_without_a_reload(pair: Ground) -> None:
    def at(name: str) -> tuple[Member, ...]:
        return (Member(id="mover", address=MEMBERS[name], protocol_port=PLAIN),)

    await pair.serve(web(80), pools=(pool(members=at("m1"), monitor="TCP"),))
    worker = await pair.worker()
    await pair.serve(web(80), pools=(pool(members=at("m2"), monitor="TCP"),))
    assert set(await names(pair, 80, 4)) == {"m2"}
    assert await pair.worker() == worker


async def test_a_removed_member_goes_when_its_last_connection_ends(pair: Ground) -> None:
    await pair.serve(web(80, protocol="TCP"), pools=(pool("m1", "m2", protocol="TCP"),))
    held: list[socket.socket] = []
    try:
        while {"m1", "m2"} - {exchange(one).seen["name"] for one in held}:
            held.append(await asyncio.to_thread(pair.client(80).connect))
        await pair.serve(web(80, protocol="TCP"), pools=(pool("m2", protocol="TCP"),))
        backend = "pool:listener-80"
        assert (backend, "m1") in await pair.runtime().servers()  # held, and closed to everybody else
        assert set(await names(pair, 80, 4)) == {"m2"}
    finally:
        for one in held:
            one.close()
    await eventually(
        lambda: asyncio.run(pair.runtime().servers()), lambda found: found == {(backend, "m2")}, "m1 is deleted"
    )


async def test_both_instances_run_the_wanted_threads_and_ceiling(pair: Ground) -> None:
    await pair.serve(web(80), pools=(pool(),))
    for host in HOSTS:
        text = (pair.lab.instance_dir(host) / "haproxy.cfg").read_text()
        assert "nbthread 1" in text
