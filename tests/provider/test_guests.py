"""What somebody who may annotate a Service cannot do to others: their load balancers, addresses and machines."""

import pytest
from tests.support.provided import NODES, Ground

from vrata.provider.annotations import ALLOWS, BALANCER_ID, INTERNAL, PORT_ID
from vrata.provider.call import NETWORK


@pytest.mark.parametrize(
    ("owner", "guest", "spec", "words"),
    [
        ({}, {INTERNAL: "true"}, {}, ("has a public address",)),
        ({INTERNAL: "true"}, {}, {}, ("has no public address",)),
        ({}, {}, {"loadBalancerIP": "203.0.113.200"}, ("spec.loadBalancerIP", "203.0.113.200", "remove the field")),
        ({}, {}, {"ports": [{"port": 80}]}, ("spec.ports", "80", "another port")),
    ],
)
async def test_a_guest_changes_nothing_of_anothers_balancer(
    ground: Ground, owner: dict[str, str], guest: dict[str, str], spec: dict[str, object], words: tuple[str, ...]
) -> None:
    await ground.apply("web", annotations=owner)
    await ground.served("web")
    shared, floating = await ground.balancer("web"), await ground.floating()
    annotations = {**guest, BALANCER_ID: shared["id"]}
    await ground.apply("guest", annotations=annotations, **({"ports": [{"port": 81}]} | spec))
    await ground.told("guest", *words)
    assert await ground.floating() == floating
    assert len(await ground.read("listeners", loadbalancer_id=shared["id"])) == 1
    await ground.kubectl("delete", "service", "guest")
    assert await ground.floating() == floating
    assert (await ground.balancer("web"))["id"] == shared["id"]


async def test_the_port_of_a_machine_does_not_become_a_vip(ground: Ground) -> None:
    rows = await ground.seen(NETWORK, "/v2.0/ports", "ports")
    port = next(one for one in rows if one["fixed_ips"][0]["ip_address"] == NODES["worker-0"])
    body = {"port": {"device_id": "worker-0", "device_owner": "compute:nova"}}
    await ground.by_hand("PUT", NETWORK, f"/v2.0/ports/{port['id']}", body)
    try:
        await ground.apply("web", annotations={PORT_ID: port["id"]})
        await ground.told("web", PORT_ID, port["id"], "compute:nova", "nothing uses")
        assert await ground.balancers("web") == []
    finally:
        free = {"port": {"device_id": "", "device_owner": ""}}
        await ground.by_hand("PUT", NETWORK, f"/v2.0/ports/{port['id']}", free)


async def test_a_restricted_annotation_needs_a_label_of_its_namespace(ground: Ground) -> None:
    await ground.apply("web")
    await ground.served("web")
    shared = await ground.balancer("web")
    await ground.stop()
    await ground.start(restrict_annotations=True)
    await ground.apply("guest", annotations={BALANCER_ID: shared["id"]}, ports=[{"port": 81}])
    await ground.told("guest", BALANCER_ID, ALLOWS)
    await ground.kubectl("label", "namespace", ground.namespace, f"{ALLOWS}=true")
    await ground.served("guest")  # refused with backoff, so the label is seen
    await ground.served("web")
