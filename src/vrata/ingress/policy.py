"""What annotations ask of a route, as one line that `policy.lua` reads: words `name=value`, with blanks and the like as %XX.
Pure.

Values have been through `vrata.ingress.annotations.grammar`; here they are quoted, so that nothing in them ends a word.
"""

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import quote

from vrata.ingress.annotations.options import (
    Affinity,
    Answers,
    BasicAuth,
    Canary,
    ClientTls,
    Cors,
    Options,
    RateLimit,
    Redirect,
)
from vrata.ingress.headers import Headers
from vrata.ingress.model import NO_POLICY, Policy, SecretKey
from vrata.ingress.served import secret_digest
from vrata.ingress.trust import AUTHORITY
from vrata.ingress.users import FILE, MAP

Value = str | int | bool | None | tuple[object, ...]
REALM = "Authentication Required"
MAX_BYTES = 1_000_000  # more than an object of Kubernetes can say
HOUR_MS = 3_600_000
# Words that keep somebody, or too much, out.
_GUARDS = ("allow=", "any=", "auth", "body=", "client", "deny=", "limit", "users=")
# Requests a second are counted over so many seconds, and those a minute over so many minutes: bursts of a rate times that
# pass, and no more than the rate does in the long run. Each is a table of HAProxy's.
BURSTS = (1, 2, 3, 5, 10, 20, 50)


def policy_of(ingress: str, options: Options) -> Policy:
    """Everything but the canary, which is another Ingress' matter."""
    words: dict[str, Value] = {}
    if options.access:
        words |= {
            "allow": _networks(options.access.allow),
            "deny": _networks(options.access.deny),
            "any": options.access.satisfy == "any",
        }
    if options.redirect:
        words |= _redirect(options.redirect)
    if options.rewrite:
        words |= {
            "app-root": options.rewrite.app_root,
            "host": options.rewrite.upstream_vhost,
            "prefix": options.rewrite.forwarded_prefix,
        }
    if options.cors and options.cors.enabled:
        words |= _cors(options.cors)
    if options.affinity and options.affinity.kind:
        words |= _affinity(options.affinity)
    if options.backend:
        waits = [one for one in (options.backend.send_timeout_ms, options.backend.read_timeout_ms) if one is not None]
        longest = max(waits, default=None)
        words |= {"timeout": longest, "tunnel": longest if longest and longest > HOUR_MS else None}
        words["hash"] = options.backend.hash_by
        words["no-retry"] = options.backend.retry_on == ("off",) or options.backend.retry_tries == 1
    if options.rate_limit and _is_limited(options.rate_limit):
        words |= _rate_limit(ingress, options.rate_limit)
    if options.basic_auth and options.basic_auth.secret:
        words |= {"users": users_of(ingress, options.basic_auth), "realm": options.basic_auth.realm or REALM}
    authority = authority_of(ingress, options.client_tls)
    if options.client_tls and authority:
        words |= {
            "client": options.client_tls.verify or "on",
            "client-authority": secret_digest(authority),
            "client-pass": options.client_tls.pass_certificate,
            "client-name": options.client_tls.name_pattern,
            "client-page": options.client_tls.error_page,
        }
    if options.external_auth and options.external_auth.url:
        auth = options.external_auth
        words |= {
            "auth": auth.url,
            "auth-method": auth.method,
            "auth-signin": auth.signin,
            "auth-headers": auth.response_headers,
            "auth-redirect": auth.redirect,
            "auth-param": auth.signin_param,
            "auth-cookie-always": auth.always_cookie,
        }
    if options.mirror and options.mirror.target:
        words |= {
            "mirror": options.mirror.target,
            "mirror-body": options.mirror.body,
            "mirror-host": options.mirror.host,
        }
    words |= _answers(options.answers or Answers())
    if options.traffic:
        words |= {"body": options.traffic.body_max_bytes or None, "hsts": options.traffic.hsts}
        words["quiet"] = not options.traffic.access_log
        errors = () if options.traffic.own_errors else options.traffic.errors
        words |= {"errors": errors, "errors-of": ingress} if errors else {}
    return _line(words)


