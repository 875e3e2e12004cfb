"""What the node proxy counts, under kube-proxy's names (Kubernetes, «Kubernetes Metrics Reference», kubeproxy_*)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SYNC_BUCKETS_S = tuple(0.001 * 2**power for power in range(15))
_PROGRAMMING_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.sync_s = Histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "Time that one transaction of rules took.",
            buckets=_SYNC_BUCKETS_S,
            registry=registry,
        )
        self.programming_s = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "Time from a change that was seen to its rules.",
            buckets=_PROGRAMMING_BUCKETS_S,
            registry=registry,
        )
        self.last = Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When rules were written last.", registry=registry
        )
        self.failures = Counter(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Transactions refused.", registry=registry
        )
        self.repairs = Counter(
            "vrata_node_repairs_total", "Times that the rules were not as written and were replaced.", registry=registry
        )
        self.no_local = Gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a policy Local and endpoints on other nodes only.",
            ["traffic_policy"],
            registry=registry,
        )
