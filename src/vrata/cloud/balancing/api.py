"""Balancing's HTTP endpoints: lists of everything, versions, providers, quotas, and what answers 501 for now."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud import listing, openapi
from vrata.cloud.balancing import (
    amphorae,
    balancers,
    changes,
    children,
    flavors,
    hosts,
    l7,
    model,
    pairs,
    policy,
    store,
    view,
)
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.policy import Rule
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.keymanager import material
from vrata.cloud.store import Row

MINOR = 30  # the newest minor version whose behaviour this API has
QUOTA_MAX = 2_000_000_000
QUOTAS = ("loadbalancer", "listener", "pool", "member", "healthmonitor", "l7policy", "l7rule")
_ALIAS = {"load_balancer": "loadbalancer", "health_monitor": "healthmonitor"}
_IN_DATABASE = frozenset({"id", "name", "vip_address", "vip_port_id", "vip_subnet_id", "address"})
# collection -> table, fields, relations that a filter may name
Listed = tuple[sa.Table, dict[str, Any], dict[str, sa.Column[Any]]]
LISTS: dict[str, Listed] = {
    "loadbalancers": (t.load_balancers, model.LOAD_BALANCER, {}),
    "listeners": (
        t.listeners, model.LISTENER,
        {"loadbalancer_id": t.listeners.c.load_balancer_id, "load_balancer_id": t.listeners.c.load_balancer_id},
    ),
    "pools": (
        t.pools, model.POOL,
        {"loadbalancer_id": t.pools.c.load_balancer_id, "load_balancer_id": t.pools.c.load_balancer_id},
    ),
    "healthmonitors": (t.health_monitors, model.MONITOR, {"pool_id": t.health_monitors.c.pool_id}),
    "l7policies": (t.l7policies, model.L7POLICY, {}),
}  # fmt: skip


def _index(collection: str) -> Any:
    table = LISTS[collection][0]
    show = changes.SINGULAR[table.name][1]

    def serve(call: Call) -> Answer:
        store.authorize(call, write=False)
        query = sa.select(table)
        if not store.everywhere(call):
            query = query.where(table.c.project_id == call.caller.project_id)
        return Answer(body=_page(call, query, collection, LISTS[collection], show))

    return serve


def _page(call: Call, query: sa.Select[Any], collection: str, listed: Listed, show: Any) -> dict[str, Any]:
    """One page; what SQL can filter it filters."""
    table, fields, relations = listed
    asked: dict[str, set[str]] = {}
    for name, value in call.query:
        if name in relations or (name in _IN_DATABASE and name in table.c):
            asked.setdefault(name, set()).add(value)
    for name, values in asked.items():  # two different values of one attribute match nothing
        column = relations[name] if name in relations else table.c[name]
        query = query.where(column == values.pop() if len(values) == 1 else sa.false())
    rows = show(call, call.tx.all(query.order_by(table.c.created_at, table.c.id)))
    known = sorted(
        {*fields, *(column.name for column in table.columns), "loadbalancers", "members", "healthmonitor_id"}
    )
    return listing.page(call, rows, collection, listing.OCTAVIA, known=known, done=frozenset(asked))


def _members(call: Call) -> Answer:
    store.authorize(call, write=False)
    pool = store.find(call, t.pools, call.path["pool_id"])
    query = sa.select(t.members).where(t.members.c.pool_id == pool["id"])
    return Answer(
        body=_page(call, query, "members", (t.members, model.MEMBER, {"pool_id": t.members.c.pool_id}), view.members)
    )


def _rules(call: Call) -> Answer:
    store.authorize(call, write=False)
    policy = store.find(call, t.l7policies, call.path["policy_id"])
    query = sa.select(t.l7rules).where(t.l7rules.c.l7policy_id == policy["id"])
    return Answer(
        body=_page(
            call, query, "rules", (t.l7rules, model.L7RULE, {"l7policy_id": t.l7rules.c.l7policy_id}), view.l7rules
        )
    )


def _show(table: sa.Table) -> Any:
    name, show = changes.SINGULAR[table.name]

    def serve(call: Call) -> Answer:
        store.authorize(call, write=False)
        rows = show(call, [store.find(call, table, call.path["id"])])
        return Answer(body={name: listing.select_fields(call, rows)[0]})

    return serve


def _crud(path: str, table: sa.Table, create: Any, update: Any, remove: Any, parse: Any = None) -> list[Endpoint]:
    prepare = material.prepare if table in {t.load_balancers, t.listeners, t.pools} else None
    return [
        Endpoint("GET", f"/{path}", _index(path)),
        Endpoint("POST", f"/{path}", create, write=True, prepare=prepare, prepare_for=material.MENTION, parse=parse),
        Endpoint("GET", f"/{path}/{{id}}", _show(table)),
        Endpoint("PUT", f"/{path}/{{id}}", update, write=True, prepare=prepare, prepare_for=material.MENTION),
        Endpoint("DELETE", f"/{path}/{{id}}", remove, write=True),
    ]


def _versions(call: Call) -> Answer:
    links = [{"href": f"{call.base_url}/load-balancer/v2", "rel": "self"}]
    versions = [
        {
            "id": f"v2.{minor}", "status": "CURRENT" if minor == MINOR else "SUPPORTED",
            "updated": "2024-01-01T00:00:00Z", "links": links,
        }
        for minor in range(MINOR + 1)
    ]  # fmt: skip
    return Answer(body={"versions": versions})


def _healthcheck(_call: Call) -> Answer:
    return Answer(body={"status": "OK"})


def _providers(call: Call) -> Answer:
    store.authorize(call, write=False)
    rows = [{"name": name, "description": text} for name, text in model.PROVIDERS.items()]
    rows = listing.kept(call, rows, listing.OCTAVIA, known=("name", "description"))
    return Answer(body={"providers": listing.select_fields(call, rows)})


# Quotas ---------------------------------------------------------------------------------------------------------------


def _quota_of(call: Call, project_id: str) -> Row:
    row = call.tx.get(t.quotas, project_id) or {}
    defaults = dict(call.settings.balancing_quotas)
    shown = {name: defaults[name] if row.get(name) is None else row[name] for name in QUOTAS}
    return shown | {alias: shown[name] for alias, name in _ALIAS.items()}


def _own_quota(call: Call) -> str:
    project_id = call.path["project_id"]
    if project_id != call.caller.project_id:
        store.demand(call, Rule.READ_QUOTA_GLOBAL)
    return project_id


def _show_quota(call: Call) -> Answer:
    store.demand(call, Rule.READ_QUOTA)
    return Answer(body={"quota": _quota_of(call, _own_quota(call))})


def _default_quota(call: Call) -> Answer:
    store.demand(call, Rule.READ_QUOTA)
    return Answer(body={"quota": _quota_of(call, "")})


def _list_quotas(call: Call) -> Answer:
    store.demand(call, Rule.READ_QUOTA)
    query = sa.select(t.quotas.c.project_id).order_by(t.quotas.c.project_id)
    if not policy.allows(call.settings.rbac, Rule.READ_QUOTA_GLOBAL, call.caller):
        query = query.where(t.quotas.c.project_id == call.caller.project_id)
    rows = [_quota_of(call, one) | {"project_id": one, "tenant_id": one} for one in call.tx.column(query)]
    rows = listing.kept(call, rows, listing.OCTAVIA, known=(*QUOTAS, *_ALIAS, "project_id"))
    return Answer(body={"quotas": rows, "quotas_links": []})


def _set_quota(call: Call) -> Answer:
    store.demand(call, Rule.WRITE_QUOTA)
    project_id = call.path["project_id"]
    asked = call.body.get("quota") if isinstance(call.body, dict) else None
    if not isinstance(asked, dict):
        raise ApiError(400, 'Missing argument: "quota"')
    values: Row = {}
    for raw, value in asked.items():
        name = _ALIAS.get(raw, raw)
        if name not in QUOTAS:
            raise store.unknown_attributes("quotas.quota", {raw})
        if raw != name and name in asked:
            continue
        if value is not None and not (type(value) is int and -1 <= value <= QUOTA_MAX):
            bound = f"lower or equal to {QUOTA_MAX}" if type(value) is int and value > 0 else "greater or equal to -1"
            raise ApiError(400, f"Invalid input for field/attribute {raw}. Value: '{value}'. Value should be {bound}")
        values[name] = value
    if call.tx.lock(t.quotas, project_id) is None:
        call.tx.insert(t.quotas, {"project_id": project_id, **values})
    else:
        call.tx.update(t.quotas, project_id, values)
    return Answer(202, {"quota": _quota_of(call, project_id)})


def _reset_quota(call: Call) -> Answer:
    store.demand(call, Rule.WRITE_QUOTA)
    call.tx.execute(sa.delete(t.quotas).where(t.quotas.c.project_id == call.path["project_id"]))
    return Answer(202)


ROOT = [Endpoint("GET", "", _versions, public=True), Endpoint("GET", "/", _versions, public=True)]
HEALTH = [Endpoint("GET", "/healthcheck", _healthcheck, public=True)]

ENDPOINTS = [
    *balancers.ENDPOINTS,
    *_crud("loadbalancers", t.load_balancers, balancers.create, balancers.update, balancers.delete, balancers.parse),
    Endpoint("GET", "/listeners/{id}/stats", children.listener_stats),
    *_crud(
        "listeners", t.listeners, children.create_listener, children.update_listener, children.delete(t.listeners),
        children.parse_listener,
    ),
    *_crud("pools", t.pools, children.create_pool, children.update_pool, children.delete(t.pools), children.parse_pool),
    Endpoint("GET", "/pools/{pool_id}/members", _members),
    Endpoint("POST", "/pools/{pool_id}/members", children.create_member, write=True),
    Endpoint("PUT", "/pools/{pool_id}/members", children.batch_members, write=True, parse=children.parse_members),
    Endpoint("GET", "/pools/{pool_id}/members/{id}", children.show_member),
    Endpoint("PUT", "/pools/{pool_id}/members/{id}", children.update_member, write=True),
    Endpoint("DELETE", "/pools/{pool_id}/members/{id}", children.delete(t.members), write=True),
    *_crud(
        "healthmonitors", t.health_monitors, children.create_monitor, children.update_monitor,
        children.delete(t.health_monitors),
    ),
    Endpoint("GET", "/providers", _providers),
    Endpoint("GET", "/quotas", _list_quotas),
    Endpoint("GET", "/quotas/default", _default_quota),
    Endpoint("GET", "/quotas/defaults", _default_quota),
    Endpoint("GET", "/quotas/{project_id}/default", _default_quota),
    Endpoint("GET", "/quotas/{project_id}", _show_quota),
    Endpoint("PUT", "/quotas/{project_id}", _set_quota, write=True),
    Endpoint("DELETE", "/quotas/{project_id}", _reset_quota, write=True),
    *_crud("l7policies", t.l7policies, l7.create_policy, l7.update_policy, l7.delete_policy),
    Endpoint("GET", l7.RULES, _rules),
    *l7.ENDPOINTS,
    *flavors.ENDPOINTS,
    *amphorae.ENDPOINTS,
    *hosts.ENDPOINTS,
    *pairs.ENDPOINTS,
]  # fmt: skip

BODIES = {
    "loadbalancers": ("loadbalancer", model.LOAD_BALANCER), "listeners": ("listener", model.LISTENER),
    "pools": ("pool", model.POOL), "members": ("member", model.MEMBER),
    "healthmonitors": ("healthmonitor", model.MONITOR), "l7policies": ("l7policy", model.L7POLICY),
    "rules": ("rule", model.L7RULE), **{kind.path: (kind.wrapper, kind.fields) for kind in flavors.KINDS},
}  # fmt: skip
DESCRIPTION = [
    openapi.endpoint("/openapi.json", ENDPOINTS, "/load-balancer/v2.0/lbaas", BODIES, f"2.{MINOR}"),
]
