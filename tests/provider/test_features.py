"""What a Service may ask of a cloud that not every cloud has: a second family, TLS, newer versions, guarded nodes."""

import asyncio
import base64
import json
from typing import Any

import pytest
from tests.provider.conftest import node
from tests.support import pki
from tests.support.provided import NODES, Ground

from vrata.provider.annotations import PREFIX
from vrata.provider.call import KEY_MANAGER, NETWORK

TLS = PREFIX + "default-tls-container-ref"
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)


async def groups(it: Ground) -> list[dict[str, Any]]:
    """Security groups of Services of this test."""
    found = await it.seen(NETWORK, "/v2.0/security-groups", "security_groups")
    return [one for one in found if one["name"].startswith("lb-sg-") and f"-{it.namespace}-" in one["name"]]


async def dual_nodes(it: Ground) -> None:
    """The nodes have the IPv6 addresses of their ports, too."""
    ports = {one["name"]: one for one in await it.seen(NETWORK, "/v2.0/ports", "ports")}
    for name, four in NODES.items():
        body = json.loads(node(name, four))
        addresses = [one["ip_address"] for one in ports[name]["fixed_ips"] if ":" in one["ip_address"]]
        body["status"]["addresses"] += [{"type": "InternalIP", "address": one} for one in addresses]
        await it.set_status(json.dumps(body))


@pytest.mark.parametrize("families", [["IPv4", "IPv6"], ["IPv6", "IPv4"]])
async def test_both_families_have_an_address_and_an_entry(ground: Ground, families: list[str]) -> None:
    """The second family was left out (complaint E13)."""
    await dual_nodes(ground)
    await ground.apply("web", ipFamilyPolicy="RequireDualStack", ipFamilies=families)
    await ground.served("web")
    balancer, floating = await ground.balancer("web"), await ground.floating()
    [additional] = balancer["additional_vips"]
    four = families[0] == "IPv4"
    first = floating[0]["floating_ip_address"] if four else balancer["vip_address"]
    assert await ground.addresses("web") == [first, additional["ip_address"]]
    assert len(floating) == four  # none where the first address is a public one already
    assert (":" in first, ":" in additional["ip_address"]) == (not four, four)
    assert ground.cloud.writes().total() == 1 + four
    await ground.kubectl("delete", "service", "web")
    await ground.gone("web")


async def test_what_an_older_cloud_lacks_is_told_with_its_version_and_the_rest_is_served(ground: Ground) -> None:
    """It was an error, again and again."""
    await ground.stop()
    await ground.start(octavia=(2, 11))
    ranges = ["192.0.2.0/24"]
    await ground.apply("web", ipFamilyPolicy="RequireDualStack", loadBalancerSourceRanges=ranges)
    await ground.apply("wrong", annotations={PREFIX + "proxy-protocol": "v2"})
    await ground.served("web")
    await ground.told("web", "LoadBalancerSourceRangesIgnored", "2.11", "2.12")
    await ground.told("web", "SecondFamilyIgnored", "2.11", "2.26")
    assert len(await ground.addresses("web")) == 1
    await ground.told("wrong", "proxy-protocol", "2.11", "2.22")
    await ground.rest()
    assert await ground.balancers("wrong") == []


async def test_the_clouds_version_is_asked_once(ground: Ground) -> None:
    await ground.apply("web")
    await ground.served("web")
    assert ground.provider
    await ground.provider.check_drift()
    assert [path for _, _, path in ground.cloud.calls].count("/") == 1
    assert (2, 0) < ground.provider.settings.octavia < (2, 1000)


async def test_a_tls_reference_to_nothing_is_told_and_one_to_something_is_looked_at_once(ground: Ground) -> None:
    """The cloud's own words did not say which annotation it was about."""
    nothing = "https://keys.example/v1/containers/00000000-0000-4000-8000-000000000000"
    await ground.apply("web", annotations={TLS: nothing}, ports=[{"port": 443}])
    await ground.told("web", TLS, nothing, "the key manager has")
    await ground.rest()
    assert await ground.balancers("web") == []
    assert asked(ground) == 1

    bundle = base64.b64encode(pki.issue("web.example").pkcs12()).decode()
    body = {"name": "web", "payload": bundle, "payload_content_type": "application/octet-stream"}
    body |= {"payload_content_encoding": "base64"}
    made = await ground.by_hand("POST", KEY_MANAGER, "/v1/secrets", body)
    ground.cloud.calls.clear()
    await ground.kubectl("annotate", "--overwrite", "service", "web", f"{TLS}={made['secret_ref']}")
    await ground.served("web")
    [listener] = await ground.read("listeners", loadbalancer_id=(await ground.balancer("web"))["id"])
    assert (listener["protocol"], listener["default_tls_container_ref"]) == ("TERMINATED_HTTPS", made["secret_ref"])
    assert asked(ground) == 1
    await ground.kubectl("annotate", "service", "web", f"{PREFIX}connection-limit=9")
    async with asyncio.timeout(90):
        while [one["connection_limit"] for one in await ground.read("listeners", name=listener["name"])] != [9]:
            await asyncio.sleep(0.05)
    await ground.rest()
    assert asked(ground) == 1


def asked(it: Ground) -> int:
    """How often the key manager was."""
    return sum(service == KEY_MANAGER for _, service, _ in it.cloud.calls)


@pytest.mark.parametrize("what", ["rule", "port", "group"])
async def test_what_was_changed_of_a_security_group_by_hand_comes_back(ground: Ground, what: str) -> None:
    """Nodes went on without a rule that somebody had deleted (complaint E14)."""
    await ground.stop()
    await ground.start(manage_security_groups=True)
    await ground.apply("web")
    await ground.apply("other")
    await ground.served("web", "other")
    before = {one["name"]: one for one in await groups(ground)}
    name = next(one for one in before if one.endswith("-web"))
    ports = await ground.seen(NETWORK, "/v2.0/ports", "ports")
    guarded = [one for one in ports if before[name]["id"] in one["security_groups"]]
    match what:
        case "rule":
            [rule] = [one for one in before[name]["security_group_rules"] if one["direction"] == "ingress"]
            await ground.by_hand("DELETE", NETWORK, f"/v2.0/security-group-rules/{rule['id']}")
        case _:
            for port in guarded:
                left = [one for one in port["security_groups"] if one != before[name]["id"]]
                body = {"port": {"security_groups": left}}
                await ground.by_hand("PUT", NETWORK, f"/v2.0/ports/{port['id']}", body)
    if what == "group":
        await ground.by_hand("DELETE", NETWORK, f"/v2.0/security-groups/{before[name]['id']}")

    ground.cloud.calls.clear()
    assert ground.provider
    await ground.provider.check_drift()
    assert ground.cloud.reads() == 7  # groups and ports beside the five
    await ground.rest()

    [group] = [one for one in await groups(ground) if one["name"] == name]
    now = [one for one in await ground.seen(NETWORK, "/v2.0/ports", "ports") if group["id"] in one["security_groups"]]
    assert {one["id"] for one in now} == {one["id"] for one in guarded}
    assert len(group["security_group_rules"]) == len(before[name]["security_group_rules"])
    ground.cloud.calls.clear()
    await ground.provider.check_drift()
    await ground.rest()
    assert not ground.cloud.writes()
