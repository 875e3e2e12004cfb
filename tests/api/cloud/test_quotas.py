"""Neutron's quotas: shown, set, and kept by many writers at once; subnet pools and what they run out of."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud

BASE = "/network/v2.0"


def said(refused: Any) -> Any:
    """Neutron's error body of a refusal."""
    return refused.value.response.json()["NeutronError"]


@pytest.fixture
def bounded(cloud: Cloud, admin: Any, demo: Any) -> Iterator[Any]:
    """Sets limits of demo's project; nothing of them stays."""

    def put(**limits: Any) -> tuple[int, Any]:
        path = f"{BASE}/quotas/{demo.current_project_id}"
        return cloud.request("PUT", path, {"quota": limits}, {"X-Auth-Token": cloud.token("admin")}, timeout_s=30.0)[:2]

    yield put
    admin.network.delete_quota(demo.current_project_id, ignore_missing=True)


def test_of_twenty_writers_as_many_win_as_the_quota_has_room(cloud: Cloud, demo: Any, bounded: Any) -> None:
    used = demo.network.get_quota(demo.current_project_id, details=True).networks["used"]
    assert bounded(network=used + 3)[0] == 200
    headers = {"X-Auth-Token": cloud.token()}

    def create(_: int) -> tuple[int, Any]:
        return cloud.request("POST", f"{BASE}/networks", {"network": {"name": "crowd"}}, headers, timeout_s=60.0)[:2]

    with ThreadPoolExecutor(20) as crowd:
        answers = list(crowd.map(create, range(20)))
    assert sorted(status for status, _ in answers) == [201] * 3 + [409] * 17
    refused = next(said for status, said in answers if status == 409)
    assert refused["NeutronError"] == {
        "type": "OverQuota", "message": "Quota exceeded for resources: ['network'].", "detail": ""
    }  # fmt: skip
    for network in demo.network.networks(name="crowd"):
        demo.network.delete_network(network)


def test_a_bulk_create_is_whole_or_not_at_all(cloud: Cloud, demo: Any, bounded: Any, little: SimpleNamespace) -> None:
    used = demo.network.get_quota(demo.current_project_id, details=True).ports["used"]
    bounded(port=used + 2)
    headers = {"X-Auth-Token": cloud.token()}
    many = {"ports": [{"network_id": little.network.id, "name": f"bulk-{at}", "tags": ["t"]} for at in range(3)]}
    assert cloud.request("POST", f"{BASE}/ports", many, headers, timeout_s=30.0)[0] == 409
    assert list(demo.network.ports(network_id=little.network.id)) == []
    many["ports"].pop()
    status, said, _ = cloud.request("POST", f"{BASE}/ports", many, headers, timeout_s=30.0)
    assert (status, [(port["name"], port["tags"]) for port in said["ports"]]) == (
        201, [("bulk-0", ["t"]), ("bulk-1", ["t"])]
    )  # fmt: skip


def test_limits_are_shown_changed_and_given_back(cloud: Cloud, admin: Any, demo: Any, bounded: Any) -> None:
    project = demo.current_project_id
    assert demo.network.get_quota(project).ports == 500
    bounded(port=400, router=9)
    assert (demo.network.get_quota(project).ports, demo.network.get_quota(project).routers) == (400, 9)
    assert demo.network.get_quota_default(project).ports == 500
    assert project in [quota.project_id for quota in admin.network.quotas()]
    assert bounded(network=0, check_limit=True)[0] == (400 if list(demo.network.networks(project_id=project)) else 200)
    admin.network.delete_quota(project)
    assert demo.network.get_quota(project).ports == 500
    headers = {"X-Auth-Token": cloud.token("admin")}
    status, said, _ = cloud.request("DELETE", f"{BASE}/quotas/{project}", None, headers, timeout_s=30.0)
    assert (status, said["NeutronError"]["type"]) == (404, "TenantQuotaNotFound")
    with pytest.raises(exceptions.ForbiddenException):
        demo.network.update_quota(project, ports=1)


@pytest.mark.parametrize("wrong", [{"port": -2}, {"port": "many"}, {"port": True}, {"boats": 3}, {"port": 2**31}])
def test_a_limit_that_makes_no_sense_is_400(bounded: Any, wrong: dict[str, Any]) -> None:
    status, said = bounded(**wrong)
    assert status == 400
    assert next(iter(wrong)) in said["NeutronError"]["message"]


def test_an_operator_sets_the_default_and_it_holds_for_everybody(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, None, "--network-quota", "neutron", "--network-quota", "router=2")
    cloud.start()
    try:
        headers = {"X-Auth-Token": cloud.token()}

        def create(_: int) -> int:
            return cloud.request("POST", f"{BASE}/routers", {"router": {"name": "r"}}, headers, timeout_s=60.0)[0]

        with ThreadPoolExecutor(6) as crowd:
            assert sorted(crowd.map(create, range(6))) == [201] * 2 + [409] * 4
        project = cloud.request("GET", f"{BASE}/quotas/tenant", None, headers, timeout_s=30.0)[1]["tenant"]["tenant_id"]
        shown = cloud.request("GET", f"{BASE}/quotas/{project}/default", None, headers, timeout_s=30.0)[1]["quota"]
        assert (shown["router"], shown["port"], shown["subnetpool"]) == (2, 500, -1)
    finally:
        assert cloud.stop() == 0


