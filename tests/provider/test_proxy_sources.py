"""From where a balancer reaches nodes is written on its Service, for whoever believes its PROXY headers."""

import asyncio
import ipaddress
from pathlib import Path

import pytest
from tests.provider.conftest import node
from tests.support.provided import Ground

from vrata.kube.objects import Service
from vrata.kube.sources import SOURCES, Sources, parse_sources
from vrata.provider.annotations import PREFIX
from vrata.provider.call import BALANCING, LBAAS, NETWORK
from vrata.provider.cloud import Cloud

# A provider that is killed leaves connections to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
PROXIED = {PREFIX + "proxy-protocol": "v2"}
NODES_ONLY = frozenset({"10.10.0.20/32", "10.10.0.21/32"})
EXPECTED = Sources(frozenset({"10.10.0.0/24"}), NODES_ONLY)


async def until_told(ground: Ground, expected: Sources) -> None:
    async with asyncio.timeout(90):
        while (told := await sources(ground)) != expected:
            assert told is None or isinstance(told, Sources)
            await asyncio.sleep(0.05)
    await ground.rest()


async def sources(ground: Ground) -> Sources | None:
    """What the Service says; None if it says nothing."""
    text = (await ground.service("web"))["metadata"].get("annotations", {}).get(SOURCES)
    return parse_sources(text) if text else None


async def instances(ground: Ground) -> dict[str, str]:
    """The addresses of the balancer's instances, by port."""
    name = (await ground.balancer("web"))["vip_address"]
    ports = await ground.seen(NETWORK, "/v2.0/ports", "ports")
    return {
        port["id"]: fixed["ip_address"]
        for port in ports
        if port["name"].startswith("octavia-lb-vrrp-")
        and any(pair["ip_address"] == name for pair in port["allowed_address_pairs"])
        for fixed in port["fixed_ips"]
    }


async def test_the_subnet_is_written_before_the_address_and_nodes_are_left_out(ground: Ground) -> None:
    """Clients come once there is an address: whoever believes the balancer must know it by then."""
    assert ground.provider
    seen: list[Service] = []
    ground.provider.services.on_change(lambda _, new: seen.append(new) if new else None)
    await ground.apply("web", annotations=PROXIED, externalTrafficPolicy="Local")
    await ground.served("web")
    await until_told(ground, EXPECTED)
    served = [one for one in seen if one.status.load_balancer.ingress]
    assert served
    assert all(SOURCES in one.metadata.annotations for one in served)

    ground.cloud.calls.clear()
    await ground.kubectl("annotate", "--overwrite", "service", "web", f"{SOURCES}=0.0.0.0/0")
    await until_told(ground, EXPECTED)
    assert ground.cloud.calls == [], "nothing is asked to know it"

    await ground.apply("web", externalTrafficPolicy="Local")  # without the PROXY protocol
    async with asyncio.timeout(90):
        while await sources(ground):
            await asyncio.sleep(0.05)


async def test_instances_of_a_failover_are_believed_before_they_serve(
    ground: Ground, backing: tuple[str, Path | None]
) -> None:
    """New addresses, the same annotation: nobody has to hear of them in time."""
    await ground.apply("web", annotations=PROXIED, externalTrafficPolicy="Local")
    await ground.served("web")
    await until_told(ground, EXPECTED)
    before, balancer = await instances(ground), await ground.balancer("web")
    assert before
    async with Cloud("vrata-admin" if backing[1] else backing[0], backing[1]) as operator:
        await operator.request("PUT", BALANCING, f"{LBAAS}/loadbalancers/{balancer['id']}/failover")
    async with asyncio.timeout(90):
        while not (new := {id_: one for id_, one in (await instances(ground)).items() if id_ not in before}):
            await asyncio.sleep(0.05)
    for address in (*before.values(), *new.values()):
        assert ipaddress.ip_address(address) in ipaddress.ip_network("10.10.0.0/24")
        assert f"{address}/32" not in NODES_ONLY
    assert await sources(ground) == EXPECTED


async def test_nodes_that_come_and_go_are_followed_and_a_restart_writes_what_is_missing(ground: Ground) -> None:
    await ground.apply("web", annotations=PROXIED, externalTrafficPolicy="Local")
    await ground.served("web")
    await until_told(ground, EXPECTED)
    # On its way in: it serves nobody yet, but may run pods.
    body = node("worker-9", "10.10.0.29", ready=False)
    await ground.kubectl("apply", "-f", "-", stdin=body)
    await ground.set_status(body)
    await until_told(ground, Sources(EXPECTED.believed, NODES_ONLY | {"10.10.0.29/32"}))
    await ground.kubectl("delete", "node", "worker-9")
    await until_told(ground, EXPECTED)

    await ground.stop()
    await ground.kubectl("annotate", "service", "web", f"{SOURCES}-")  # as an older version left it
    ground.cloud.calls.clear()
    await ground.start()
    await until_told(ground, EXPECTED)
    assert ground.cloud.writes().total() == 0
