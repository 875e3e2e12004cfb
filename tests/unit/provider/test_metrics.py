"""Names of calls, and what is counted of them."""

import pytest

from vrata.provider.metrics import Metrics, request_name


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/v2.0/lbaas/loadbalancers", "loadbalancer_list"),
        ("GET", "/v2.0/lbaas/loadbalancers/1", "loadbalancer_get"),
        ("POST", "/v2.0/lbaas/listeners", "loadbalancer_listener_create"),
        ("DELETE", "/v2.0/lbaas/pools/1", "loadbalancer_pool_delete"),
        ("PUT", "/v2.0/lbaas/pools/1/members", "loadbalancer_members_update"),
        ("PUT", "/v2.0/lbaas/pools/1/members/2", "loadbalancer_member_update"),
        ("GET", "/v2.0/lbaas/pools/1/members", "loadbalancer_member_list"),
        ("POST", "/v2.0/floatingips", "floating_ip_create"),
        ("GET", "/v2.1/servers/detail", "server_list"),
        ("GET", "/v2.1/servers/1", "server_get"),
        ("GET", "/v1/secrets/1", "secret_get"),
        ("GET", "/v2.0/quotas/1", "other_get"),
    ],
)
def test_calls_are_named_as_dashboards_know_them(method: str, path: str, name: str) -> None:
    assert request_name(method, path) == name


def test_a_failed_pass_counts_as_pass_and_as_error() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="x"), metrics.reconciling("loadbalancer_ensure"):
        raise ValueError("x")
    with metrics.reconciling("loadbalancer_ensure"):
        pass

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"operation": "loadbalancer_ensure"})

    assert value("cloudprovider_openstack_reconcile_total") == 2
    assert value("cloudprovider_openstack_reconcile_errors_total") == 1
    assert metrics.registry.get_sample_value("service_controller_loadbalancer_sync_total") == 2
