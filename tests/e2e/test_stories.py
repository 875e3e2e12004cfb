"""The README's stories, through kubectl: an address for a Service, an internal one, many names behind one balancer."""

import json

import pytest

from vrata.net.command import CommandFailed
from vrata.sandbox.demo import story
from vrata.sandbox.demo.manifests import echo_deployment, ingress, ingress_controller, service
from vrata.sandbox.demo.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_nodes_are_private_until_a_floating_ip_says_otherwise(stage: Stage) -> None:
    await story.nodes_are_private(stage)


async def test_a_service_gets_a_public_address_and_gives_it_back(stage: Stage) -> None:
    await stage.apply(echo_deployment("shop"), service("shop", "LoadBalancer"))
    address = await stage.address_of("shop")
    await stage.until_answers("client", f"http://{address}/")
    await stage.kubectl("delete", "service", "shop", "--timeout=90s")
    async with stage.admin() as cloud:
        assert not await cloud.find("network", "/v2.0/floatingips", "floatingips", floating_ip_address=address)
    status, _ = await stage.curl("client", f"http://{address}/")
    assert status == 0


async def test_the_annotation_makes_an_address_internal(stage: Stage) -> None:
    await story.internal_address(stage)


async def test_a_new_port_of_a_service_opens_on_the_same_address(stage: Stage) -> None:
    await stage.apply(echo_deployment("grow"), service("grow", "LoadBalancer"))
    address = await stage.address_of("grow")
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "alt", "port": 8000, "targetPort": "httpn"}]
    await stage.apply(service("grow", "LoadBalancer", ports=ports))
    await stage.until_answers("client", f"http://{address}:8000/")
    await stage.until_answers("client", f"http://{address}/")
    assert await stage.address_of("grow") == address


async def test_an_internal_service_can_become_public_and_back(stage: Stage) -> None:
    annotation = "service.beta.kubernetes.io/openstack-internal-load-balancer"
    await stage.apply(echo_deployment("turn"), service("turn", "LoadBalancer"))
    public = await stage.address_of("turn")
    assert public.startswith("203.0.113.")
    await stage.kubectl("annotate", "service", "turn", f"{annotation}=true")

    async def internal() -> bool:
        return (await stage.address_of("turn")).startswith("10.10.0.")

    await stage.wait("the address is internal", internal)

    async def silent() -> bool:
        status, _ = await stage.curl("client", f"http://{public}/")
        return status == 0

    await stage.wait("the public address answers no more", silent)


async def test_one_balancer_serves_many_names(stage: Stage) -> None:
    await story.one_balancer_for_many_names(stage)


async def test_a_rolling_update_fails_no_request(stage: Stage) -> None:
    await story.rolling_update_under_load(stage)
    figure = next(entry for entry in stage.figures if entry.id == "failed_requests_rolling_update")
    assert figure.value == 0


async def test_an_unknown_ingress_class_is_told_on_the_ingress(stage: Stage) -> None:
    await stage.apply(ingress_controller())
    stranger = ingress("stranger", {"x.example": "red"})
    stranger["spec"]["ingressClassName"] = "nginx"
    await stage.apply(stranger)

    async def told() -> bool:
        events = await stage.kubectl("events", "--for", "ingress/stranger")
        return "IngressClassNotFound" in events and "use one of" in events

    await stage.wait("an event says so", told)


async def test_a_malformed_manifest_gets_a_clear_error(stage: Stage) -> None:
    bad = service("bad", "LoadBalancer")
    bad["spec"]["ports"][0]["port"] = 70000
    with pytest.raises(CommandFailed, match=r"spec\.ports\[0\]\.port: Invalid value: 70000"):
        await stage.apply(bad)


async def test_a_node_port_that_is_taken_is_refused(stage: Stage) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 31999}]
    await stage.apply(service("first", "NodePort", ports=ports))
    with pytest.raises(CommandFailed, match="31999: provided port is already allocated"):
        await stage.apply(service("second", "NodePort", ports=ports))


async def test_two_services_that_want_one_vip_do_not_disturb_each_other(stage: Stage) -> None:
    annotation = {"service.beta.kubernetes.io/openstack-internal-load-balancer": "true"}
    await stage.apply(echo_deployment("vip"))
    for name in ("vip-one", "vip-two"):
        wanted = service(name, "LoadBalancer", "vip", loadBalancerIP="10.10.0.99")
        wanted["metadata"]["annotations"] = annotation
        await stage.apply(wanted)
        if name == "vip-one":
            assert await stage.address_of(name) == "10.10.0.99"

    async def told() -> bool:
        return "10.10.0.99" in await stage.kubectl("events", "--for", "service/vip-two")

    await stage.wait("an event on the second names the address", told)
    await stage.until_answers("master-0", "http://10.10.0.99/")


async def test_a_service_without_pods_is_told_so(stage: Stage) -> None:
    await stage.apply(service("nobody", "LoadBalancer", "no-such-app"))
    await stage.address_of("nobody")

    async def told() -> bool:
        return "NoReadyEndpoints" in await stage.kubectl("events", "--for", "service/nobody")

    await stage.wait("an event says that no pod matches", told)


async def test_a_wrong_annotation_names_value_and_remedy(stage: Stage) -> None:
    wrong = service("wrong", "LoadBalancer")
    wrong["metadata"]["annotations"] = {"loadbalancer.openstack.org/proxy-protocol": "v9\n  bind :1"}
    await stage.apply(wrong)

    async def told() -> str:
        events = json.loads(await stage.kubectl("get", "events", "-o", "json"))["items"]
        mine = [entry["message"] for entry in events if entry["involvedObject"]["name"] == "wrong"]
        return next((message for message in mine if "proxy-protocol" in message and "use one of" in message), "")

    await stage.wait("an event names annotation and remedy", told)
