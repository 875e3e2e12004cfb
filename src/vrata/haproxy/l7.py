"""Writes L7 rules as ACLs and `http-request` lines that are tried strictly in their order. Does no I/O.

HAProxy configuration manual 2.6, sections 4.2 (`http-request`) and 7.1 (ACLs). HAProxy looks at all `http-request`
lines before any `use_backend`; to keep the order between both, a rule that chooses a backend leaves its name in a
variable that every later rule respects. Named ACLs, since a lone brace as value would end an anonymous one.
"""

import math
import re

from vrata.base.errors import InvalidInput
from vrata.haproxy.l7_cost import LONGEST_HOST, LONGEST_MATCHED, MOST_COOKIES, MOST_SAME_COOKIES, MOST_VALUES, steps_of
from vrata.haproxy.model import Condition, L7Action, L7Rule, Match, Subject
from vrata.haproxy.words import check_name, quote

CODES = (301, 302, 303, 307, 308)
CHOSEN = "txn.vrata_pool"
_KEY = re.compile(r"[!#$%&*+.^_`|~0-9A-Za-z-]{1,255}")  # RFC 9110 token without the quote, which ends an argument
_DN = re.compile(r"[A-Za-z0-9.]{1,64}")
_URL = re.compile(r"https?://[\x21-\x7e]{1,2040}")
_MAX_VALUE = 255
_MAX_CONDITIONS = 50
# Python takes these, HAProxy's PCRE2 does not (it captures nothing, so that a back-reference leads nowhere).
_PYTHON_ONLY = re.compile(
    r"\\[1-9uU]|\(\?\(|\(\?[a-zA-Z]*[auL]|\[([:.=])[^\]]*\1\]|\(\?P<[^>]{33}|\(\?P=|\{[^}]*[0-9]{5}", re.ASCII
)
_WALKS = re.compile(r"\(\?<?[=!]|\{[0-9,]*[0-9]{2}", re.ASCII)  # look-arounds and long repetitions
_REPEATED_GROUP = re.compile(r"\)\{(?:[0-9]*,)?([0-9]+)", re.ASCII)
_MOST_COPIES = 5000  # characters: PCRE2 writes a group out for each repetition, up to 64 KiB


def l7_lines(rules: tuple[L7Rule, ...]) -> list[str]:
    """The lines of a frontend, without indentation; `use_backend` ones last."""
    acls, requests, backends = [], [], []
    chosen = False
    steps = steps_of((one.subject, one.match) for rule in rules for one in rule.conditions)
    for rule in rules:
        if not rule.conditions:
            continue
        name = check_name("l7policy.id", rule.name)
        if len(rule.conditions) > _MAX_CONDITIONS:
            raise InvalidInput("l7policy.rules", len(rule.conditions), f"use up to {_MAX_CONDITIONS} rules")
        terms = []
        for number, condition in enumerate(rule.conditions):
            acls.append(f"acl l7:{name}:{number} {_acl(condition, steps)}")
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
    return [*_bounds(rules), *acls, *requests, *backends]


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


def _acl(condition: Condition, steps: int) -> str:
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
        check_regex(value)
    if condition.subject is Subject.FILE_TYPE and match is Match.EQUAL:
        match, value = Match.ENDS, f".{value.removeprefix('.')}"
    sample, flags = _sample(condition), "-i " if condition.subject is Subject.HOST else ""
    if match is Match.REGEX:
        if _WALKS.search(value) and condition.subject is not Subject.HOST:  # which is short enough
            sample = f"{sample},bytes(0,{LONGEST_MATCHED})"
        value = f"(*LIMIT_MATCH={steps}){value}"
    # `--` ends the flags: a value may begin with a dash.
    return f"{quote(sample)} {flags}-m {match} -- {quote(value)}"


def check_regex(text: str) -> None:
    """InvalidInput for a regular expression that HAProxy would not take."""
    try:
        re.compile(text)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput("l7rule.value", text, f"use a regular expression ({error})") from None
    plain = text.replace("\\\\", "")
    if _PYTHON_ONLY.search(plain):
        remedy = "use no back-reference, no \\u, no flags a, u, L, no named class, no repetition above 9999"
        raise InvalidInput("l7rule.value", text, remedy)
    copies = math.prod(max(1, int(times)) for times in _REPEATED_GROUP.findall(plain))
    if copies > 1 and copies * len(text) > _MOST_COPIES:
        raise InvalidInput("l7rule.value", text, "repeat groups less often")


def _bounds(rules: tuple[L7Rule, ...]) -> list[str]:
    """Refuse requests with so many values that looking at each takes long."""
    conditions = [one for rule in rules for one in rule.conditions]
    headers = sorted({_key(one, _KEY) for one in conditions if one.subject is Subject.HEADER})
    cookies = sorted({_key(one, _KEY) for one in conditions if one.subject is Subject.COOKIE})
    bounds = [(quote(f"req.hdr_cnt({name})"), MOST_VALUES) for name in headers]
    bounds += [(quote(f"req.cook_cnt({name})"), MOST_SAME_COOKIES) for name in cookies]
    bounds += [("req.cook_cnt", MOST_COOKIES)] if cookies else []
    if any(one.subject is Subject.HOST for one in conditions):
        bounds += [("req.hdr_cnt(host)", 1), ("req.hdr(host),length", LONGEST_HOST)]
    acls = [f"acl l7-values {count} gt {most}" for count, most in bounds]
    text = '"a header or cookie that rules of this listener look at has too many values\\n"'
    return [*acls, f"http-request return status 431 content-type text/plain string {text} if l7-values"] if acls else []


def _sample(condition: Condition) -> str:
    match condition.subject:
        case Subject.HOST:
            return "req.hdr(host)"
        case Subject.FILE_TYPE:
            return "path" if condition.match is Match.EQUAL else "path,word(-1,/),word(-1,.)"
        case Subject.HEADER:
            return f"req.hdr({_key(condition, _KEY)})"
        case Subject.COOKIE:
            return f"req.cook({_key(condition, _KEY)})"
        case Subject.DN_FIELD:
            return f"ssl_c_s_dn({_key(condition, _DN)})"
        case _:
            return "path"


def _key(condition: Condition, grammar: re.Pattern[str]) -> str:
    if condition.key is None or not grammar.fullmatch(condition.key):
        raise InvalidInput("l7rule.key", condition.key, "use the name of a header, a cookie or a DN field, no quotes")
    return condition.key
