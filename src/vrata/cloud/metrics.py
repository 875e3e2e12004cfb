"""`/metrics` of the cloud (Prometheus text format): requests by API, and what the database holds, counted at scrape.

Transitions are counted, and failovers and builds timed, by the process that learnt of them: sum over the replicas.
Labels take values from closed sets only: names and ids of tenants never become one. Subnets of external networks are the
administrator's.
"""

import hmac
import shutil
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from vrata.base.wire import VrrpState
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing import transitions
from vrata.cloud.network import plan
from vrata.cloud.network import tables as n
from vrata.cloud.store import Row, Store, Tx

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
Counts = dict[tuple[str, ...], float]


class Metrics:
    """The figures of one process."""

    def __init__(self, store: Store, token: str = "") -> None:
        self._store, self._token = store, token
        self._ends: dict[str, Callable[[], float | None]] = {}
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "vrata_cloud_requests", "Requests answered.", ("api", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "vrata_cloud_request_duration_seconds", "Time from a request's arrival to its answer.", ("api",),
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._transitions = Counter(
            "vrata_cloud_transitions", "Changes of instances (VRRP, placed and built) and of hosts.", ("before", "after"),
            registry=self.registry,
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
            "load_balancers_without_standby": self._gauge(
                "load_balancers_without_standby", "Pairs of which not both instances are active or standby on a live host."
            ),
            "longest_pending_seconds": self._gauge(
                "longest_pending_seconds", "How long the load balancer has been PENDING_* that has been so longest."
            ),
            "external_addresses": self._gauge(
                "external_addresses", "Addresses of external networks, for floating IPs.", "subnet", "state"
            ),
            "disk_bytes": self._gauge("disk_bytes", "Of the file system of the SQLite database.", "state"),
            "certificate_end_timestamp_seconds": self._gauge(
                "certificate_end_timestamp_seconds", "When a certificate ends; of those of hosts the first.", "of"
            ),
        }  # fmt: skip

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"vrata_cloud_{name}", text, labels, registry=self.registry)

    def _took(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"vrata_cloud_{name}", text, labels, buckets=BUCKETS_S, registry=self.registry)

    def happened(self, transition: Row) -> None:
        """Count one transition (`vrata.cloud.balancing.transitions`)."""
        self._transitions.labels(transition["before"], transition["after"]).inc()
        if transition["cause"] in transitions.FAILOVERS and transition["silent_s"] is not None:
            self._failovers.labels(transition["cause"]).observe(transition["silent_s"])
        if transition["after"] == transitions.BUILT:
            self._builds.observe(transition["lasted_s"])

    def watch_end(self, of: str, end: Callable[[], float | None]) -> None:
        """Ask at each scrape when a certificate ends; None if there is none."""
        self._ends[of] = end

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
        ends: Counts = {(of,): end for of, ask in self._ends.items() if (end := ask()) is not None}
        found: dict[str, Counts] = {**await self._store.read(_counts)}
        found |= {
            "certificate_end_timestamp_seconds": ends,
            "disk_bytes": self._disk(),
        }
        for name, counts in found.items():
            gauge = self._gauges[name]
            if () in counts:
                gauge.set(counts[()])
                continue
            gauge.clear()
            for labels, count in counts.items():
                gauge.labels(*labels).set(count)
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    def _disk(self) -> Counts:
        if not self._store.sqlite or not self._store.url.database:
            return {}
        disk = shutil.disk_usage(Path(self._store.url.database).parent)
        return {("free",): disk.free, ("used",): disk.used}


def _counts(tx: Tx) -> dict[str, Counts]:
    b = t.load_balancers.c
    return {
        "load_balancers": _grouped(tx, b.provisioning_status, b.operating_status),
        "instances": _grouped(tx, t.instances.c.kind, t.instances.c.state),
        "hosts": {(str(alive).lower(),): count for (alive,), count in _grouped(tx, t.hosts.c.alive).items()},
        "load_balancers_without_standby": {(): _without_standby(tx)},
        "longest_pending_seconds": {(): _longest_pending(tx)},
        "external_addresses": _external(tx),
    }


def _without_standby(tx: Tx) -> int:
    """Of those that should have one: a balancer that is built for the first time is not ACTIVE yet."""
    b, i, h = t.load_balancers.c, t.instances.c, t.hosts.c
    serving = (
        sa.select(i.owner_id)
        .join(t.hosts, i.host == h.name)
        .where(h.alive, i.leaving.is_(False), i.state.in_((VrrpState.MASTER, VrrpState.BACKUP)))
        .group_by(i.owner_id)
        .having(sa.func.count() > 1)
    )
    pairs = (b.topology == "ACTIVE_STANDBY", b.provisioning_status != "PENDING_CREATE", b.admin_state_up)
    return int(tx.value(sa.select(sa.func.count()).where(*pairs, b.id.not_in(serving))) or 0)


def _longest_pending(tx: Tx) -> float:
    b = t.load_balancers.c
    since = sa.func.min(sa.func.coalesce(b.updated_at, b.created_at), type_=sa.DateTime)
    oldest = tx.value(sa.select(since).where(b.provisioning_status.like("PENDING%")))
    return max(0.0, tx.now() - oldest.replace(tzinfo=UTC).timestamp()) if oldest else 0.0


def _external(tx: Tx) -> Counts:
    s, a = n.subnets.c, n.addresses.c
    used = sa.select(sa.func.count()).where(a.subnet_id == s.id).scalar_subquery().label("used")
    query = sa.select(s.id, s.allocation_pools, used).join(n.networks).where(n.networks.c.router_external)
    found: Counts = {}
    for row in tx.all(query):
        found[row["id"], "used"] = row["used"]
        found[row["id"], "free"] = max(0, plan.size(row["allocation_pools"] or ()) - row["used"])
    return found


def _grouped(tx: Tx, *columns: sa.Column[Any]) -> Counts:
    query = sa.select(*columns, sa.func.count().label("count")).group_by(*columns)
    return {tuple(row[column.name] for column in columns): row["count"] for row in tx.all(query)}