def users_of(ingress: str, auth: BasicAuth) -> SecretKey:
    """The Secret that says who may enter."""
    return secret_of(ingress, auth.secret or "", MAP if auth.form == "auth-map" else FILE)


def authority_of(ingress: str, tls: ClientTls | None) -> SecretKey | None:
    """The Secret that says who signs clients' certificates; None if nobody is asked for one."""
    wanted = tls and tls.secret and tls.verify != "off"
    return secret_of(ingress, tls.secret or "", AUTHORITY) if tls and wanted else None


def secret_of(ingress: str, named: str, use: str) -> SecretKey:
    """The Secret of the Ingress' own namespace that an annotation names."""
    return SecretKey(f"{ingress.partition('/')[0]}/{named.rpartition('/')[2]}{use}")


def canary_of(canary: Canary) -> Policy:
    """Which requests the second backend is for."""
    weighted = canary.weight > 0
    return _line(
        {
            "canary": True,
            "canary-header": canary.header and canary.header.lower(),
            "canary-value": canary.header_value,
            "canary-pattern": canary.header_pattern,
            "canary-cookie": canary.cookie,
            "canary-weight": canary.weight if weighted else None,
            "canary-total": canary.weight_total if weighted else None,
        }
    )


def headers_of(headers: Headers) -> Policy:
    """What answers have besides."""
    return _line({"headers": _headers(headers)})


def auth_headers_of(headers: Headers | None) -> Policy:
    """What the auth service is told besides; None: that is not known, so it can not be asked."""
    return _line({"auth-set": _headers(headers)} if headers else {"auth-unready": True})


def _headers(headers: Headers) -> tuple[str, ...]:
    return tuple(f"{name}:{value}" for name, value in headers.values)


def guards_of(policy: Policy) -> frozenset[str]:
    """What of it keeps somebody, or too much, out."""
    return frozenset(word for word in policy.split(" ") if word.startswith(_GUARDS))


def careful(policy: Policy, readings: int) -> Policy:
    """With it a path that can be read in two ways may not mean one with more guards; so many readings are looked at."""
    words = {word.partition("=")[0]: word for word in guards_of(policy)}
    # Either door is enough with `satisfy: any`, so all of them are one guard; so are all words of one kind.
    doors = ("allow", "any", "auth", "users") if "any" in words else ()
    kinds: dict[str, list[str]] = {}
    for name, word in sorted(words.items()):
        kind = name.partition("-")[0]
        kinds.setdefault("doors" if kind in doors else kind, []).append(word)
    digests = (hashlib.blake2s(" ".join(one).encode(), digest_size=6).hexdigest() for one in kinds.values())
    return join(policy, _line({"careful": ("open", *digests), "careful-readings": readings}))


def join(*policies: Policy) -> Policy:
    """All of them as one."""
    return Policy(" ".join(one for one in policies if one))


def _redirect(redirect: Redirect) -> Mapping[str, Value]:
    if redirect.permanent:
        return {"redirect": redirect.permanent, "redirect-code": redirect.permanent_code}
    if redirect.temporal:
        return {"redirect": redirect.temporal, "redirect-code": redirect.temporal_code}
    return {}


def redirect_to(host: str) -> Policy:
    """Every request goes to the same address on another host."""
    return _line({"redirect": f"$scheme://{host}$request_uri", "redirect-code": 308})


def _cors(cors: Cors) -> Mapping[str, Value]:
    return {
        "cors-origins": cors.origins,
        "cors-methods": ", ".join(cors.methods),
        "cors-headers": ", ".join(cors.headers or CORS_HEADERS),
        "cors-expose": ", ".join(cors.expose),
        "cors-credentials": cors.credentials,
        "cors-age": cors.max_age_s,
    }


# ingress-nginx allows these where nothing is said (annotations, «cors-allow-headers»).
CORS_HEADERS = (
    *("DNT", "Keep-Alive", "User-Agent", "X-Requested-With", "If-Modified-Since", "Cache-Control", "Content-Type"),
    *("Range", "Authorization"),
)


