"""New objects under one load balancer: checked without the database, then inserted with one statement for each table.

A request may hold thousands of objects. Everything that needs only its body happens in `Tree`, before the transaction;
`insert` does the rest: references, ports in use, quotas. So other tenants wait for the inserts alone.
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.balancing import model, rules, store
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import broken
from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call, now
from vrata.cloud.store import Row

OBJECTS_MAX = 4000  # of one request
CHILDREN_MAX = 10_000  # listeners, pools and members of one load balancer
_FROM_PARENT = {"loadbalancer_id", "listener_id", "project_id", "tenant_id"}  # what a nested object does not say itself
_ORDER = (t.pools, t.members, t.health_monitors, t.listeners, t.l7policies, t.l7rules)  # by foreign keys
IN_LISTENER = "listener_.listener.l7policies"


def _nested(fields: dict[str, Field]) -> dict[str, Field]:
    return {name: field for name, field in fields.items() if name not in _FROM_PARENT}


NESTED_LISTENER, NESTED_POOL = _nested(model.LISTENER), _nested(model.POOL)
NESTED_POLICY, NESTED_RULE = _nested(model.L7POLICY), _nested(model.L7RULE)


def member_key(member: Row) -> tuple[str, int]:
    """What a member is unique by in its pool: its address, however it is written, and its port."""
    address = member["address"]
    return str(ipaddress.ip_address(address)) if ":" in address else address, member["protocol_port"]


def member_in_use(member: Row) -> ApiError:
    """409 for a second member with the address and port of another."""
    return ApiError(
        409, f"Another member on this pool is already using ip {member['address']} on protocol_port "
        f"{member['protocol_port']}",
    )  # fmt: skip


def check_size(field: str, count: int, most: int = OBJECTS_MAX) -> None:
    """400 for more objects than one request may hold."""
    if count > most:
        raise ApiError(
            400, f"Validation failure: {field}: the request holds {count} objects, the maximum is {most}. Send "
            "the rest in further requests.",
        )  # fmt: skip


class Tree:
    """Rows that a request makes. `noop`: without hosts, so that SCTP is allowed."""

    def __init__(self, *, noop: bool = False) -> None:
        self.rows: dict[str, list[Row]] = {table.name: [] for table in _ORDER}
        self.outside: set[tuple[str, str]] = set()  # (protocol of a listener, id of a pool that is not in the tree)
        self._pools: dict[str, Row] = {}
        self._named: dict[str, str] = {}  # name -> id of pools that other parts of the body may name
        self._ports: dict[tuple[str, int], str] = {}
        self._noop = noop

    @classmethod
    def of_balancer(cls, values: Row, *, noop: bool) -> "Tree":
        """What is nested in the body of a load balancer. Pools first: listeners refer to them by name."""
        tree = cls(noop=noop)
        for body in values.get("pools") or ():
            tree._name(tree._checked_pool(body, f"{store.IN_TREE}.pools"))
        for body in values.get("listeners") or ():
            listener = store.checked_part(NESTED_LISTENER, body, f"{store.IN_TREE}.listeners")
            pool = listener.pop("default_pool", None)
            if pool is not None:
                listener["default_pool_id"] = tree._default_pool(pool)
            tree.add_listener(listener)
        check_size("loadbalancer", tree.size)
        return tree

    @property
    def size(self) -> int:
        """How many objects there are."""
        return sum(len(rows) for rows in self.rows.values())

    def add_pool(self, values: Row) -> Row:
        """A pool with the members and the monitor nested in it."""
        values = store.obey(model.check_pool, values, sctp=self._noop)
        row = self._add(t.pools, values)
        row["session_persistence"] = values.get("session_persistence") or None
        self._pools[row["id"]] = row
        path = f"{store.IN_TREE}.pools"
        bodies = values.get("members") or ()
        self.add_members(row["id"], [store.checked_part(model.MEMBER, one, f"{path}.members") for one in bodies])
        if values.get("healthmonitor"):
            monitor = store.checked_part(model.MONITOR, values["healthmonitor"], f"{path}.healthmonitor")
            self.add_monitor(row, monitor)
        return row

    @classmethod
    def of_members(cls, pool: Row, members: list[Row]) -> "Tree":
        """Members that another tree has made, for this pool."""
        tree = cls()
        tree.rows["members"] = [row | {"pool_id": pool["id"]} for row in members]
        return tree

    def add_members(self, pool_id: str, bodies: Iterable[Row], taken: Iterable[tuple[str, int]] = ()) -> None:
        """Members of a pool; 409 for two with one address and port, or one of `taken`."""
        seen = set(taken)
        for values in bodies:
            store.obey(model.check_member, values)
            key = member_key(values)
            if key in seen:
                raise member_in_use(values)
            seen.add(key)
            self._add(t.members, values, pool_id=pool_id, operating_status="NO_MONITOR")

    def add_monitor(self, pool: Row, values: Row) -> Row:
        """The monitor of a pool."""
        return self._add(
            t.health_monitors, store.obey(model.check_monitor, values, pool["protocol"]), pool_id=pool["id"]
        )

    def add_listener(self, values: Row) -> Row:
        """A listener with the policies nested in it; 409 for a port that another one of the tree has."""
        values = store.obey(model.check_listener, values, sctp=self._noop)
        protocol, port = values["protocol"], values["protocol_port"]
        transport = model.transport(protocol)
        self._pair(protocol, values.get("default_pool_id"))
        if (transport, port) in self._ports:
            raise port_in_use(self._ports[transport, port], port)
        self._ports[transport, port] = protocol
        cidrs = store.parsed_cidrs(values)
        row = self._add(t.listeners, values, transport=transport, allowed_cidrs=cidrs)
        order: list[Row] = []
        for body in values.get("l7policies") or ():
            policy = self.add_policy(row, store.checked_part(NESTED_POLICY, body, IN_LISTENER))
            order.insert(policy["position"] - 1, policy)
        for position, policy in enumerate(order, 1):
            policy["position"] = position
        if order:
            mine = {policy["id"] for policy in order}
            kinds = [(one["type"], one["compare_type"]) for one in self.rows["l7rules"] if one["l7policy_id"] in mine]
            store.obey(rules.check_listener_rules, kinds)
        return row

    def add_policy(self, listener: Row, values: Row) -> Row:
        """A policy with the rules nested in it, at the position that it asks for."""
        if listener["protocol"] not in rules.L7_LISTENERS:
            raise store.refuse(broken(f"L7 policies are not supported on {listener['protocol']} protocol listeners."))
        pool = values.pop("redirect_pool", None)
        if pool is not None:
            values["redirect_pool_id"] = self._redirect_pool(pool)
        values = store.obey(rules.check_policy, values)
        self._pair(listener["protocol"], values.get("redirect_pool_id"))
        nested = values.get("rules") or ()
        if len(nested) > rules.RULES_MAX:
            raise too_many_rules()
        row = self._add(t.l7policies, values, listener_id=listener["id"])
        for body in nested:
            self.add_rule(row, store.checked_part(NESTED_RULE, body, f"{IN_LISTENER}.rules"))
        return row

    def add_rule(self, policy: Row, values: Row) -> Row:
        """A rule of a policy."""
        return self._add(t.l7rules, store.obey(rules.check_rule, values), l7policy_id=policy["id"])

    def _add(self, table: sa.Table, values: Row, **more: Any) -> Row:
        """A row with every column, so that all rows of a table fit into one statement."""
        blank = _blank(table)
        given = {name: value for name, value in (values | more).items() if name in blank}
        kept = {name: value for name, value in given.items() if value is not None or blank[name] is None}
        row = blank | {"provisioning_status": "PENDING_CREATE", "operating_status": "OFFLINE"} | kept
        row |= {"id": ids.new_uuid(), "created_at": now(), "updated_at": None}
        self.rows[table.name].append(row)
        return row

    def _checked_pool(self, body: Any, path: str) -> Row:
        return store.checked_part(NESTED_POOL, body, path)

    def _name(self, values: Row) -> str:
        """The id of a new pool that other parts of the body may name."""
        if values["name"] in self._named:
            raise store.refuse(broken("Pool names must be unique when creating a fully populated loadbalancer."))
        self._named[values["name"]] = row_id = str(self.add_pool(values)["id"])
        return row_id

    def _default_pool(self, body: Row) -> str:
        name = body.get("name")
        if name and body.keys() == {"name"}:
            if name not in self._named:
                raise ApiError(
                    400, f"Validation failure: Pool '{name}' was referenced but no full definition was found."
                )
            return self._named[name]
        values = self._checked_pool(body, f"{store.IN_TREE}.listeners.default_pool")
        if not values["name"]:
            raise ApiError(400, "Validation failure: Pools must be named when creating a fully populated loadbalancer.")
        return self._name(values)

    def _redirect_pool(self, body: Row) -> str:
        if body.keys() == {"name"} and body["name"] in self._named:
            return self._named[body["name"]]
        if body.keys() <= {"name"}:
            raise store.refuse(broken(f"Pool '{body.get('name')}' was referenced but no full definition was found."))
        values = store.checked_part(model.POOL, body, f"{IN_LISTENER}.redirect_pool")
        row_id = str(self.add_pool(values)["id"])
        if values["name"]:
            self._named[values["name"]] = row_id
        return row_id

    def _pair(self, protocol: str, pool_id: str | None) -> None:
        """400 for a pool of the tree that a listener of this protocol cannot have; others are looked up later."""
        if pool_id in self._pools:
            store.obey(model.check_pair, protocol, self._pools[pool_id]["protocol"])
        elif pool_id is not None:
            self.outside.add((protocol, pool_id))


@functools.cache
def _blank(table: sa.Table) -> Row:
    """Every column with its default."""
    return {column.name: _default(column) for column in table.columns}


def _default(column: sa.Column[Any]) -> Any:
    default = column.server_default
    if default is None:
        return None
    assert isinstance(default, sa.DefaultClause)
    if isinstance(default.arg, str):
        return default.arg
    text = str(default.arg)
    return text == "true" if text in {"true", "false"} else int(text)


def port_in_use(protocol: str, port: int) -> ApiError:
    """409 for a second listener on a port."""
    return ApiError(
        409, f"Another Listener on this Load Balancer is already using protocol {protocol} and protocol_port {port}"
    )


def too_many_rules() -> ApiError:
    """409 for more rules than a policy may have."""
    return ApiError(409, f"An L7 policy has at most {rules.RULES_MAX} rules.")


def insert(call: Call, balancer: Row, tree: Tree, *, new: bool = False) -> None:
    """Store a tree under a load balancer that is locked; `new`: one that has nothing yet.

    403 for a quota that is met, 409 for a port in use, 404 for a pool that is not there, 400 for a reference.
    """
    listeners, pools = tree.rows["listeners"], tree.rows["pools"]
    for row in listeners:
        store.check_references(call, row, ("default_tls_container_ref", "sni_container_refs"), store.CA_AND_CRL)
        store.check_cidrs(balancer, row["allowed_cidrs"])
    for row in pools:
        store.check_references(call, row, ("tls_container_ref",), store.POOL_CA_AND_CRL)
    _check_outside(call, balancer, tree.outside)
    if not new:
        _check_ports(call, balancer, listeners)
        _check_room(call, balancer, tree.size)
    for table in _ORDER:
        rows = tree.rows[table.name]
        if not rows:
            continue
        store.count_quota(call, balancer["project_id"], table, len(rows))
        for row in rows:
            row["project_id"] = balancer["project_id"]
            if "load_balancer_id" in row:
                row["load_balancer_id"] = balancer["id"]
        call.tx.insert(table, rows)


def _check_outside(call: Call, balancer: Row, outside: set[tuple[str, str]]) -> None:
    wanted = {pool_id for _, pool_id in outside}
    found = {row["id"]: row for row in call.tx.some(sa.select(t.pools), t.pools.c.id, wanted)}
    for protocol, pool_id in sorted(outside):
        pool = found.get(pool_id)
        if pool is None or pool["load_balancer_id"] != balancer["id"]:
            raise ApiError(404, f"Pool {pool_id} not found.")
        store.obey(model.check_pair, protocol, pool["protocol"])


def _check_ports(call: Call, balancer: Row, listeners: Sequence[Row]) -> None:
    if not listeners:
        return
    c = t.listeners.c
    mine = sa.select(c.transport, c.protocol_port, c.protocol).where(c.load_balancer_id == balancer["id"])
    taken = {(transport, port): protocol for transport, port, protocol in call.tx.connection.execute(mine)}
    for row in listeners:
        key = row["transport"], row["protocol_port"]
        if key in taken:
            raise port_in_use(taken[key], row["protocol_port"])


def _check_room(call: Call, balancer: Row, more: int) -> None:
    """409 if the load balancer would have more objects than hosts are asked to serve and report."""
    mine = sa.select(t.pools.c.id).where(t.pools.c.load_balancer_id == balancer["id"])
    counted = [
        t.members.c.pool_id.in_(mine),
        *(table.c.load_balancer_id == balancer["id"] for table in (t.pools, t.listeners)),
    ]
    counts = (sa.select(sa.func.count()).where(one).scalar_subquery() for one in counted)
    have = sum(next(iter(call.tx.connection.execute(sa.select(*counts)))))
    if have + more > CHILDREN_MAX:
        raise ApiError(
            409, f"Load balancer {balancer['id']} has {have} listeners, pools and members; {more} more would exceed the "
            f"maximum of {CHILDREN_MAX}. Use another load balancer.",
        )  # fmt: skip
