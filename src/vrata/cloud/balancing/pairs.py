"""Everything that is carried, at a glance, and what happened to it: for administrators, behind `vrata top`. Vrata's own.

GET    vrata/pairs            {"pairs": [...]}: load balancers and gateways with their instances and counters
GET    vrata/transitions      {"transitions": [...]}: the newest first; `limit` bounds them
"""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from vrata.cloud import listing
from vrata.cloud.balancing import store, transitions
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.view import STATS
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.network import tables as n
from vrata.cloud.store import Row

SHOWN = ("id", "name", "kind", "address", "provisioning_status", "operating_status", "instances", "failover")


def index(call: Call) -> Answer:
    """GET vrata/pairs."""
    store.admin_only(call)
    alive = set(call.tx.column(sa.select(t.hosts.c.name).where(t.hosts.c.alive)))
    carried: dict[str, list[Row]] = defaultdict(list)
    for row in call.tx.all(sa.select(t.instances).order_by(t.instances.c.created_at, t.instances.c.id)):
        carried[row["owner_id"]].append(_instance(row, row["host"] in alive))
    last = transitions.last_failovers(call.tx)
    pairs = [
        {
            "id": row["id"], "name": row["name"], "kind": "balancer", "address": row["vip_address"],
            "provisioning_status": row["provisioning_status"], "operating_status": row["operating_status"],
        }
        for row in call.tx.all(_named(t.load_balancers))
    ] + [
        {
            "id": row["id"], "name": row["name"], "kind": "gateway", "address": None,
            "provisioning_status": row["status"], "operating_status": None,
        }
        for row in call.tx.all(_named(n.routers)) if row["id"] in carried
    ]  # fmt: skip
    shown = [one | {"instances": carried[one["id"]], "failover": last.get(one["id"])} for one in pairs]
    return Answer(body={"pairs": listing.kept(call, shown, listing.OCTAVIA, known=SHOWN)})


def _named(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(table.c.name, table.c.id)


def _instance(row: Row, alive: bool) -> Row:
    """An instance with its counters, summed over listeners; they begin anew with its HAProxy."""
    counters = (row["listeners"] or {}).values()
    return {
        "id": row["id"], "host": row["host"], "alive": alive, "state": row["state"], "leaving": row["leaving"],
        "error": row["error"], "stats": {name: sum(one[name] for one in counters) for name in STATS},
    }  # fmt: skip


def events(call: Call) -> Answer:
    """GET vrata/transitions."""
    store.admin_only(call)
    limit = dict(call.query).get("limit", str(transitions.KEPT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise ApiError(400, f"Validation failure: limit is a number, not {limit[:20]!r}.")
    known = [column.name for column in t.transitions.columns if column.name != "id"]
    most = min(int(limit), transitions.KEPT)
    filtered = any(name != "limit" for name, _ in call.query)
    rows = transitions.newest(call.tx, transitions.KEPT if filtered else most)
    return Answer(body={"transitions": listing.kept(call, rows, listing.OCTAVIA, known=known)[:most]})


ENDPOINTS = [Endpoint("GET", "/vrata/pairs", index), Endpoint("GET", "/vrata/transitions", events)]
