"""`/metrics` of the cloud (Prometheus text format): requests by API, and what the database holds, counted at scrape.

Transitions are counted, and failovers and builds timed, by the process that learnt of them: sum over the replicas.
Labels take values from closed sets only: names and ids of tenants never become one.
"""

import hmac
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing import transitions
from vrata.cloud.store import Row, Store, Tx

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
Counts = dict[tuple[str, ...], int]


class Metrics:
    """The figures of one process."""

    def __init__(self, store: Store, token: str = "") -> None:
        self._store, self._token = store, token
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "vrata_cloud_requests", "Requests answered.", ("api", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "vrata_cloud_request_duration_seconds", "Time from a request's arrival to its answer.", ("api",),
            buckets=BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        self._transitions = Counter(
            "vrata_cloud_transitions", "Changes of instances (VRRP, placed and built) and of hosts.", ("before", "after"),
            registry=self._registry,
        )  # fmt: skip
        self._failovers = self._took(
            "failover_seconds", "From the peer's last advert or good-bye until taken over.", "cause"
        )
        self._builds = self._took("build_seconds", "From placing an instance on a host until it is built there.")
        self._writes = self._took(
            "write_processor_seconds", "Processor time of a transaction that writes: others wait for it."
        )
        self._gauges = {
            "load_balancers": self._gauge("load_balancers", "Load balancers.", "provisioning_status", "operating_status"),
            "instances": self._gauge("instances", "Instances by what they do and their VRRP state.", "kind", "state"),
            "hosts": self._gauge("hosts", "Hosts that have ever reported.", "alive"),
        }  # fmt: skip

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"vrata_cloud_{name}", text, labels, registry=self._registry)

    def _took(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"vrata_cloud_{name}", text, labels, buckets=BUCKETS_S, registry=self._registry)

    def happened(self, transition: Row) -> None:
        """Count one transition (`vrata.cloud.balancing.transitions`)."""
        self._transitions.labels(transition["before"], transition["after"]).inc()
        if transition["cause"] in transitions.FAILOVERS and transition["silent_s"] is not None:
            self._failovers.labels(transition["cause"]).observe(transition["silent_s"])
        if transition["after"] == transitions.BUILT:
            self._builds.observe(transition["lasted_s"])

    def held(self, seconds: float) -> None:
        """Count one transaction that wrote."""
        self._writes.observe(seconds)

    def answered(self, api: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(api, method, str(status)).inc()
        self._seconds.labels(api).observe(seconds)

    async def serve(self, request: Request) -> Response:
        """GET /metrics; with a token, if the operator has set one."""
        given = request.headers.get("authorization", "").encode()
        if self._token and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return Response("send the token of --metrics-token-file as `Authorization: Bearer`\n", 401)
        for name, counts in (await self._store.read(_counts)).items():
            gauge = self._gauges[name]
            gauge.clear()
            for labels, count in counts.items():
                gauge.labels(*labels).set(count)
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})


def _counts(tx: Tx) -> dict[str, Counts]:
    b = t.load_balancers.c
    return {
        "load_balancers": _grouped(tx, b.provisioning_status, b.operating_status),
        "instances": _grouped(tx, t.instances.c.kind, t.instances.c.state),
        "hosts": {(str(alive).lower(),): count for (alive,), count in _grouped(tx, t.hosts.c.alive).items()},
    }


def _grouped(tx: Tx, *columns: sa.Column[Any]) -> Counts:
    query = sa.select(*columns, sa.func.count().label("count")).group_by(*columns)
    return {tuple(row[column.name] for column in columns): row["count"] for row in tx.all(query)}
