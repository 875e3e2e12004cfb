"""The node proxy's ruleset with real packets: who answers, who is refused, whose address the pod sees."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.system.nodeport.yard import (
    CLIENT,
    CLIENTS,
    CLUSTER_IP,
    NODE,
    NODE_PODS,
    NODE_PORT,
    POD_PORT,
    PODS,
    PORT,
    Yard,
    view,
    yard,
)

from vrata.net.netns import in_namespace
from vrata.nodeport.model import Target

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Yard]:
    async with yard() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared: Yard) -> AsyncIterator[Yard]:
    """The node as after boot, for each test."""
    yield shared
    await shared.forget()


async def many(site: Yard, address: str, port: int, times: int = 24) -> set[str]:
    """The pods that answered one client that connects anew each time."""
    answers = [await site.ask(site.client, address, port) for _ in range(times)]
    return {answer.split()[0] for answer in answers}


async def test_a_cluster_address_spreads_over_every_endpoint(site: Yard) -> None:
    await site.serve(view(*PODS))
    assert await many(site, CLUSTER_IP, PORT) == set(PODS)


async def test_the_node_itself_reaches_a_cluster_address(site: Yard) -> None:
    await site.serve(view(PODS[0]))
    assert (await site.ask(site.node, CLUSTER_IP, PORT)).startswith(PODS[0])


async def test_a_pod_reaches_a_neighbour_with_its_own_address(site: Yard) -> None:
    await site.serve(view(PODS[1]))
    assert await site.ask(site.pods[PODS[0]], CLUSTER_IP, PORT) == f"{PODS[1]} {PODS[0]}"


async def test_a_pod_reaches_itself_through_its_service(site: Yard) -> None:
    await site.serve(view(PODS[0]))
    assert await site.ask(site.pods[PODS[0]], CLUSTER_IP, PORT) == f"{PODS[0]} {NODE_PODS}"
    await site.serve(view(PODS[0], protocol="udp"))
    assert await site.ask(site.pods[PODS[0]], CLUSTER_IP, PORT, udp=True) == f"{PODS[0]} {NODE_PODS}"


async def test_a_node_port_answers_on_every_address_of_the_node_and_from_the_node(site: Yard) -> None:
    await site.serve(view(PODS[0]))
    assert await site.ask(site.client, NODE, NODE_PORT) == f"{PODS[0]} {NODE_PODS}"
    assert (await site.ask(site.node, NODE, NODE_PORT)).startswith(PODS[0])
    assert (await site.ask(site.pods[PODS[1]], NODE_PODS, NODE_PORT)).startswith(PODS[0])


async def test_a_udp_node_port_answers_from_the_address_that_was_asked(site: Yard) -> None:
    await site.serve(view(PODS[0], protocol="udp"))
    # The client's socket is connected: an answer from any other address or port would not reach it.
    assert await site.ask(site.client, NODE, NODE_PORT, udp=True) == f"{PODS[0]} {NODE_PODS}"
    assert await site.ask(site.client, CLUSTER_IP, PORT, udp=True) == f"{PODS[0]} {CLIENT}"


async def test_one_number_serves_tcp_and_udp_side_by_side(site: Yard) -> None:
    await site.serve(view(PODS[0]), view(PODS[1], protocol="udp", name="dns"))
    assert (await site.ask(site.client, NODE, NODE_PORT)).startswith(PODS[0])
    assert (await site.ask(site.client, NODE, NODE_PORT, udp=True)).startswith(PODS[1])


@pytest.mark.parametrize("udp", [False, True])
async def test_a_service_without_endpoints_refuses_at_once(site: Yard, *, udp: bool) -> None:
    await site.serve(view(protocol="udp" if udp else "tcp"))
    for machine, address, port in (
        (site.client, CLUSTER_IP, PORT),
        (site.client, NODE, NODE_PORT),
        (site.node, CLUSTER_IP, PORT),
        (site.pods[PODS[0]], CLUSTER_IP, PORT),
    ):
        assert await site.ask(machine, address, port, udp=udp) == "refused", (machine.name, address)


async def test_a_burst_of_clients_is_refused_to_the_last(site: Yard) -> None:
    await site.serve(view())
    assert {await site.ask(site.client, CLUSTER_IP, PORT) for _ in range(30)} == {"refused"}


async def test_the_local_policy_keeps_the_clients_address(site: Yard) -> None:
    await site.serve(view(*PODS, external=(Target(PODS[0], POD_PORT),), external_local=True))
    for _ in range(8):
        assert await site.ask(site.client, NODE, NODE_PORT) == f"{PODS[0]} {CLIENT}"
    assert await many(site, CLUSTER_IP, PORT) == set(PODS)


async def test_the_local_policy_without_endpoint_here_is_silent_outside_and_open_to_the_node(site: Yard) -> None:
    await site.serve(view(*PODS, external=(), external_local=True))
    assert await site.ask(site.client, NODE, NODE_PORT) == "silence"
    assert (await site.ask(site.node, NODE, NODE_PORT)).split()[0] in PODS
    await site.serve(view(external_local=True))
    assert await site.ask(site.client, NODE, NODE_PORT) == "silence"


async def test_affinity_keeps_each_client_with_its_endpoint(site: Yard) -> None:
    await site.serve(view(*PODS, affinity_s=60))
    chosen = {}
    for client in CLIENTS:
        chosen[client] = (await site.ask(site.client, CLUSTER_IP, PORT, source=client)).split()[0]
    assert len(set(chosen.values())) > 1
    for client, pod in chosen.items():
        for _ in range(4):
            assert (await site.ask(site.client, CLUSTER_IP, PORT, source=client)).split()[0] == pod


async def test_affinity_survives_another_endpoint_and_moves_on_when_its_own_goes(site: Yard) -> None:
    await site.serve(view(*PODS[:2], affinity_s=60))
    pod = (await site.ask(site.client, CLUSTER_IP, PORT)).split()[0]
    await site.serve(view(*PODS, affinity_s=60))
    assert await many(site, CLUSTER_IP, PORT, 8) == {pod}
    rest = [other for other in PODS if other != pod]
    await site.serve(view(*rest, affinity_s=60))
    (moved,) = await many(site, CLUSTER_IP, PORT, 8)
    assert moved in rest


async def test_open_connections_survive_changes_and_new_ones_follow_them(site: Yard) -> None:
    await site.serve(view(PODS[0]))

    def connect(address: str, port: int) -> socket.socket:
        return in_namespace(site.client.netns, lambda: socket.create_connection((address, port), 2))

    held = [connect(CLUSTER_IP, PORT), connect(NODE, NODE_PORT)]
    try:
        for endpoints in ((PODS[0], PODS[1]), (PODS[1],), ()):
            await site.serve(view(*endpoints))
            for connection in held:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                answer = await asyncio.to_thread(connection.recv, 4096)
                assert PODS[0].encode() in answer
        assert await site.ask(site.client, CLUSTER_IP, PORT) == "refused"
        await site.serve(view(PODS[2]))
        assert (await site.ask(site.client, CLUSTER_IP, PORT)).startswith(PODS[2])
    finally:
        for connection in held:
            connection.close()


async def test_a_change_names_only_what_changed(site: Yard) -> None:
    others = [
        view(PODS[0], service=f"default/s{n}", cluster_ips=(f"10.96.1.{n}",), node_port=31000 + n) for n in range(50)
    ]
    await site.serve(view(PODS[0]), *others)
    text = await site.serve(view(PODS[1]), *others)
    assert len(text.splitlines()) < 10
    assert (await site.ask(site.client, CLUSTER_IP, PORT)).startswith(PODS[1])
    assert (await site.ask(site.client, "10.96.1.7", PORT)).startswith(PODS[0])


async def test_what_no_service_claims_is_left_alone(site: Yard) -> None:
    await site.serve(view(PODS[0]))
    assert await site.ask(site.client, NODE, 30081) == "refused"  # the kernel's own answer
    assert await site.ask(site.client, CLUSTER_IP, 81) != "refused"
