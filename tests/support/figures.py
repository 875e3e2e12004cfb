"""Every metric that Vrata's own programs have, with its labels, as their registries say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from vrata.base.operations import operations
from vrata.cloud.metrics import Metrics as CloudMetrics
from vrata.cloud.store import Store
from vrata.ingress.metrics import Metrics as IngressMetrics
from vrata.ingress.model import BackendKey, SecretKey, Slot
from vrata.ingress.observe import Running
from vrata.kube.informer import Informer
from vrata.kube.metrics import watch_informers
from vrata.nodeport.metrics import Metrics as NodeMetrics
from vrata.provider.metrics import Metrics as ProviderMetrics

# Of HAProxy's own, those that boards show; `system/ingress/test_figures.py` compares them with a running one.
HAPROXY = {
    "haproxy_frontend_http_responses_total": frozenset({"proxy", "code"}),
    "haproxy_backend_http_responses_total": frozenset({"proxy", "code"}),
    "haproxy_backend_response_time_average_seconds": frozenset({"proxy"}),
    "haproxy_process_current_connections": frozenset(),
}
# What the Ingress controller asks for by `watch`, in its constructor.
WATCHED = ("ingresses", "hosts", "places_free", "leader")


def known_metrics(directory: Path) -> dict[str, frozenset[str]]:
    """Labels by name; a histogram has its three names."""
    store = Store(f"sqlite:///{directory / 'cloud.db'}")
    cloud = CloudMetrics(store)
    store.close()
    ingress, node, provider = IngressMetrics(), NodeMetrics(), ProviderMetrics()
    for name in WATCHED:
        ingress.watch(name, "A figure.", lambda: 0)
    running = Running()
    running.assign(Slot("r0"), BackendKey("default/web:80"))
    ingress.watch_places(lambda: running.owners)
    counted = dict.fromkeys(("http_req_cnt", "http_err_cnt", "http_fail_cnt", "bytes_in_cnt", "bytes_out_cnt"), 0)
    ingress.watch_hosts(lambda: {"shop.example": counted})
    ingress.watch_certificates(lambda: {SecretKey("default/web"): 0.0})
    operations("ingress", ingress.registry, str)
    informer = SimpleNamespace(resource=SimpleNamespace(plural="services"), unreadable={}, not_ready_reason=str)
    watch_informers(ingress.registry, lambda: [cast("Informer[Any]", informer)])
    found: dict[str, frozenset[str]] = {}
    for registry in (cloud.registry, ingress.registry, node.registry, provider.registry):
        found |= _of(registry)
    return found


def _of(registry: CollectorRegistry) -> dict[str, frozenset[str]]:
    found = {}
    for collector, names in registry._collector_to_names.items():
        labels = getattr(collector, "_labelnames", None)
        for name in names:
            if labels is not None and not name.endswith("_created"):
                found[name] = frozenset(labels) | ({"le"} if name.endswith("_bucket") else set())
        if labels is None:
            for family in collector.collect():
                found |= {one.name: frozenset(one.labels) for one in family.samples}
    return found