# Subnet pools ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(demo: Any, name: str) -> Iterator[Any]:
    made = demo.network.create_subnet_pool(
        name=name, prefixes=["10.60.0.0/23"], default_prefixlen=24, min_prefixlen=23, max_prefixlen=28
    )
    yield made
    demo.network.delete_subnet_pool(made)


def test_a_pool_gives_out_what_is_free_until_it_is_empty(demo: Any, pool: Any, name: str) -> None:
    networks = [demo.network.create_network(name=name) for _ in range(3)]

    def cut(at: int, **more: Any) -> Any:
        return demo.network.create_subnet(network_id=networks[at].id, ip_version=4, subnet_pool_id=pool.id, **more)

    first = cut(0)
    assert (first.cidr, first.subnet_pool_id, first.gateway_ip) == ("10.60.0.0/24", pool.id, "10.60.0.1")
    assert cut(1, prefixlen=28).cidr == "10.60.1.0/28"
    assert cut(1, cidr="10.60.1.32/28").cidr == "10.60.1.32/28"
    assert cut(1, prefixlen=28).cidr == "10.60.1.16/28"
    for wrong, kind in (
        ({"prefixlen": 29}, "MaxPrefixSubnetAllocationError"),
        ({"prefixlen": 22}, "MinPrefixSubnetAllocationError"),
    ):
        with pytest.raises(exceptions.BadRequestException) as bad:
            cut(2, **wrong)
        assert said(bad)["type"] == kind
    none: dict[str, Any] = {}
    for more, words in (
        (none, "Insufficient prefix space to allocate subnet size /24"),
        ({"cidr": "10.60.1.16/28"}, "Cannot allocate requested subnet from the available set of prefixes"),
        ({"cidr": "10.99.0.0/24"}, "Cannot allocate requested subnet"),
    ):
        with pytest.raises(exceptions.ConflictException, match=words):
            cut(2, **more)
    with pytest.raises(exceptions.BadRequestException, match="Subnet pool has existing allocations"):
        demo.network.delete_subnet_pool(pool)
    with pytest.raises(exceptions.BadRequestException, match="must be a subset"):
        demo.network.update_subnet_pool(pool, prefixes=["10.61.0.0/16"])
    for network in networks:
        demo.network.delete_network(network)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"prefixes": []}, "EmptySubnetPoolPrefixList"),
        ({"prefixes": ["10.0.0.0/8", "2001:db8::/48"]}, "PrefixVersionMismatch"),
        ({"prefixes": ["ten"]}, "InvalidInput"),
        ({"prefixes": ["10.0.0.0/8"], "min_prefixlen": 28, "max_prefixlen": 24}, "IllegalSubnetPoolPrefixBounds"),
        ({"prefixes": ["10.0.0.0/8"], "max_prefixlen": 33}, "IllegalSubnetPoolPrefixBounds"),
        ({"prefixes": ["10.0.0.0/8"], "default_prefixlen": 4}, "IllegalSubnetPoolPrefixBounds"),
    ],
)
def test_a_pool_that_makes_no_sense_is_400(demo: Any, name: str, wrong: dict[str, Any], kind: str) -> None:
    with pytest.raises(exceptions.BadRequestException) as bad:
        demo.network.create_subnet_pool(name=name, **wrong)
    assert said(bad)["type"] == kind


def test_the_default_pool_and_the_quota_of_a_pool(admin: Any, demo: Any, name: str) -> None:
    with pytest.raises(exceptions.ForbiddenException):
        demo.network.create_subnet_pool(name=name, prefixes=["2001:db8:6000::/48"], is_shared=True)
    pool = admin.network.create_subnet_pool(
        name=name, prefixes=["2001:db8:6000::/48"], is_shared=True, is_default=True, default_quota=1
    )
    with pytest.raises(exceptions.BadRequestException, match="Only one default may exist"):
        admin.network.create_subnet_pool(name=name, prefixes=["2001:db8:7000::/48"], is_default=True)
    network = demo.network.create_network(name=name)
    wanted = {"network_id": network.id, "ip_version": 6, "use_default_subnet_pool": True}
    assert demo.network.create_subnet(**wanted).cidr == "2001:db8:6000::/64"
    with pytest.raises(exceptions.ConflictException, match="Per-tenant subnet pool prefix quota exceeded"):
        demo.network.create_subnet(**wanted)
    demo.network.delete_network(network)
    admin.network.delete_subnet_pool(pool)
