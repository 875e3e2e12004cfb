"""Reads and writes Octavia's tree: finds rows for a caller, locks their load balancer, counts quota.

Every change of a tree goes through `begin_change`, which holds the load balancer's row for the transaction and lets
only legal transitions of `status.py` pass.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from vrata.base.errors import InvalidInput
from vrata.cloud.balancing import carry, model, policy, settle, status
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import Broken
from vrata.cloud.balancing.policy import Rule
from vrata.cloud.balancing.status import Event
from vrata.cloud.fields import Field, Problem, parse
from vrata.cloud.http import ApiError, Call, Dialect, now
from vrata.cloud.keymanager.material import Reader
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.store import Row

# table -> the sentence's noun and the quota's name
NOUNS = {
    "load_balancers": ("Load Balancer", "loadbalancer"), "listeners": ("Listener", "listener"),
    "pools": ("Pool", "pool"), "members": ("Member", "member"), "health_monitors": ("Health Monitor", "healthmonitor"),
    "l7policies": ("L7 Policy", "l7policy"), "l7rules": ("L7 Rule", "l7rule"), "flavors": ("Flavor", ""),
    "flavor_profiles": ("Flavor Profile", ""), "availability_zones": ("Availability Zone", ""),
    "availability_zone_profiles": ("Availability Zone Profile", ""),
}  # fmt: skip

# what Octavia calls the argument that holds a body
_ARGUMENTS = {
    "loadbalancer": "load_balancer", "listener": "listener_", "pool": "pool_", "member": "member_",
    "healthmonitor": "health_monitor_", "l7policy": "l7policy", "rule": "rule_", "flavor": "flavor_",
    "flavorprofile": "flavor_profile_", "availability_zone": "availability_zone_",
    "availability_zone_profile": "availability_zone_profile_",
}  # fmt: skip
IN_TREE = "load_balancer.loadbalancer"  # the path of what is nested in a load balancer

DIALECT = Dialect(
    "load-balancer",
    lambda error: (
        {"error": {"code": 401, "message": error.message, "title": "Unauthorized"}}
        if error.status == 401
        else {
            "faultcode": "Client" if error.status < 500 else "Server",
            "faultstring": error.message,
            "debuginfo": None,
        }
    ),
    "Request is not in valid JSON format",
)


DENIED = "Policy does not allow this request to be performed."


def authorize(call: Call, *, write: bool) -> None:
    """403 unless the caller has a role for it."""
    demand(call, Rule.WRITE if write else Rule.READ)


def demand(call: Call, rule: Rule) -> None:
    """403 unless the caller satisfies the rule."""
    if not policy.allows(call.settings.rbac, rule, call.caller):
        raise ApiError(403, DENIED)


def everywhere(call: Call) -> bool:
    """Whether the caller may do this in other projects, too."""
    rule = Rule.READ_GLOBAL if call.method in {"GET", "HEAD"} else Rule.ADMIN
    return policy.allows(call.settings.rbac, rule, call.caller)


def admin_only(call: Call) -> None:
    """403 for everybody but admins of balancing."""
    demand(call, Rule.ADMIN)


def not_found(table: sa.Table, row_id: str) -> ApiError:
    """404 as Octavia words it."""
    return ApiError(404, f"{NOUNS[table.name][0]} {row_id} not found.")


def find(call: Call, table: sa.Table, row_id: str) -> Row:
    """The row; 404 if it is not there, 403 if it is another project's."""
    row = call.tx.get(table, row_id)
    if row is None:
        raise not_found(table, row_id)
    if row["project_id"] != call.caller.project_id and not everywhere(call):
        raise ApiError(403, DENIED)
    return row


def unknown_attributes(path: str, names: Iterable[str]) -> ApiError:
    """400 as Octavia words attributes that it does not know."""
    names = sorted(names)
    return ApiError(400, f"Unknown attribute{'s' * (len(names) > 1)} for argument {path}: {', '.join(names)}")


def checked(fields: dict[str, Field], body: Any, wrapper: str, *, updating: bool = False) -> Row:
    """The values of a body that comes in a wrapper, 400 with Octavia's sentence for a wrong one."""
    argument = _ARGUMENTS[wrapper]
    if not isinstance(body, dict):
        raise ApiError(400, f'Missing argument: "{argument}"')
    if body.keys() - {wrapper}:
        raise unknown_attributes(argument, body.keys() - {wrapper})
    return checked_part(fields, body.get(wrapper), f"{argument}.{wrapper}", updating=updating)


def checked_part(fields: dict[str, Field], inner: Any, path: str, *, updating: bool = False) -> Row:
    """The values of an object at this path of a body."""
    if not isinstance(inner, dict):
        raise ApiError(400, f'Missing argument: "{path}"')
    unknown = {name for name in inner if name not in fields or (updating and not fields[name].update)}
    if unknown:
        raise unknown_attributes(path, unknown)
    try:
        return parse(inner, fields, updating=updating)
    except Problem as problem:
        raise ApiError(
            400, f"Invalid input for field/attribute {problem.name}. Value: '{problem.value}'. {problem.why}"
        ) from problem


def refuse(error: Broken) -> ApiError:
    """A broken rule as a refusal."""
    return ApiError(error.status, error.message)


def count_quota(call: Call, project_id: str, table: sa.Table, more: int = 1) -> None:
    """403 if the project would have more of these than its quota."""
    name = NOUNS[table.name][1]
    row = call.tx.lock(t.quotas, project_id)
    own = None if row is None else row[name]
    limit = dict(call.settings.balancing_quotas)[name] if own is None else own
    if limit < 0:
        return
    if row is None:  # a default is in force: the row is what simultaneous creates wait for
        call.tx.insert(t.quotas, {"project_id": project_id})
    have = call.tx.value(sa.select(sa.func.count()).select_from(table).where(table.c.project_id == project_id))
    if have + more > limit:
        raise ApiError(403, f"Quota has been met for resources: {name.capitalize()}")


