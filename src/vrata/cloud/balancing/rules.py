"""What L7 policies, L7 rules and TLS options may say (Octavia API v2; octavia/common/validate.py). Pure.

Each check returns the values as they are to be stored, or raises `Broken` with Octavia's status and sentence.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from vrata.base.errors import InvalidInput
from vrata.cloud.balancing.broken import Broken, broken
from vrata.cloud.fields import Field
from vrata.haproxy.l7 import check_regex
from vrata.haproxy.l7_cost import MOST_US, cost_us
from vrata.haproxy.model import Match, Subject

RULES_MAX = 50
LISTENER_RULES_MAX = 500
POSITION_MAX = 2_147_483_647
ACTIONS = ("REDIRECT_TO_POOL", "REDIRECT_TO_URL", "REJECT", "REDIRECT_PREFIX")
CODES = (301, 302, 303, 307, 308)
RULE_TYPES = (
    "HOST_NAME", "PATH", "FILE_TYPE", "HEADER", "COOKIE", "SSL_CONN_HAS_CERT", "SSL_VERIFY_RESULT", "SSL_DN_FIELD",
)  # fmt: skip
COMPARES = ("REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO")
L7_LISTENERS = frozenset({"HTTP", "TERMINATED_HTTPS"})

TLS_VERSIONS = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
DEFAULT_TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
ALPN = ("h2", "http/1.1", "http/1.0")
DEFAULT_CIPHERS = (
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:DHE-RSA-AES256-GCM-SHA384:"
    "DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA256:"
    "DHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256"
)  # OWASP's string B, as in Octavia
_CIPHERS = re.compile(r"[A-Za-z0-9_+!@=.-]+(:[A-Za-z0-9_+!@=.-]+)*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_DN_FIELD = re.compile(r"[a-zA-Z][A-Za-z0-9-]*")
_REGEX_MAX = 255

L7POLICY_TLS_RULES = frozenset({"SSL_CONN_HAS_CERT", "SSL_VERIFY_RESULT", "SSL_DN_FIELD"})


def l7policy_fields(common: Mapping[str, Field]) -> dict[str, Field]:
    """The fields of an L7 policy."""
    return {
        **common,
        "listener_id": Field("uuid", update=False),
        "action": Field(required=True, choices=ACTIONS),
        "position": Field("int", default=POSITION_MAX, least=1, most=POSITION_MAX),
        "redirect_pool_id": Field("uuid"),
        "redirect_pool": Field("dict", update=False),
        "redirect_url": Field("str", length=255),
        "redirect_prefix": Field("str", length=255),
        "redirect_http_code": Field("int"),
        "rules": Field("list", update=False),
    }


def l7rule_fields(common: Mapping[str, Field]) -> dict[str, Field]:
    """The fields of an L7 rule."""
    kept = {name: field for name, field in common.items() if name not in {"name", "description"}}
    return {
        **kept,
        "type": Field(required=True, choices=RULE_TYPES),
        "compare_type": Field(required=True, choices=COMPARES),
        "key": Field(),
        "value": Field(required=True),
        "invert": Field("bool", default=False),
    }


def check_policy(values: Mapping[str, Any]) -> dict[str, Any]:
    """One L7 policy: what its action needs is there, what it does not use is dropped."""
    out = dict(values)
    action = out["action"]
    needs = {
        "REDIRECT_TO_URL": "redirect_url", "REDIRECT_PREFIX": "redirect_prefix", "REDIRECT_TO_POOL": "redirect_pool_id",
    }.get(action)  # fmt: skip
    if needs and not out.get(needs) and not (needs == "redirect_pool_id" and out.get("redirect_pool")):
        raise Broken(400, f"Invalid L7 policy arguments: {needs} must not be None")
    for name in ("redirect_url", "redirect_prefix", "redirect_pool_id"):
        if name != needs:
            out[name] = None
    if needs in {"redirect_url", "redirect_prefix"}:
        _check_url(str(out[needs]))
        code = out.get("redirect_http_code")
        if code is None:
            out["redirect_http_code"] = 302
        elif code not in CODES:
            raise Broken(
                400, f"Invalid input for field/attribute redirect_http_code. Value: '{code}'. "
                f"Value should be one of: {', '.join(map(str, CODES))}",
            )  # fmt: skip
    else:
        out["redirect_http_code"] = None
    return out


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or re.search(r"[^\x21-\x7e]", url):
        raise Broken(400, f"Not a valid URL: {url}")


def check_rule(values: Mapping[str, Any]) -> dict[str, Any]:
    """One L7 rule."""
    out = dict(values)
    kind, compare, key, value = out["type"], out["compare_type"], out.get("key"), out["value"]
    if not value:
        raise _bad_rule("L7 rule type requires a value")
    if kind in {"HEADER", "COOKIE"}:
        if not key:
            raise _bad_rule("L7 rule type requires a key")
        if not _HEADER.fullmatch(key):
            raise _bad_rule("Invalid key")
    elif kind == "SSL_DN_FIELD":
        if not key or not _DN_FIELD.fullmatch(key):
            raise _bad_rule("Invalid L7rule distinguished name field")
    else:
        out["key"] = None
    if kind == "FILE_TYPE" and compare not in {"REGEX", "EQUAL_TO"}:
        raise _bad_rule("Invalid comparison type for rule type")
    if kind == "SSL_CONN_HAS_CERT" and (compare != "EQUAL_TO" or str(value).lower() != "true"):
        raise _bad_rule(f"L7rule value {value} is not a boolean True value, or comparison type is not EQUAL_TO")
    if kind == "SSL_VERIFY_RESULT" and (compare != "EQUAL_TO" or not re.fullmatch("[0-9]{1,9}", str(value))):
        raise _bad_rule(f"L7rule value {value} is not a non-negative integer, or comparison type is not EQUAL_TO")
    if compare == "REGEX":
        _check_regex(str(value))
    elif not (_COOKIE_VALUE if kind == "COOKIE" else _HEADER_VALUE).fullmatch(str(value)):
        raise _bad_rule("value contains unsupported characters")
    return out


_SUBJECTS = {"HOST_NAME": Subject.HOST, "HEADER": Subject.HEADER, "COOKIE": Subject.COOKIE}
_MATCHES = {"REGEX": Match.REGEX, "CONTAINS": Match.CONTAINS}


def check_listener_rules(kinds: Sequence[tuple[str, str]]) -> None:
    """Type and compare type of all L7 rules of a listener: together they cost a request little."""
    if len(kinds) > LISTENER_RULES_MAX:
        raise Broken(409, f"A listener has at most {LISTENER_RULES_MAX} L7 rules in all of its L7 policies; use fewer.")
    cost = cost_us((_SUBJECTS.get(kind, Subject.PATH), _MATCHES.get(compare, Match.EQUAL)) for kind, compare in kinds)
    if cost > MOST_US:
        raise Broken(
            409, f"The L7 rules of this listener could cost a request {cost:.0f} microseconds, at most {MOST_US} are "
            "allowed; use fewer with compare type REGEX or CONTAINS.",
        )  # fmt: skip


def _bad_rule(why: str) -> Broken:
    return Broken(400, f"Invalid L7 Rule: {why}")


def _check_regex(text: str) -> None:
    try:
        if not _HEADER_VALUE.fullmatch(text) or len(text) > _REGEX_MAX:
            raise InvalidInput("value", text, f"use at most {_REGEX_MAX} printable characters")
        check_regex(text)
    except InvalidInput as error:
        raise Broken(400, f"Invalid regular expression: {text} ({error.remedy})") from error


def check_tls(values: Mapping[str, Any], *, ends_tls: bool) -> dict[str, Any]:
    """Ciphers, versions and ALPN of a listener or pool; defaults filled in where TLS is spoken."""
    out = dict(values)
    if out.get("tls_ciphers") is not None and not _CIPHERS.fullmatch(out["tls_ciphers"]):
        raise Broken(400, f"{out['tls_ciphers']} is not a valid option for tls_ciphers")
    for name, known, default in (
        ("tls_versions", TLS_VERSIONS, DEFAULT_TLS_VERSIONS),
        ("alpn_protocols", ALPN, ALPN),
    ):
        given: Sequence[str] | None = out.get(name)
        if given is None:
            out[name] = list(default) if ends_tls else None
            continue
        unknown = [one for one in given if one not in known]
        if unknown:
            raise Broken(
                400, f"Invalid input for field/attribute {name}. Value: '{list(given)}'. Value should be one of: "
                f"{', '.join(known)}",
            )  # fmt: skip
        if len(set(given)) != len(given):
            raise broken(f"{name} holds a value twice: {', '.join(given)}")
    if ends_tls and not out["tls_versions"]:
        raise broken("Empty TLS version list. Either specify at least one TLS version or remove this parameter.")
    if ends_tls and out.get("tls_ciphers") is None:
        out["tls_ciphers"] = DEFAULT_CIPHERS
    return out


def check_listener_tls(values: Mapping[str, Any]) -> None:
    """Certificates, client authentication and HSTS of one listener."""
    protocol = values["protocol"]
    certificates = values.get("default_tls_container_ref") or values.get("sni_container_refs")
    authority, client = values.get("client_ca_tls_container_ref"), values.get("client_authentication") or "NONE"
    if protocol != "TERMINATED_HTTPS" and certificates:
        raise broken(f"Certificate container references are not allowed on {protocol} protocol listeners.")
    if protocol == "TERMINATED_HTTPS" and not certificates:
        raise broken(
            "An SNI or default certificate container reference must be provided for TERMINATED_HTTPS protocol listeners."
        )
    if authority and not certificates:
        raise broken(
            "An SNI or default certificate container reference must be provided with a client CA container reference."
        )
    if client != "NONE" and not authority:
        raise broken(f"Client authentication setting {client} requires a client CA container reference.")
    if values.get("client_crl_container_ref") and not authority:
        raise broken(
            "A client authentication CA reference is required to specify a client authentication revocation list."
        )
    age, rest = values.get("hsts_max_age"), ("hsts_include_subdomains", "hsts_preload")
    if protocol != "TERMINATED_HTTPS" and (age is not None or any(values.get(name) for name in rest)):
        raise broken("The HSTS feature can only be used for listeners using the TERMINATED_HTTPS protocol.")
    if age is None and any(values.get(name) for name in rest):
        raise broken(
            "HSTS configuration options hsts_include_subdomains and hsts_preload only make sense if hsts_max_age is set."
        )
