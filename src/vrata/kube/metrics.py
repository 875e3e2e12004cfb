"""What informers say of themselves at `/metrics` of every program that watches the API server (Prometheus)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vrata.kube.informer import Informer

Informers = Callable[[], Iterable[Informer[Any]]]


def watch_informers(registry: CollectorRegistry, informers: Informers) -> None:
    """Report which watches fail, and how many objects cannot be read, by resource."""
    registry.register(_Informers(informers))


class _Informers(Collector):
    def __init__(self, informers: Informers) -> None:
        self._informers = informers

    def collect(self) -> Iterator[Metric]:
        failing: dict[str, int] = {}
        unreadable: dict[str, int] = {}
        for one in self._informers():
            name = one.resource.plural  # one resource may have several informers
            failing[name] = max(failing.get(name, 0), int(bool(one.not_ready_reason())))
            unreadable[name] = unreadable.get(name, 0) + len(one.unreadable)
        for metric, text, values in (
            ("vrata_watch_failing", "1 while a resource is not read, or its watch has failed for 30 s.", failing),
            ("vrata_unreadable_objects", "Objects that cannot be decoded.", unreadable),
        ):
            family = GaugeMetricFamily(metric, text, labels=["resource"])
            for name, value in values.items():
                family.add_metric([name], value)
            yield family
