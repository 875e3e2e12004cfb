"""What the Ingress controller counts (Prometheus). HAProxy's own figures are on the health port, by place.

`vrata_ingress_backend_info` names the Service of each place, to be joined on `proxy` with HAProxy's figures.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vrata.ingress.endpoints import port_of, service_of
from vrata.ingress.model import BackendKey, SecretKey, Slot

# HAProxy's counters (configuration manual 2.6, section 4.2, «stick-table»).
_BY_HOST = {
    "http_req_cnt": ("requests", "Requests for a host."),
    "http_err_cnt": ("client_errors", "Of these, answered with 4xx, or broken off by the client."),
    "http_fail_cnt": ("server_errors", "Of these, answered with 5xx by pods, or failed there."),
    "bytes_in_cnt": ("received_bytes", "Bytes from clients for a host."),
    "bytes_out_cnt": ("sent_bytes", "Bytes to clients for a host."),
}
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reloads = Counter(
            "vrata_haproxy_reloads", "Starts and reloads of HAProxy.", ["reason"], registry=self.registry
        )
        self.reloads_refused = Counter(
            "vrata_haproxy_reloads_refused", "Starts and reloads that HAProxy refused.", registry=self.registry
        )
        self.pass_seconds = Histogram(
            "vrata_ingress_pass_seconds", "Time of a pass.", buckets=BUCKETS_S, registry=self.registry
        )
        self.failed = Counter("vrata_ingress_passes_failed", "Passes that ended with an error.", registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], int]) -> None:
        """A number that is asked for when the figures are."""
        Gauge(f"vrata_ingress_{name}", text, registry=self.registry).set_function(value)

    def watch_certificates(self, ends: Callable[[], Mapping[SecretKey, float]]) -> None:
        """When the certificate of each Secret ends."""
        self.registry.register(_Certificates(ends))

    def watch_hosts(self, counters: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """HAProxy's counters of each host."""
        self.registry.register(_Hosts(counters))

    def watch_places(self, owners: Callable[[], Mapping[Slot, BackendKey]]) -> None:
        """Which Service each place serves."""
        self.registry.register(_Places(owners))


class _Places(Collector):
    def __init__(self, owners: Callable[[], Mapping[Slot, BackendKey]]) -> None:
        self._owners = owners

    def collect(self) -> Iterator[Metric]:
        family = InfoMetricFamily("vrata_ingress_backend", "The Service that a backend of HAProxy serves.", labels=[])
        for slot, backend in dict(self._owners()).items():  # in one step, for this runs in a thread
            service, port = service_of(backend), port_of(backend)
            family.add_metric([], {"proxy": slot, "service": service, "port": port})
        yield family


class _Certificates(Collector):
    def __init__(self, ends: Callable[[], Mapping[SecretKey, float]]) -> None:
        self._ends = ends

    def collect(self) -> Iterator[Metric]:
        name, text = "vrata_ingress_certificate_end_timestamp_seconds", "When the certificate of a Secret ends."
        family = GaugeMetricFamily(name, text, labels=["secret"])
        for secret, end in dict(self._ends()).items():  # in one step, for this runs in a thread
            family.add_metric([secret], end)
        yield family


class _Hosts(Collector):
    def __init__(self, counters: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters()
        for counter, (name, text) in _BY_HOST.items():
            family = CounterMetricFamily(f"vrata_ingress_host_{name}", text, labels=["host"])
            for host, values in counters.items():
                family.add_metric([host], values[counter])
            yield family
