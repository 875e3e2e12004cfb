"""Load balancers: create with everything nested, show, change, delete with or without cascade, failover, statuses."""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.balancing import carry, flavors, model, status, store, view, vip
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.status import Event
from vrata.cloud.balancing.tree import Tree, insert
from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row


def parse(settings: Settings, body: Any) -> tuple[Row, Tree]:
    """The body of a new load balancer, and what is nested in it."""
    values = store.checked(model.LOAD_BALANCER, body, "loadbalancer")
    return values, Tree.of_balancer(values, noop=settings.noop)


def create(call: Call) -> Answer:
    """POST: the whole tree in one transaction."""
    store.authorize(call, write=True)
    given, tree = call.parsed()
    values = dict(given)
    project_id = values.pop("tenant_id", None) or values.get("project_id") or call.caller.project_id
    if project_id is None:
        raise ApiError(400, "Missing project ID in request where one is required.")
    if project_id != call.caller.project_id:
        store.admin_only(call)
    provider = _supported(values)
    store.count_quota(call, project_id, t.load_balancers)
    flavors.chosen_flavor(call, values.get("flavor_id"))
    row: Row = {
        "id": ids.new_uuid(), "created_at": now(), "updated_at": None, "provisioning_status": "PENDING_CREATE",
        "operating_status": "OFFLINE", "generation": 1,
        **{name: values[name] for name in ("name", "description", "admin_state_up", "tags")},
        "vip_qos_policy_id": values.get("vip_qos_policy_id"), "vip_vnic_type": "normal", "provider": provider,
        "project_id": project_id, "flavor_id": values.get("flavor_id"),
        "availability_zone": values.get("availability_zone"),
    }  # fmt: skip
    row["topology"] = flavors.flavor_of(call.tx, row).loadbalancer_topology or "ACTIVE_STANDBY"
    row |= vip.take_vip(call, row["id"], values | {"project_id": project_id})
    flavors.chosen_zone(call, row["availability_zone"], row["vip_network_id"])
    call.tx.insert(t.load_balancers, row)
    insert(call, row, tree, new=True)
    carry.place_balancer(call.tx, row, call.settings)
    made = store.find(call, t.load_balancers, row["id"])
    if tree.size:
        return Answer(201, later=lambda: {"loadbalancer": _expanded(made, tree)})
    return Answer(201, {"loadbalancer": view.load_balancers(call, [made])[0]})


def _supported(values: Row) -> str:
    provider = values.pop("provider", None) or model.DEFAULT_PROVIDER
    if provider not in model.PROVIDERS:
        raise ApiError(400, f"Provider '{provider}' is not enabled.")
    return str(provider)


def _expanded(balancer: Row, tree: Tree) -> Row:
    """After a fully populated create Octavia answers with the objects, not only their ids."""
    made = view.Made(tree.rows)
    pools = view.pools(made, tree.rows["pools"])
    members, monitors = _by(tree.rows["members"], "pool_id"), _by(tree.rows["health_monitors"], "pool_id")
    for pool in pools:
        pool["members"] = view.members(made, members[pool["id"]])
        mine = view.monitors(made, monitors[pool["id"]])
        pool["healthmonitor"] = mine[0] if mine else None
        pool.pop("healthmonitor_id", None)
        del pool["loadbalancers"]
    rules = _by(tree.rows["l7rules"], "l7policy_id")
    policies = view.l7policies(made, sorted(tree.rows["l7policies"], key=lambda row: int(row["position"])))
    for policy in policies:
        policy["rules"] = view.l7rules(made, rules[policy["id"]])
    shown = _by(policies, "listener_id")
    listeners = view.listeners(made, tree.rows["listeners"])
    for listener in listeners:
        del listener["loadbalancers"]
        listener["l7policies"] = shown[listener["id"]]
    return view.load_balancers(made, [balancer])[0] | {"listeners": listeners, "pools": pools}


def _by(rows: list[Row], name: str) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        out[row[name]].append(row)
    return out


