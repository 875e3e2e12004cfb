"""L7 policies and their rules: create (also nested in a listener), change, move, delete under a load balancer.

Positions count from 1 without gaps: a policy that comes in pushes the later ones down, one that goes pulls them up
(octavia/db/repositories.py, L7PolicyRepository).
"""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import changes, model, rules, store
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import broken
from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.store import Row

_OWNED = {"listener_id", "project_id", "tenant_id"}
NESTED_POLICY = {name: field for name, field in model.L7POLICY.items() if name not in _OWNED}
NESTED_RULE = {name: field for name, field in model.L7RULE.items() if name not in _OWNED}
IN_LISTENER = "listener_.listener.l7policies"


def create_policy(call: Call) -> Answer:
    """POST l7policies."""
    store.authorize(call, write=True)
    values = store.checked(model.L7POLICY, call.body, "l7policy")
    if not values.get("listener_id"):
        raise changes.mandatory("listener_id")
    listener = store.find(call, t.listeners, values["listener_id"])
    balancer = store.begin_change(call, listener["load_balancer_id"])
    row = insert_policy(call, balancer, listener, values)
    store.mark(call, t.listeners, listener["id"])
    store.end_change(call, balancer)
    return changes.shown(call, t.l7policies, row["id"], 201)


def insert_nested(call: Call, balancer: Row, listener: Row, bodies: list[Any], pools: dict[str, str]) -> None:
    """Policies that come with their listener; `pools`: ids of pools that were named in the same request."""
    for body in bodies:
        values = store.checked_part(NESTED_POLICY, body, IN_LISTENER)
        pool = values.pop("redirect_pool", None)
        if pool is not None:
            values["redirect_pool_id"] = _nested_pool(call, balancer, pool, pools)
        insert_policy(call, balancer, listener, values)


def _nested_pool(call: Call, balancer: Row, body: Row, pools: dict[str, str]) -> str:
    if body.keys() == {"name"} and body["name"] in pools:
        return pools[body["name"]]
    if body.keys() <= {"name"}:
        raise store.refuse(broken(f"Pool '{body.get('name')}' was referenced but no full definition was found."))
    values = store.checked_part(model.POOL, body, f"{IN_LISTENER}.redirect_pool")
    row_id = str(store.insert_pool(call, balancer, values)["id"])
    if values["name"]:
        pools[values["name"]] = row_id
    return row_id


def insert_policy(call: Call, balancer: Row, listener: Row, values: Row) -> Row:
    """A new policy at its position, with the rules nested in it."""
    if listener["protocol"] not in rules.L7_LISTENERS:
        raise store.refuse(broken(f"L7 policies are not supported on {listener['protocol']} protocol listeners."))
    values = store.obey(rules.check_policy, values)
    _check_pool(call, balancer, listener, values)
    store.count_quota(call, balancer["project_id"], t.l7policies)
    nested = values.pop("rules", None) or []
    if len(nested) > rules.RULES_MAX:
        raise _too_many()
    dropped = {"listener_id", "redirect_pool"}
    row = store.new_row({n: value for n, value in values.items() if n not in dropped}, balancer["project_id"])
    row |= {"listener_id": listener["id"], "position": _make_room(call, listener["id"], values["position"])}
    call.tx.insert(t.l7policies, row)
    for body in nested:
        _insert_rule(call, row, store.checked_part(NESTED_RULE, body, f"{IN_LISTENER}.rules"))
    return row


def _check_pool(call: Call, balancer: Row, listener: Row, values: Row) -> None:
    if values.get("redirect_pool_id"):
        store.check_default_pool(call, balancer, listener["protocol"], values["redirect_pool_id"])


def _make_room(call: Call, listener_id: str, wanted: int) -> int:
    """The position a policy gets, the later ones moved down."""
    others = _standing(listener_id)
    count = call.tx.value(sa.select(sa.func.count()).where(others)) or 0
    position = min(wanted, count + 1)
    c = t.l7policies.c
    call.tx.execute(sa.update(t.l7policies).where(others, c.position >= position).values(position=c.position + 1))
    return int(position)


def _standing(listener_id: str) -> sa.ColumnElement[bool]:
    """The listener's policies that have a place in the order: not those on their way out or being moved."""
    c = t.l7policies.c
    return sa.and_(c.listener_id == listener_id, c.position < rules.POSITION_MAX)


def _close_gap(call: Call, row: Row) -> None:
    c = t.l7policies.c
    later = sa.and_(_standing(row["listener_id"]), c.position > row["position"])
    call.tx.execute(sa.update(t.l7policies).where(later).values(position=c.position - 1))


