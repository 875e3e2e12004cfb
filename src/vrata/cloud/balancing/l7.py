"""L7 policies and their rules: create (also nested in a listener), change, move, delete under a load balancer.

Positions count from 1 without gaps: a policy that comes in pushes the later ones down, one that goes pulls them up
(octavia/db/repositories.py, L7PolicyRepository).
"""

import sqlalchemy as sa

from vrata.cloud.balancing import changes, model, rules, store
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.tree import Tree, insert, too_many_rules
from vrata.cloud.http import Answer, Call, Endpoint, now
from vrata.cloud.store import Row


def create_policy(call: Call) -> Answer:
    """POST l7policies."""
    store.authorize(call, write=True)
    values = store.checked(model.L7POLICY, call.body, "l7policy")
    if not values.get("listener_id"):
        raise changes.mandatory("listener_id")
    listener = store.find(call, t.listeners, values["listener_id"])
    balancer = store.begin_change(call, listener["load_balancer_id"])
    tree = Tree(noop=call.settings.noop)
    row = tree.add_policy(listener, values)
    row["position"] = _make_room(call, listener["id"], row["position"])
    insert(call, balancer, tree)
    _check_listener(call, row)
    store.mark(call, t.listeners, listener["id"])
    store.end_change(call, balancer)
    return changes.shown(call, t.l7policies, row["id"], 201)


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


def _check_listener(call: Call, policy: Row) -> None:
    """Whether all rules of a policy's listener, with what was written just now, are few enough."""
    of_listener = sa.select(t.l7policies.c.id).where(t.l7policies.c.listener_id == policy["listener_id"])
    columns = sa.select(t.l7rules.c.type, t.l7rules.c.compare_type).where(t.l7rules.c.l7policy_id.in_(of_listener))
    store.obey(rules.check_listener_rules, [(row["type"], row["compare_type"]) for row in call.tx.all(columns)])


def create_rule(call: Call) -> Answer:
    """POST l7policies/ID/rules."""
    policy = _policy(call, write=True)
    values = store.checked(model.L7RULE, call.body, "rule")
    balancer = _begin(call, policy)
    have = call.tx.value(sa.select(sa.func.count()).where(t.l7rules.c.l7policy_id == policy["id"])) or 0
    if have >= rules.RULES_MAX:
        raise too_many_rules()
    tree = Tree()
    row = tree.add_rule(policy, values)
    insert(call, balancer, tree)
    _check_listener(call, policy)
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
    kind = {name: merged[name] for name in ("type", "compare_type")}
    if any(row[name] != value for name, value in kind.items()):
        call.tx.update(t.l7rules, row["id"], kind)
        _check_listener(call, policy)
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