def _children(table: sa.Table, balancer_id: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.load_balancer_id == balancer_id).order_by(table.c.created_at, table.c.id)


def _lock(call: Call, event: Event) -> Row:
    """The load balancer of the path, locked; 409 where its state refuses the event."""
    store.authorize(call, write=True)
    row = store.find(call, t.load_balancers, call.path["id"])
    row = call.tx.lock(t.load_balancers, row["id"]) or row
    if status.after(row["provisioning_status"], event) is None:
        raise ApiError(409, f"Invalid state {row['provisioning_status']} of loadbalancer resource {row['id']}")
    return row


def update(call: Call) -> Answer:
    """PUT: the administrative state, further VIPs and security groups change what is served."""
    row = _lock(call, Event.CHANGE)
    values = store.checked(model.LOAD_BALANCER, call.body, "loadbalancer", updating=True)
    values = {
        name: ("" if value is None and name in {"name", "description"} else value) for name, value in values.items()
    }
    values |= vip.change(call, row, values)
    call.tx.update(t.load_balancers, row["id"], values | {"updated_at": now()})
    if any(values.get(name, row[name]) != row[name] for name in ("admin_state_up", "additional_vips", "vip_sg_ids")):
        store.end_change(call, row)
        store.settle_now(call, row["id"])
    return Answer(body={"loadbalancer": view.load_balancers(call, [store.find(call, t.load_balancers, row["id"])])[0]})


def delete(call: Call) -> Answer:
    """DELETE: the instances leave; rows and ports go when no live host reports them any more."""
    row = _lock(call, Event.DELETE)
    if not call.flag("cascade"):
        for table in (t.listeners, t.pools):
            if call.tx.value(_children(table, row["id"])):
                raise ApiError(400, f"Validation failure: Cannot delete Load Balancer {row['id']} - it has children")
    call.tx.update(t.load_balancers, row["id"], {"provisioning_status": "PENDING_DELETE", "updated_at": now()})
    for table in (t.listeners, t.pools):
        call.tx.execute(
            sa.update(table).where(table.c.load_balancer_id == row["id"]).values(provisioning_status="PENDING_DELETE")
        )
    alive = set(call.tx.column(sa.select(t.hosts.c.name).where(t.hosts.c.alive)))
    carried = carry.instances_of(call.tx, row["id"])
    for instance in carried:
        if instance["host"] in alive:
            carry.leave(call.tx, instance["id"])
    carry.remove(call.tx, [instance for instance in carried if instance["host"] not in alive])
    store.settle_now(call, row["id"])
    return Answer(204)


def failover(call: Call) -> Answer:
    """PUT failover: others take the place of its instances, the standby's first; nothing that is served ends by it."""
    store.admin_only(call)
    row = _lock(call, Event.FAILOVER)
    carry.replace(
        call.tx, [one["id"] for one in carry.instances_of(call.tx, row["id"]) if not one["leaving"]], call.settings
    )
    call.tx.update(t.load_balancers, row["id"], {"provisioning_status": "PENDING_UPDATE"})
    carry.raise_generation(call.tx, t.load_balancers, row["id"])
    store.settle_now(call, row["id"])
    return Answer(202)


def stats(call: Call) -> Answer:
    """GET stats."""
    store.authorize(call, write=False)
    return Answer(body=view.stats(call, store.find(call, t.load_balancers, call.path["id"])["id"]))


def tree(call: Call) -> Answer:
    """GET status."""
    store.authorize(call, write=False)
    return Answer(body=view.status_tree(call, store.find(call, t.load_balancers, call.path["id"])))


ENDPOINTS = [
    Endpoint("PUT", "/loadbalancers/{id}/failover", failover, write=True),
    Endpoint("GET", "/loadbalancers/{id}/stats", stats),
    Endpoint("GET", "/loadbalancers/{id}/status", tree),
    Endpoint("GET", "/loadbalancers/{id}/statuses", tree),
]
