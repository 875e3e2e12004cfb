"""What the provider counts (Prometheus), under the names that the OpenStack cloud controller's dashboards know.

Labels take values from closed sets only. `request` is `<resource>_<verb>`; `operation` is `loadbalancer_ensure`,
`loadbalancer_update` or `loadbalancer_delete`. Source: cloud-provider-openstack, docs/metrics.md; Kubernetes' service
controller.
"""

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vrata.base import clock

REQUEST_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
PASS_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 17.5, 20.0, 30.0, 60.0, 120.0)
_RESOURCES = {
    "lbaas/loadbalancers": "loadbalancer",
    "lbaas/listeners": "loadbalancer_listener",
    "lbaas/pools": "loadbalancer_pool",
    "lbaas/pools/members": "loadbalancer_member",
    "lbaas/healthmonitors": "loadbalancer_healthmonitor",
    "lbaas/flavors": "loadbalancer_flavor",
    "lbaas/availabilityzones": "loadbalancer_availabilityzone",
    "floatingips": "floating_ip",
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "routers": "router",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "servers": "server",
    "servers/detail": "server",
    "flavors": "flavor",
    "flavors/detail": "flavor",
    "secrets": "secret",
    "containers": "container",
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


def request_name(method: str, path: str) -> str:
    """`loadbalancer_list` for GET of a collection, `loadbalancer_pool_update` for PUT of a pool; else `other_<verb>`."""
    words = [word for word in path.split("/") if word and not word.startswith("v2") and word != "v1"]
    prefix, words = (["lbaas"], words[1:]) if words[:1] == ["lbaas"] else ([], words)
    collection = "/".join((*prefix, *words[::2]))  # /pools/{id}/members: every second word is an id
    if words[1:] == ["detail"]:
        collection, words = "/".join((*prefix, *words)), words[:1]
    resource = _RESOURCES.get(collection, "other")
    of_one = len(words) % 2 == 0
    if method == "PUT" and not of_one:
        resource += "s"  # all members of a pool at once
    return f"{resource}_{_VERBS.get(method) or ('get' if of_one else 'list')}"


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._request_seconds = self._histogram(
            "openstack_api_request_duration_seconds", "Time of a call to the cloud.", REQUEST_BUCKETS_S, "request"
        )
        self._requests = self._counter("openstack_api_requests_total", "Calls to the cloud.", "request")
        self._request_errors = self._counter(
            "openstack_api_request_errors_total", "Calls that the cloud refused or that did not reach it.", "request"
        )
        self._pass_seconds = self._histogram(
            "cloudprovider_openstack_reconcile_duration_seconds", "Time of a pass.", PASS_BUCKETS_S, "operation"
        )
        self._passes = self._counter("cloudprovider_openstack_reconcile_total", "Passes.", "operation")
        self._pass_errors = self._counter(
            "cloudprovider_openstack_reconcile_errors_total", "Passes that failed.", "operation"
        )
        self._syncs = self._counter("service_controller_loadbalancer_sync_total", "Passes over a Service.")
        self._node_errors = self._counter("service_controller_nodesync_error_total", "Failures to follow the nodes.")
        self._node_seconds = self._histogram(
            "service_controller_nodesync_latency_seconds",
            "From a change of nodes until balancers follow.",
            PASS_BUCKETS_S,
        )
        self._hosts_seconds = self._histogram(
            "service_controller_update_loadbalancer_host_latency_seconds", "Time to change members.", PASS_BUCKETS_S
        )
        self._leads = Gauge("vrata_provider_leader", "1 while this replica does the work.", registry=self.registry)
        self._waiting = Gauge("vrata_provider_queue_length", "Services waiting or in work.", registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    @contextlib.contextmanager
    def requesting(self, name: str) -> Iterator[None]:
        """Count and time one call (`request_name`); an exception is an error."""
        with self._counted(name, self._request_seconds, self._requests, self._request_errors):
            yield

    @contextlib.contextmanager
    def reconciling(self, operation: str) -> Iterator[None]:
        """Count and time one pass over a Service; an exception is an error."""
        self._syncs.inc()
        with self._counted(operation, self._pass_seconds, self._passes, self._pass_errors):
            yield

    @contextlib.contextmanager
    def updating_hosts(self) -> Iterator[None]:
        """Count and time one change of a balancer's members; an exception is an error."""
        counted = self._counted("loadbalancer_update", self._pass_seconds, self._passes, self._pass_errors)
        with counted, self._hosts_seconds.time():
            yield

    def nodes_followed(self, seconds: float) -> None:
        """A balancer has followed a change of nodes, so long after it."""
        self._node_seconds.observe(seconds)

    def nodes_missed(self) -> None:
        """A balancer could not follow a change of nodes; it is tried again."""
        self._node_errors.inc()

    def leads(self, *, working: bool) -> None:
        """Whether this replica does the work."""
        self._leads.set(working)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Ask for the queue's length at each scrape."""
        self._waiting.set_function(length)

    @staticmethod
    @contextlib.contextmanager
    def _counted(label: str, seconds: Histogram, total: Counter, errors: Counter) -> Iterator[None]:
        begun_s = clock.monotonic_s()
        try:
            yield
        except Exception:
            errors.labels(label).inc()
            raise
        finally:
            total.labels(label).inc()
            seconds.labels(label).observe(clock.monotonic_s() - begun_s)
