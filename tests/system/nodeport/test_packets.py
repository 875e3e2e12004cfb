"""The node proxy's ruleset with real packets: who answers, who is refused, whose address the pod sees."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from tests.system.nodeport.yard import (
    AROUND,
    CLIENT,
    CLIENT_6,
    CLIENTS,
    CLUSTER_IP,
    CLUSTER_IP_6,
    NODE,
    NODE_6,
    NODE_PODS,
    NODE_PODS_6,
    NODE_PORT,
    POD_PORT,
    PODS,
    PODS_6,
    PORT,
    Yard,
    view,
    yard,
)

from vrata.net.command import run
from vrata.net.conntrack import forget_stale_flows
from vrata.net.flows import Target
from vrata.net.netns import in_namespace
from vrata.nodeport import kernel
from vrata.nodeport.model import TABLE, PortView
from vrata.nodeport.plan import frontends_of
from vrata.nodeport.render import render_rules

T = TypeVar("T")
OUTSIDE = "10.96.200.1"  # routed to the node, as an external address would be

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


async def test_sctp_is_served_as_tcp_is(site: Yard) -> None:
    await site.serve(view(*PODS, protocol="sctp"))
    seen = {(await site.associate(site.client, CLUSTER_IP, PORT)).split()[0] for _ in range(24)}
    assert seen == set(PODS)
    await site.serve(view(PODS[0], protocol="sctp"), view(PODS[1]))  # one number for two protocols
    assert await site.associate(site.client, CLUSTER_IP, PORT) == f"{PODS[0]} {CLIENT}"
    assert await site.associate(site.client, NODE, NODE_PORT) == f"{PODS[0]} {NODE_PODS}"
    assert (await site.associate(site.node, CLUSTER_IP, PORT)).startswith(PODS[0])
    assert await site.associate(site.pods[PODS[0]], CLUSTER_IP, PORT) == f"{PODS[0]} {NODE_PODS}"
    assert (await site.ask(site.client, CLUSTER_IP, PORT)).startswith(PODS[1])
    await site.serve(view(protocol="sctp"))
    assert await site.associate(site.client, CLUSTER_IP, PORT) == "refused"
    assert await site.associate(site.client, NODE, NODE_PORT) == "refused"


async def test_sctp_over_ipv6_keeps_the_clients_address_under_the_local_policy(site: Yard) -> None:
    targets = (Target(PODS_6[0], POD_PORT),)
    local = {"internal": targets, "external": targets, "everywhere": targets, "external_local": True}
    await site.serve(view(protocol="sctp", cluster_ips=(CLUSTER_IP_6,), family="ip6", **local))
    assert await site.associate(site.client, NODE_6, NODE_PORT) == f"{PODS_6[0]} {CLIENT_6}"


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


@pytest.mark.parametrize("udp", [False, True])
async def test_the_local_policy_without_endpoint_here_refuses_outside_and_is_open_to_the_node(
    site: Yard, *, udp: bool
) -> None:
    """Silence would cost a load balancer that has not noticed yet a time-out, and its client the request."""
    protocol = "udp" if udp else "tcp"
    await site.serve(view(*PODS, external=(), external_local=True, external_ips=(OUTSIDE,), protocol=protocol))
    assert await site.ask(site.client, NODE, NODE_PORT, udp=udp) == "refused"
    assert await site.ask(site.client, OUTSIDE, PORT, udp=udp) == "refused"
    assert (await site.ask(site.node, OUTSIDE, PORT, udp=udp)).split()[0] in PODS
    await run("conntrack", "-F", netns=site.node.netns)
    await site.serve(view(*PODS, external=(), external_local=True))
    assert await site.ask(site.client, NODE, NODE_PORT) == "refused"
    assert (await site.ask(site.node, NODE, NODE_PORT)).split()[0] in PODS
    await site.serve(view(external_local=True))
    assert await site.ask(site.client, NODE, NODE_PORT) == "refused"  # there is none anywhere


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
    assert await site.ask(site.client, "10.96.77.77", PORT) != "refused"


@pytest.mark.parametrize("udp", [False, True])
async def test_a_port_that_a_service_does_not_have_is_refused(site: Yard, *, udp: bool) -> None:
    await site.serve(view(PODS[0]))
    for machine in (site.client, site.node, site.pods[PODS[1]]):
        assert await site.ask(machine, CLUSTER_IP, 81, udp=udp) == "refused", machine.name


@pytest.mark.parametrize("kind", ["external_ips", "balancer_ips"])
async def test_an_external_address_answers_as_a_node_port_does(site: Yard, kind: str) -> None:
    await site.serve(view(PODS[0], **{kind: (OUTSIDE,)}))
    assert await site.ask(site.client, OUTSIDE, PORT) == f"{PODS[0]} {NODE_PODS}"
    assert (await site.ask(site.node, OUTSIDE, PORT)).startswith(PODS[0])
    everywhere = tuple(Target(pod, POD_PORT) for pod in PODS)
    local = view(*PODS, external=everywhere[:1], everywhere=everywhere, external_local=True, **{kind: (OUTSIDE,)})
    await site.serve(local)
    assert await many(site, OUTSIDE, PORT, 6) == {PODS[0]}
    assert await site.ask(site.client, OUTSIDE, PORT) == f"{PODS[0]} {CLIENT}"
    await site.serve(view(**{kind: (OUTSIDE,)}))
    assert await site.ask(site.client, OUTSIDE, PORT) == "refused"


async def test_only_its_source_ranges_reach_a_balancers_address(site: Yard) -> None:
    await site.serve(view(PODS[0], balancer_ips=(OUTSIDE,), source_ranges=(f"{CLIENTS[1]}/32", "2001:db8::/32")))
    assert await site.ask(site.client, OUTSIDE, PORT, source=CLIENTS[0]) == "silence"
    assert (await site.ask(site.client, OUTSIDE, PORT, source=CLIENTS[1])).startswith(PODS[0])
    assert await site.ask(site.node, OUTSIDE, PORT) == "silence"  # its address is in no range
    await run("ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo", netns=site.node.netns)
    try:
        assert (await site.ask(site.node, OUTSIDE, PORT)).startswith(PODS[0])
    finally:
        await run("ip", "address", "delete", f"{OUTSIDE}/32", "dev", "lo", netns=site.node.netns)
    assert (await site.ask(site.client, NODE, NODE_PORT)).startswith(PODS[0])
    await site.serve(view(PODS[0], balancer_ips=(OUTSIDE,), source_ranges=("2001:db8::/32",)))
    assert await site.ask(site.client, OUTSIDE, PORT) == "silence"


async def test_the_local_policy_is_not_for_the_nodes_own_pods(site: Yard) -> None:
    """A pod that asks a node port is answered by endpoints elsewhere, with its own address (kube-proxy's short circuit)."""
    everywhere = (Target(PODS[1], POD_PORT),)
    await site.serve(view(PODS[1], external=(), everywhere=everywhere, external_local=True))
    assert await site.ask(site.pods[PODS[0]], NODE, NODE_PORT) == f"{PODS[1]} {PODS[0]}"
    assert await site.ask(site.client, NODE, NODE_PORT) == "refused"


async def test_both_policies_local_and_no_endpoint_here(site: Yard) -> None:
    everywhere = (Target(PODS[1], POD_PORT),)
    await site.serve(view(everywhere=everywhere, external_local=True))
    assert (await site.ask(site.node, NODE, NODE_PORT)).startswith(PODS[1])
    assert await site.ask(site.node, CLUSTER_IP, PORT) != "refused"  # silence: other nodes have endpoints
    assert await site.ask(site.client, CLUSTER_IP, PORT) == "silence"


async def test_affinity_outlives_a_replacement_of_the_rules_and_a_change_of_its_time(site: Yard) -> None:
    await site.serve(view(*PODS, affinity_s=60))
    chosen = {one: (await site.ask(site.client, CLUSTER_IP, PORT, source=one)).split()[0] for one in CLIENTS}
    await in_node(site, lambda: kernel.replace([site.rules], AROUND))
    await site.serve(view(*PODS, affinity_s=90))
    for client, pod in chosen.items():
        assert (await site.ask(site.client, CLUSTER_IP, PORT, source=client)).startswith(pod)
    await site.serve(view(*PODS, affinity_s=1))
    await site.ask(site.client, CLUSTER_IP, PORT)
    listed = await run("nft", "-j", "list", "table", "ip", TABLE, netns=site.node.netns)
    assert '"timeout": 1' in listed


async def test_what_somebody_took_away_is_noticed_and_put_back(site: Yard) -> None:
    """After `nft flush ruleset` nothing answered for as long as the proxy ran."""
    await site.serve(view(*PODS, affinity_s=60), view(PODS[0], name="b", node_port=30090, cluster_ips=("10.96.0.6",)))
    wanted = kernel.expected([site.rules], AROUND)
    own = next(name for _, name in site.rules.chains if name.startswith("ep-"))
    for harm in ("flush ruleset", f"flush chain ip {TABLE} dispatch", f"flush chain ip {TABLE} {own}",
                 f"delete table ip6 {TABLE}", f"flush chain ip {TABLE} prerouting"):  # fmt: skip
        assert kernel.is_whole(await in_node(site, kernel.look), wanted)
        await run("nft", harm, netns=site.node.netns)
        assert not kernel.is_whole(await in_node(site, kernel.look), wanted), harm
        await in_node(site, lambda: kernel.replace([site.rules], AROUND))
        assert (await site.ask(site.client, CLUSTER_IP, PORT)).split()[0] in PODS, harm
        assert (await site.ask(site.client, NODE, 30090)).startswith(PODS[0])


@pytest.mark.parametrize("key", sorted(kernel.FORWARDING))
async def test_forwarding_that_somebody_ended_goes_on(site: Yard, key: str) -> None:
    """It was switched on at the start, and never looked at again: no NodePort answered any more."""
    await site.serve(view(*PODS))
    await run("sysctl", "-qw", f"{key}=0", netns=site.node.netns)
    looked = partial(asyncio.to_thread, in_namespace, site.node.netns, kernel.restore_forwarding)
    assert await looked() == {key: "0"}
    assert await looked() == {}
    assert (await site.ask(site.client, NODE, NODE_PORT)).split()[0] in PODS


async def test_a_replacement_leaves_nothing_of_services_that_are_gone(site: Yard) -> None:
    await site.serve(view(*PODS, affinity_s=60))
    site.rules = render_rules([view(PODS[0])])
    await in_node(site, lambda: kernel.replace([site.rules], AROUND))
    present = await in_node(site, kernel.look)
    assert present == kernel.expected([site.rules], AROUND)
    assert await site.ask(site.client, NODE, NODE_PORT) == f"{PODS[0]} {NODE_PODS}"


async def test_a_table_of_another_program_version_is_made_anew(site: Yard) -> None:
    old = f"delete table ip {TABLE}; add table ip {TABLE}; add map ip {TABLE} services {{ type ipv4_addr : verdict; }}"
    await run("nft", old, netns=site.node.netns)
    site.rules = render_rules([view(PODS[0])])
    await in_node(site, lambda: kernel.replace([site.rules], AROUND))
    assert (await site.ask(site.client, CLUSTER_IP, PORT)).startswith(PODS[0])


async def in_node(site: Yard, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the proxy does in its node."""
    return await asyncio.to_thread(in_namespace, site.node.netns, lambda: asyncio.run(work()))


async def test_strangers_are_masqueraded_at_a_cluster_address(site: Yard) -> None:
    await site.serve(view(PODS[0]))
    assert await site.ask(site.client, CLUSTER_IP, PORT) == f"{PODS[0]} {CLIENT}"
    around = replace(AROUND, cluster=("10.20.0.0/16",))
    await in_node(site, lambda: kernel.replace([site.rules], around))
    assert await site.ask(site.client, CLUSTER_IP, PORT) == f"{PODS[0]} {NODE_PODS}"
    assert await site.ask(site.pods[PODS[1]], CLUSTER_IP, PORT) == f"{PODS[0]} {PODS[1]}"
    around = replace(AROUND, node_ports_on=("10.20.0.0/24",))
    await in_node(site, lambda: kernel.replace([site.rules], around))
    assert await site.ask(site.client, NODE, NODE_PORT) == "refused"
    assert (await site.ask(site.pods[PODS[1]], NODE_PODS, NODE_PORT)).startswith(PODS[0])
    await in_node(site, lambda: kernel.replace([site.rules], AROUND))


def view_6(*pods: str, **changes: Any) -> PortView:
    return view(*pods, cluster_ips=(CLUSTER_IP_6,), family="ip6", **changes)


@pytest.mark.parametrize("udp", [False, True])
async def test_ipv6_is_served_as_ipv4_is(site: Yard, *, udp: bool) -> None:
    """Cluster addresses were unreachable and node ports refused."""
    protocol, pod = "udp" if udp else "tcp", PODS_6[0]
    await site.serve(view(PODS[0], protocol=protocol), view_6(pod, protocol=protocol))
    assert await site.ask(site.client, CLUSTER_IP_6, PORT, udp=udp) == f"{pod} {CLIENT_6}"
    assert await site.ask(site.client, NODE_6, NODE_PORT, udp=udp) == f"{pod} {NODE_PODS_6}"
    assert await site.ask(site.pods[PODS[0]], CLUSTER_IP_6, PORT, udp=udp) == f"{pod} {NODE_PODS_6}"
    assert await site.ask(site.node, CLUSTER_IP_6, 81, udp=udp) == "refused"
    assert (await site.ask(site.client, CLUSTER_IP, PORT, udp=udp)).startswith(PODS[0])
    await site.serve(view_6(*PODS_6, protocol=protocol, affinity_s=60))
    [chosen] = {(await site.ask(site.client, CLUSTER_IP_6, PORT, udp=udp)).split()[0] for _ in range(6)}
    assert chosen in PODS_6
    await site.serve(view_6(protocol=protocol))
    await in_node(site, lambda: forget_stale_flows(frontends_of([view_6(protocol=protocol)]), frozenset({NODE_6})))
    assert await site.ask(site.client, CLUSTER_IP_6, PORT, udp=udp) == "refused"
    assert await site.ask(site.client, NODE_6, NODE_PORT, udp=udp) == "refused"


async def test_udp_flows_are_compared_with_what_should_be(site: Yard) -> None:
    """A sender with a fixed port never met a pod again after the Service had been scaled to nothing and back."""

    async def ask() -> str:
        return await site.ask(site.client, CLUSTER_IP, PORT, udp=True)

    async def compare(*now: PortView, gone: tuple[PortView, ...] = ()) -> None:
        await in_node(site, lambda: forget_stale_flows(frontends_of(now, gone), frozenset({NODE, NODE_PODS})))

    first, second, nobody = (view(*pods, protocol="udp") for pods in ((PODS[0],), (PODS[1],), ()))
    await site.serve(first)
    assert (await ask()).startswith(PODS[0])
    await site.serve(second)
    assert (await ask()).startswith(PODS[0])  # the flow goes on with the endpoint it has
    ending = view(PODS[1], protocol="udp", alive=frozenset({Target(PODS[0], POD_PORT)}))
    await compare(ending)
    assert (await ask()).startswith(PODS[0])  # which ends, but still serves
    await compare(second)
    assert (await ask()).startswith(PODS[1])
    await site.serve()
    await compare(gone=(second,))
    assert await ask() != f"{PODS[1]} {CLIENT}"  # no rules at all: the kernel remembers a flow to nobody
    await site.serve(first)
    await compare(first)
    assert (await ask()).startswith(PODS[0])
    await site.serve(nobody)
    await compare(nobody)
    assert await ask() == "refused"
    await site.serve(first)
    await compare(first)
    assert (await ask()).startswith(PODS[0])
