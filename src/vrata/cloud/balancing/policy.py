"""Who may do what in balancing: Octavia's policy rules as one table a mode. Pure.

`default` is Octavia's own policy (Keystone's roles or the `load-balancer_*` ones); the other three are its alternative
policy files. A rule holds the roles that satisfy it; `OWNER` stands for everybody, in his own project.
"""

from collections.abc import Mapping
from enum import StrEnum

from vrata.cloud.http import Caller

OWNER = "owner"


class Rule(StrEnum):
    """Octavia's rule names (octavia/policies/base.py)."""

    READ = "load-balancer:read"  # the own project's
    READ_GLOBAL = "load-balancer:read-global"  # everybody's
    WRITE = "load-balancer:write"
    READ_QUOTA = "load-balancer:read-quota"
    READ_QUOTA_GLOBAL = "load-balancer:read-quota-global"
    WRITE_QUOTA = "load-balancer:write-quota"
    ADMIN = "load-balancer:admin"


_KEYSTONE: dict[Rule, frozenset[str]] = {
    Rule.READ: frozenset({"admin", "member", "reader", "service"}),
    Rule.READ_GLOBAL: frozenset({"admin", "service"}),
    Rule.WRITE: frozenset({"admin", "member"}),
    Rule.READ_QUOTA: frozenset({"admin", "member", "reader"}),
    Rule.READ_QUOTA_GLOBAL: frozenset({"admin"}),
    Rule.WRITE_QUOTA: frozenset({"admin"}),
    Rule.ADMIN: frozenset({"admin"}),
}
_LB_ADMIN = frozenset({"admin", "load-balancer_admin"})
_LB_READ = _LB_ADMIN | {"load-balancer_member", "load-balancer_observer", "load-balancer_global_observer"}
_ADVANCED: dict[Rule, frozenset[str]] = {
    Rule.READ: _LB_READ | {"service"},
    Rule.READ_GLOBAL: _LB_ADMIN | {"load-balancer_global_observer", "service"},
    Rule.WRITE: _LB_ADMIN | {"load-balancer_member"},
    Rule.READ_QUOTA: _LB_READ | {"load-balancer_quota_admin"},
    Rule.READ_QUOTA_GLOBAL: _LB_ADMIN | {"load-balancer_global_observer", "load-balancer_quota_admin"},
    Rule.WRITE_QUOTA: _LB_ADMIN | {"load-balancer_quota_admin"},
    Rule.ADMIN: _LB_ADMIN,
}
_OWNED = frozenset({Rule.READ, Rule.WRITE, Rule.READ_QUOTA})

MODES: Mapping[str, Mapping[Rule, frozenset[str]]] = {
    "default": {rule: _KEYSTONE[rule] | _ADVANCED[rule] for rule in Rule},
    "keystone": _KEYSTONE,
    "advanced": _ADVANCED,
    "owner": {rule: roles | ({OWNER} if rule in _OWNED else set()) for rule, roles in _KEYSTONE.items()},
}


def allows(mode: str, rule: Rule, caller: Caller) -> bool:
    """Whether the caller's roles satisfy a rule."""
    roles = MODES[mode][rule]
    return bool(roles & caller.roles) or (OWNER in roles and caller.project_id is not None)
