"""From Octavia's L7 policies on the wire to rules of the HAProxy model. Pure; InvalidInput for words Octavia lacks."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from vrata.base.errors import InvalidInput
from vrata.base.wire import L7Policy
from vrata.base.wire import L7Rule as WireRule
from vrata.haproxy.model import Condition, L7Action, L7Rule, Match, Subject

V = TypeVar("V")
_ACTIONS = {
    "REJECT": L7Action.REJECT,
    "REDIRECT_TO_URL": L7Action.LOCATION,
    "REDIRECT_PREFIX": L7Action.PREFIX,
    "REDIRECT_TO_POOL": L7Action.BACKEND,
}
_SUBJECTS = {
    "HOST_NAME": Subject.HOST,
    "PATH": Subject.PATH,
    "FILE_TYPE": Subject.FILE_TYPE,
    "HEADER": Subject.HEADER,
    "COOKIE": Subject.COOKIE,
    "SSL_CONN_HAS_CERT": Subject.HAS_CERTIFICATE,
    "SSL_VERIFY_RESULT": Subject.VERIFY_RESULT,
    "SSL_DN_FIELD": Subject.DN_FIELD,
}
_MATCHES = {
    "REGEX": Match.REGEX,
    "STARTS_WITH": Match.STARTS,
    "ENDS_WITH": Match.ENDS,
    "CONTAINS": Match.CONTAINS,
    "EQUAL_TO": Match.EQUAL,
}


def l7_rule(policy: L7Policy, backend_of: Callable[[str], str]) -> L7Rule:
    """One policy; `backend_of` names the backend of a pool."""
    action = _choice("l7policy.action", policy.action, _ACTIONS)
    target = {
        L7Action.REJECT: "",
        L7Action.LOCATION: policy.redirect_url,
        L7Action.PREFIX: policy.redirect_prefix,
        L7Action.BACKEND: policy.redirect_pool_id,
    }[action]
    if target is None:
        raise InvalidInput("l7policy.action", policy.action, "say where to redirect")
    return L7Rule(
        name=policy.id,
        action=action,
        conditions=tuple(_condition(rule) for rule in policy.rules),
        target=backend_of(target) if action is L7Action.BACKEND else target,
        code=policy.redirect_http_code or 302,
    )


def _condition(rule: WireRule) -> Condition:
    return Condition(
        subject=_choice("l7rule.type", rule.type, _SUBJECTS),
        match=_choice("l7rule.compare_type", rule.compare_type, _MATCHES),
        value=rule.value,
        key=rule.key,
        invert=rule.invert,
    )


def _choice(field: str, value: str, choices: Mapping[str, V]) -> V:
    if value not in choices:
        raise InvalidInput(field, value, f"use one of {', '.join(choices)}")
    return choices[value]