def update_policy(call: Call) -> Answer:
    """PUT l7policies/ID."""
    row, balancer, values = changes.begin_update(call, t.l7policies, model.L7POLICY)
    merged = store.obey(rules.check_policy, row | {n: value for n, value in values.items() if value is not None})
    listener = store.find(call, t.listeners, row["listener_id"])
    _check_pool(call, balancer, listener, merged)
    decided = ("redirect_url", "redirect_prefix", "redirect_pool_id", "redirect_http_code")
    call.tx.update(t.l7policies, row["id"], {name: merged[name] for name in decided})
    values = {name: value for name, value in values.items() if name not in decided}
    position = values.pop("position", None)
    if position is not None:
        call.tx.update(t.l7policies, row["id"], {"position": rules.POSITION_MAX})
        _close_gap(call, row)
        call.tx.update(t.l7policies, row["id"], {"position": _make_room(call, row["listener_id"], position)})
    store.mark(call, t.listeners, listener["id"])
    return changes.end_update(call, t.l7policies, model.L7POLICY, row=row, balancer=balancer, values=values)


def delete_policy(call: Call) -> Answer:
    """DELETE l7policies/ID: it stays PENDING_DELETE, behind all others, until the hosts serve without it."""
    row, balancer = changes.begin_delete(call, t.l7policies)
    _close_gap(call, row)
    gone = {"provisioning_status": "PENDING_DELETE", "updated_at": now(), "position": rules.POSITION_MAX}
    call.tx.update(t.l7policies, row["id"], gone)
    store.mark(call, t.listeners, row["listener_id"])
    store.end_change(call, balancer)
    return Answer(204)


# Rules ----------------------------------------------------------------------------------------------------------------


def _policy(call: Call, *, write: bool) -> Row:
    store.authorize(call, write=write)
    return store.find(call, t.l7policies, call.path["policy_id"])


def _rule(call: Call) -> Row:
    row = store.find(call, t.l7rules, call.path["id"])
    if row["l7policy_id"] != call.path["policy_id"]:
        raise store.not_found(t.l7rules, row["id"])
    return row


def _begin(call: Call, policy: Row) -> Row:
    balancer = store.begin_change(call, changes.balancer_of(call, t.l7policies, policy))
    store.mark(call, t.l7policies, policy["id"])
    store.mark(call, t.listeners, policy["listener_id"])
    return balancer


def _too_many() -> ApiError:
    return ApiError(409, f"An L7 policy has at most {rules.RULES_MAX} rules.")


def _insert_rule(call: Call, policy: Row, values: Row) -> Row:
    values = store.obey(rules.check_rule, values)
    store.count_quota(call, policy["project_id"], t.l7rules)
    row = store.new_row(values, policy["project_id"]) | {"l7policy_id": policy["id"]}
    call.tx.insert(t.l7rules, row)
    return row


def create_rule(call: Call) -> Answer:
    """POST l7policies/ID/rules."""
    policy = _policy(call, write=True)
    values = store.checked(model.L7RULE, call.body, "rule")
    balancer = _begin(call, policy)
    have = call.tx.value(sa.select(sa.func.count()).where(t.l7rules.c.l7policy_id == policy["id"])) or 0
    if have >= rules.RULES_MAX:
        raise _too_many()
    row = _insert_rule(call, policy, values)
    store.end_change(call, balancer)
    return changes.shown(call, t.l7rules, row["id"], 201)


def show_rule(call: Call) -> Answer:
    """GET l7policies/ID/rules/ID."""
    _policy(call, write=False)
    return changes.shown(call, t.l7rules, _rule(call)["id"])


def update_rule(call: Call) -> Answer:
    """PUT l7policies/ID/rules/ID."""
    policy = _policy(call, write=True)
    row = _rule(call)
    values = store.checked(model.L7RULE, call.body, "rule", updating=True)
    balancer = _begin(call, policy)
    given = {name: value for name, value in values.items() if value is not None or name == "key"}
    merged = store.obey(rules.check_rule, row | given)
    values = {name: merged[name] for name in values} | {"key": merged["key"]}
    return changes.end_update(call, t.l7rules, model.L7RULE, row=row, balancer=balancer, values=values)


def delete_rule(call: Call) -> Answer:
    """DELETE l7policies/ID/rules/ID."""
    policy = _policy(call, write=True)
    row = _rule(call)
    balancer = _begin(call, policy)
    call.tx.update(t.l7rules, row["id"], {"provisioning_status": "PENDING_DELETE", "updated_at": now()})
    store.end_change(call, balancer)
    return Answer(204)


RULES = "/l7policies/{policy_id}/rules"
ENDPOINTS = [
    Endpoint("POST", RULES, create_rule, write=True),
    Endpoint("GET", RULES + "/{id}", show_rule),
    Endpoint("PUT", RULES + "/{id}", update_rule, write=True),
    Endpoint("DELETE", RULES + "/{id}", delete_rule, write=True),
]
