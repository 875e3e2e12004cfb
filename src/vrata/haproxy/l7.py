"""Writes L7 rules as ACLs and `http-request` lines that are tried strictly in their order. Does no I/O.

HAProxy configuration manual 2.6, sections 4.2 (`http-request`) and 7.1 (ACLs). HAProxy looks at all `http-request`
lines before any `use_backend`; to keep the order between both, a rule that chooses a backend leaves its name in a
variable that every later rule respects. Named ACLs, since a lone brace as value would end an anonymous one.
"""

import re

from vrata.base.errors import InvalidInput
from vrata.haproxy.model import Condition, L7Action, L7Rule, Match, Subject
from vrata.haproxy.words import check_name, quote

CODES = (301, 302, 303, 307, 308)
CHOSEN = "txn.vrata_pool"
_KEY = re.compile(r"[!#$%&*+.^_`|~0-9A-Za-z-]{1,255}")  # RFC 9110 token without the quote, which ends an argument
_DN = re.compile(r"[A-Za-z0-9.]{1,64}")
_URL = re.compile(r"https?://[\x21-\x7e]{1,2040}")
_MAX_VALUE = 255
_MAX_CONDITIONS = 50


def l7_lines(rules: tuple[L7Rule, ...]) -> list[str]:
    """The lines of a frontend, without indentation; `use_backend` ones last."""
    acls, requests, backends = [], [], []
    chosen = False
    for rule in rules:
        if not rule.conditions:
            continue
        name = check_name("l7policy.id", rule.name)
        if len(rule.conditions) > _MAX_CONDITIONS:
            raise InvalidInput("l7policy.rules", len(rule.conditions), f"use up to {_MAX_CONDITIONS} rules")
        terms = []
        for number, condition in enumerate(rule.conditions):
            acls.append(f"acl l7:{name}:{number} {_acl(condition)}")
            terms.append(f"{'!' if condition.invert else ''}l7:{name}:{number}")
        if chosen:
            terms.insert(0, "!l7-chosen")
        requests.append(f"http-request {_action(rule)} if {' '.join(terms)}")
        if rule.action is L7Action.BACKEND:
            chosen = True
            backend = check_name("redirect_pool_id", rule.target)
            backends.append(f"use_backend {backend} if {{ var({CHOSEN}) -m str {name} }}")
    if chosen:
        acls.append(f"acl l7-chosen var({CHOSEN}) -m found")
    return [*acls, *requests, *backends]


def _action(rule: L7Rule) -> str:
    if rule.action is L7Action.REJECT:
        return "deny"
    if rule.action is L7Action.BACKEND:
        return f"set-var({CHOSEN}) str({rule.name})"
    if rule.code not in CODES:
        raise InvalidInput("redirect_http_code", rule.code, f"use one of {', '.join(map(str, CODES))}")
    field = "redirect_url" if rule.action is L7Action.LOCATION else "redirect_prefix"
    if not _URL.fullmatch(rule.target):
        raise InvalidInput(field, rule.target, "use a URL that begins with http:// or https:// and has no spaces")
    # A log format: a doubled per cent sign is a plain one.
    return f"redirect code {rule.code} {rule.action} {quote(rule.target.replace('%', '%%'))}"


def _acl(condition: Condition) -> str:
    value, match = condition.value, condition.match
    if condition.subject is Subject.HAS_CERTIFICATE:
        return "ssl_c_used"
    if condition.subject is Subject.VERIFY_RESULT:
        if not re.fullmatch(r"[0-9]{1,4}", value):
            raise InvalidInput("l7rule.value", value, "use a number of OpenSSL's verification results")
        return f"ssl_c_verify {value}"
    if not value or len(value) > _MAX_VALUE:
        raise InvalidInput("l7rule.value", value, f"use 1 to {_MAX_VALUE} characters")
    if match is Match.REGEX:
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidInput("l7rule.value", value, f"use a regular expression ({error})") from None
    if condition.subject is Subject.FILE_TYPE and match is Match.EQUAL:
        match, value = Match.ENDS, f".{value.removeprefix('.')}"
    # `--` ends the flags: a value may begin with a dash.
    return f"{_sample(condition)} -m {match} -- {quote(value)}"


def _sample(condition: Condition) -> str:
    match condition.subject:
        case Subject.HOST:
            return "req.hdr(host) -i"
        case Subject.FILE_TYPE:
            return "path" if condition.match is Match.EQUAL else "'path,word(-1,/),word(-1,.)'"
        case Subject.HEADER:
            return quote(f"req.hdr({_key(condition, _KEY)})")
        case Subject.COOKIE:
            return quote(f"req.cook({_key(condition, _KEY)})")
        case Subject.DN_FIELD:
            return quote(f"ssl_c_s_dn({_key(condition, _DN)})")
        case _:
            return "path"


def _key(condition: Condition, grammar: re.Pattern[str]) -> str:
    if condition.key is None or not grammar.fullmatch(condition.key):
        raise InvalidInput("l7rule.key", condition.key, "use the name of a header, a cookie or a DN field, no quotes")
    return condition.key