def begin_change(call: Call, balancer_id: str) -> Row:
    """Lock a load balancer for a change of something under it; 409 while it is immutable."""
    balancer = call.tx.lock(t.load_balancers, balancer_id)
    if balancer is None:
        raise not_found(t.load_balancers, balancer_id)
    if status.after(balancer["provisioning_status"], Event.CHANGE) is None:
        raise ApiError(409, f"Load Balancer {balancer_id} is immutable and cannot be updated.")
    return balancer


def end_change(call: Call, balancer: Row, *, pool_id: str | None = None) -> None:
    """The tree changed: PENDING_UPDATE, a new generation, and the hosts hear of it."""
    tx = call.tx
    state = status.after(balancer["provisioning_status"], Event.CHANGE)
    assert state is not None
    tx.update(t.load_balancers, balancer["id"], {"provisioning_status": state, "updated_at": now()})
    if pool_id is not None:
        mark(call, t.pools, pool_id)
        listeners = tx.column(sa.select(t.listeners.c.id).where(t.listeners.c.default_pool_id == pool_id))
        for listener_id in listeners:
            mark(call, t.listeners, listener_id)
    carry.raise_generation(tx, t.load_balancers, balancer["id"])


def mark(call: Call, table: sa.Table, row_id: str) -> None:
    """An ACTIVE object is PENDING_UPDATE now; any other state stays."""
    call.tx.execute(
        sa.update(table)
        .where(table.c.id == row_id, table.c.provisioning_status.in_(["ACTIVE", "ERROR"]))
        .values(provisioning_status="PENDING_UPDATE")
    )


def settle_now(call: Call, balancer_id: str) -> None:
    """If the hosts have nothing to do the change is over already."""
    settle.settle(call.tx, balancer_id, call.settings)


# Children -------------------------------------------------------------------------------------------------------------


def obey(rule: Any, *values: Any, **options: Any) -> Any:
    """What a rule makes of the values; its refusal as an answer."""
    try:
        return rule(*values, **options)
    except Broken as error:
        raise refuse(error) from error


CA_AND_CRL = ("client_ca_tls_container_ref", "client_crl_container_ref")
POOL_CA_AND_CRL = ("ca_tls_container_ref", "crl_container_ref")


def check_references(call: Call, values: Row, certificates: tuple[str, ...], ca_and_crl: tuple[str, str]) -> None:
    """400 unless the caller may read what the references name, and it is what it should be."""
    if call.settings.noop or not any(values.get(name) for name in (*certificates, *ca_and_crl)):
        return
    named = [(name, values.get(name) or []) for name in certificates]
    refs = [(name, ref) for name, given in named for ref in ([given] if isinstance(given, str) else given)]
    bad = [ref for name, ref in refs if _refusal(call, "certificate", name, ref) is not None]
    if bad:
        raise ApiError(400, f"Could not retrieve certificate: {bad}")
    for name, kind, what in zip(ca_and_crl, ("authorities", "revocations"), ("CA certificate", "CRL"), strict=True):
        error = _refusal(call, kind, name, values[name]) if values.get(name) else None
        if error is not None:
            raise ApiError(
                400, f"The {name} {what} is invalid. It must be a valid x509 PEM format {what}. Error: {error}"
            ) from error


def _refusal(call: Call, kind: str, name: str, ref: str) -> InvalidInput | None:
    """Why a reference cannot be used; looked up once in a transaction, which may name it many times."""
    key = "reference", name, ref
    if key not in call.tx.memo:
        reader = Reader(call.tx, Vault(call.settings.secret_keys), call.caller, call.prepared or {})
        try:
            getattr(reader, kind)(name, ref)
        except InvalidInput as error:
            call.tx.memo[key] = error
        else:
            call.tx.memo[key] = None
    found: InvalidInput | None = call.tx.memo[key]
    return found


def check_default_pool(call: Call, balancer: Row, protocol: str, pool_id: str) -> None:
    """The pool exists on this load balancer and fits the listener."""
    pool = call.tx.get(t.pools, pool_id)
    if pool is None or pool["load_balancer_id"] != balancer["id"]:
        raise ApiError(404, f"Pool {pool_id} not found.")
    try:
        model.check_pair(protocol, pool["protocol"])
    except Broken as error:
        raise refuse(error) from error


def parsed_cidrs(values: Row) -> list[str] | None:
    """allowed_cidrs in their stored form; 400 for what is none."""
    try:
        return [str(ipaddress.ip_network(cidr, strict=False)) for cidr in values.get("allowed_cidrs") or ()] or None
    except (ValueError, TypeError) as error:
        raise ApiError(
            400, f"Invalid input for field/attribute allowed_cidrs. Value: '{values['allowed_cidrs']}'. "
            "Value should be IPv4 or IPv6 CIDR format",
        ) from error  # fmt: skip


def check_cidrs(balancer: Row, cidrs: list[str] | None) -> None:
    """400 for a CIDR of an IP version that no VIP has, and where security groups on the VIP take the place of CIDRs."""
    if not cidrs:
        return
    if balancer["vip_sg_ids"]:
        raise ApiError(400, "Validation failure: Allowed CIDRs are not allowed when using custom VIP Security Groups.")
    vips = [balancer["vip_address"], *(vip["ip_address"] for vip in balancer["additional_vips"] or ())]
    versions = {":" in vip for vip in vips}
    for cidr in cidrs:
        if (":" in cidr) not in versions:
            raise ApiError(
                400, f"Validation failure: CIDR {cidr} IP version incompatible with all VIPs {vips} IP version."
            )