def _affinity(affinity: Affinity) -> Mapping[str, Value]:
    age = affinity.cookie_max_age_s if affinity.cookie_max_age_s is not None else affinity.cookie_expires_s
    parts = [f"Domain={affinity.cookie_domain}"] if affinity.cookie_domain else []
    parts += [f"Max-Age={age}"] if age is not None else []
    parts += ["Secure"] if affinity.cookie_secure else []
    parts += ["HttpOnly"]
    parts += [f"SameSite={affinity.cookie_samesite}"] if affinity.cookie_samesite else []
    return {
        "cookie": affinity.cookie_name,
        "cookie-at": affinity.cookie_path,
        "cookie-secure": affinity.cookie_secure is None,  # as the connection is
        "cookie-attributes": "".join(f"; {part}" for part in parts),
    }


_PLAIN = re.compile(r"[A-Za-z0-9/_~%@,!'=&:-]*")
_ENDS = ("(/|$)", "(?:/|$)", "(/.*)?$", "(/.*|$)")  # the path ends there, or a slash follows


def cookie_at(options: Options, path: str) -> Policy:
    """The path of the affinity's cookie where none is said: the rule's, so that two Services of a host have one each.

    Browsers compare it with the path as they write it (RFC 6265, 5.1.4), so it ends at the last `/` before a character that
    cannot stand in an attribute, or that browsers write as %XX in a path (WHATWG URL, «path percent-encode set»).
    """
    affinity = options.affinity
    if not (affinity and affinity.kind) or affinity.cookie_path:
        return NO_POLICY
    kept = _COOKIE_PATH.match(path)
    assert kept  # of nothing at least
    if kept[0] != path:
        path = path[: kept[0].rfind("/") + 1]
    return _line({"cookie-at": path.rstrip("/") or "/"})  # `/a/` also serves `/a`


_COOKIE_PATH = re.compile(r"[A-Za-z0-9/_.~%:@!$&'()*+,=-]*", re.ASCII)


def plain_start(pattern: str) -> str:
    """The folder that all paths of a pattern are in, or the path itself: `/a` of `/a(/|$)(.*)`, `/` of `/a[0-9]`."""
    start = _PLAIN.match(pattern)
    assert start  # of nothing at least
    text = start[0]
    rest = pattern[len(text) :]
    if rest[:1] in {"?", "*", "+", "{"}:  # of the last character
        text, rest = text[:-1], "x"
    if rest == "$" or rest.startswith(_ENDS):
        return text
    return text[: text.rfind("/") + 1] or "/"


def _answers(answers: Answers) -> Mapping[str, Value]:
    before, after = answers.redirect_from, answers.redirect_to
    location = (before, after) if before and after else None
    return {"cookie-domain": answers.cookie_domain, "cookie-path": answers.cookie_path, "location": location}


def _is_limited(limit: RateLimit) -> bool:
    """0 is no limit."""
    return bool(limit.per_second or limit.per_minute or limit.connections)


def _networks(named: tuple[str, ...] | None) -> tuple[str, ...]:
    """In order and without overlaps, so that a search is short; IPv6 is written in full."""
    found = [ipaddress.ip_network(one) for one in named or ()]
    fours = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv4Network))
    sixes = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv6Network))
    return (*map(str, fours), *(one.exploded for one in sixes))


def _rate_limit(ingress: str, limit: RateLimit) -> Mapping[str, Value]:
    burst = max(one for one in BURSTS if one <= max(limit.burst_multiplier, 1))
    return {
        "limit": hashlib.blake2s(ingress.encode(), digest_size=8).hexdigest(),
        "limit-burst": burst if limit.per_second or limit.per_minute else None,
        "limit-second": (limit.per_second or 0) * burst or None,
        "limit-minute": (limit.per_minute or 0) * burst or None,
        "limit-connections": limit.connections or None,
        "limit-exempt": _networks(limit.exempt),
    }


def _line(words: Mapping[str, Value]) -> Policy:
    return Policy(
        " ".join(
            f"{name}={_text(value)}"
            for name, value in sorted(words.items())
            if value or (value == 0 and value is not False)
        )
    )


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(_quoted(str(one)) for one in value)
    return "1" if value is True else _quoted(str(value))


def _quoted(text: str) -> str:
    return quote(text, safe="/:*")


def too_long(policy: Policy, copies: int = 1) -> bool:
    """Whether so many of it, which differ a little, are too much to keep."""
    return len(policy) * copies > MAX_BYTES
