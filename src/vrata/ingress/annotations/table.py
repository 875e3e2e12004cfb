"""Every annotation that is known: what it sets, how its value reads, and what a bad value takes out.

Names and meanings follow ingress-nginx's documentation (nginx-configuration/annotations).
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from vrata.ingress.annotations import grammar as g


class Support(StrEnum):
    AS_IS = "as is"
    DIFFERENTLY = "differently"
    NO = "no"


class Scope(StrEnum):
    ROUTE = "route"
    BACKEND = "backend"
    HOST = "host"
    INGRESS = "ingress"


@dataclass(frozen=True)
class Row:
    """`group` and `field` name the place in Options; `note` says how it differs, or what to use instead."""

    name: str
    scope: Scope
    group: str
    field: str
    parse: g.Parser
    support: Support = Support.AS_IS
    note: str = ""
    refuses: str = ""  # values that ingress-nginx takes and this does not
    closed: bool = False  # a bad value leaves the whole Ingress out, since leaving out the value would open a door


def _rows(scope: Scope, group: str, *rows: tuple[str, str, g.Parser], closed: bool = False) -> list[Row]:
    return [Row(name, scope, group, field, parse, closed=closed) for name, field, parse in rows]


def _no(note: str, *names: str, closed: bool = False) -> list[Row]:
    return [Row(n, Scope.INGRESS, "", "", g.refused, Support.NO, note, closed=closed) for n in names]


_MOST = 2**31 - 1
_NETWORKS = g.listed(g.cidr, 20_000)  # an object of Kubernetes takes 256 kB of annotations
_BALANCES = ("round_robin", "ewma", "chash", "chashsubset", "sticky_balanced", "sticky_persistent")
_RETRY = g.words(
    "error", "timeout", "invalid_header", "non_idempotent", "off",
    *(f"http_{code}" for code in (500, 502, 503, 504, 403, 404, 429)),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    *_rows(
        Scope.ROUTE, "rewrite",
        ("rewrite-target", "target", g.template), ("app-root", "app_root", g.fixed_path),
        ("x-forwarded-prefix", "forwarded_prefix", g.prefix), ("upstream-vhost", "upstream_vhost", g.authority),
    ),
    *_rows(Scope.HOST, "rewrite", ("use-regex", "use_regex", g.boolean)),
    *_rows(
        Scope.ROUTE, "redirect",
        ("ssl-redirect", "ssl", g.boolean), ("force-ssl-redirect", "force_ssl", g.boolean),
        ("permanent-redirect", "permanent", g.location),
        ("permanent-redirect-code", "permanent_code", g.numbers(301, 302, 303, 307, 308)),
        ("temporal-redirect", "temporal", g.location),
        ("temporal-redirect-code", "temporal_code", g.numbers(301, 302, 303, 307, 308)),
    ),
    *_rows(Scope.HOST, "redirect", ("from-to-www-redirect", "www", g.boolean)),
    *_rows(
        Scope.ROUTE, "canary",
        ("canary", "enabled", g.boolean), ("canary-by-header", "header", g.token),
        ("canary-by-header-value", "header_value", g.plain), ("canary-by-header-pattern", "header_pattern", g.searched_regex),
        ("canary-by-cookie", "cookie", g.token), ("canary-weight", "weight", g.within(0, _MOST)),
        ("canary-weight-total", "weight_total", g.within(1, _MOST)),
        closed=True,  # a canary without its rules would be a second main Ingress and take all the requests
    ),
    *_rows(
        Scope.BACKEND, "affinity",
        ("affinity", "kind", g.choice("cookie")), ("affinity-mode", "mode", g.choice("balanced", "persistent")),
        ("affinity-canary-behavior", "canary_behavior", g.choice("sticky", "legacy")),
        ("session-cookie-name", "cookie_name", g.token), ("session-cookie-path", "cookie_path", g.cookie_path),
        ("session-cookie-domain", "cookie_domain", g.cookie_domain),
        ("session-cookie-samesite", "cookie_samesite", g.choice("None", "Lax", "Strict", fold=True)),
        ("session-cookie-secure", "cookie_secure", g.boolean),
        ("session-cookie-conditional-samesite-none", "cookie_conditional", g.boolean),
        ("session-cookie-max-age", "cookie_max_age_s", g.within(-_MOST, _MOST)),
        ("session-cookie-expires", "cookie_expires_s", g.within(-_MOST, _MOST)),
        ("session-cookie-change-on-failure", "change_on_failure", g.boolean),
    ),
    *_rows(
        Scope.BACKEND, "backend",
        ("backend-protocol", "protocol", g.choice("HTTP", "HTTPS", "GRPC", "GRPCS", "AUTO_HTTP", fold=True)),
        ("load-balance", "balance", g.choice(*_BALANCES)),
        ("upstream-hash-by", "hash_by", g.choice("$remote_addr", "$binary_remote_addr", "$request_uri", "$host", "$uri")),
        ("service-upstream", "service_upstream", g.boolean),
        ("proxy-connect-timeout", "connect_timeout_ms", g.time_ms), ("proxy-send-timeout", "send_timeout_ms", g.time_ms),
        ("proxy-read-timeout", "read_timeout_ms", g.time_ms),
        ("proxy-next-upstream", "retry_on", _RETRY),
        ("proxy-next-upstream-tries", "retry_tries", g.within(0, 100)),
        ("connection-proxy-header", "connection", g.choice("keep-alive", "close", fold=True)),
        ("slow-start", "slow_start_ms", g.time_ms),
    ),
    *_rows(
        Scope.BACKEND, "backend_tls",
        ("proxy-ssl-secret", "secret", g.object_name), ("proxy-ssl-verify", "verify", g.switch),
        ("proxy-ssl-name", "name", g.host), ("proxy-ssl-server-name", "send_name", g.switch),
        ("proxy-ssl-protocols", "versions", g.tls_versions), ("proxy-ssl-ciphers", "ciphers", g.ciphers),
        ("proxy-ssl-verify-depth", "depth", g.within(-1, _MOST)),
        closed=True,
    ),
    *_rows(
        Scope.ROUTE, "cors",
        ("enable-cors", "enabled", g.boolean),
        ("cors-allow-origin", "origins", g.listed(g.origin, 64)),
        ("cors-allow-methods", "methods", g.listed(g.method, blanks=True)),
        ("cors-allow-headers", "headers", g.listed(g.token, 128, blanks=True)),
        ("cors-expose-headers", "expose", g.listed(g.token, 128, blanks=True)),
        ("cors-allow-credentials", "credentials", g.boolean),
        ("cors-max-age", "max_age_s", g.within(-1, _MOST)),
        closed=True,  # the defaults (any origin, with credentials) are wider than what was asked for
    ),
    *_rows(
        Scope.ROUTE, "access",
        ("whitelist-source-range", "allow", _NETWORKS), ("allowlist-source-range", "allow", _NETWORKS),
        ("denylist-source-range", "deny", _NETWORKS), ("satisfy", "satisfy", g.choice("all", "any", fold=True)),
        closed=True,
    ),
    *_rows(
        Scope.ROUTE, "rate_limit",
        ("limit-rps", "per_second", g.within(0, 1_000_000)), ("limit-rpm", "per_minute", g.within(0, 1_000_000)),
        ("limit-connections", "connections", g.within(0, 1_000_000)),
        ("limit-burst-multiplier", "burst_multiplier", g.within(0, 1000)),
        ("limit-whitelist", "exempt", _NETWORKS), ("limit-allowlist", "exempt", _NETWORKS),
    ),
    *_rows(
        Scope.ROUTE, "basic_auth",
        ("auth-type", "kind", g.choice("basic")), ("auth-secret", "secret", g.object_name),
        ("auth-secret-type", "form", g.choice("auth-file", "auth-map")), ("auth-realm", "realm", g.plain),
        closed=True,
    ),
    *_rows(
        Scope.ROUTE, "external_auth",
        ("auth-url", "url", g.service_url), ("auth-signin", "signin", g.location),
        ("auth-method", "method", g.choice("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
        ("auth-response-headers", "response_headers", g.listed(g.token, 64, blanks=True)),
        ("auth-proxy-set-headers", "proxy_headers", g.object_name),
        closed=True,
    ),
    *_rows(
        Scope.ROUTE, "external_auth",
        ("auth-request-redirect", "redirect", g.template_of_header), ("auth-signin-redirect-param", "signin_param", g.parameter),
        ("auth-always-set-cookie", "always_cookie", g.boolean),
    ),
    *_rows(
        Scope.HOST, "client_tls",
        ("auth-tls-secret", "secret", g.object_name),
        ("auth-tls-verify-client", "verify", g.choice("on", "off", "optional", "optional_no_ca")),
        ("auth-tls-verify-depth", "depth", g.within(-1, _MOST)),
        ("auth-tls-pass-certificate-to-upstream", "pass_certificate", g.boolean),
        ("auth-tls-match-cn", "name_pattern", g.common_name),
        closed=True,
    ),
    *_rows(Scope.ROUTE, "client_tls", ("auth-tls-error-page", "error_page", g.location)),
    *_rows(
        Scope.INGRESS, "traffic",
        ("proxy-body-size", "body_max_bytes", g.size_bytes), ("server-alias", "aliases", g.listed(g.host, 64)),
        ("default-backend", "default_backend", g.object_name),
        ("custom-http-errors", "errors", g.listed(g.number(400, 599), 64)), ("custom-headers", "headers", g.object_name),
        ("enable-access-log", "access_log", g.boolean), ("disable-proxy-intercept-errors", "own_errors", g.boolean),
    ),
    *_rows(
        Scope.ROUTE, "hints",
        ("proxy-request-buffering", "request_buffering", g.switch),
        ("client-body-buffer-size", "request_buffer_bytes", g.size_bytes),
        ("proxy-buffering", "response_buffering", g.switch), ("proxy-buffer-size", "response_buffer_bytes", g.size_bytes),
        ("proxy-buffers-number", "response_buffers", g.within(1, _MOST)),
        ("proxy-busy-buffers-size", "busy_buffers_bytes", g.size_bytes),
        ("proxy-max-temp-file-size", "file_bytes", g.size_bytes),
        ("client-header-buffer-size", "header_bytes", g.size_bytes), ("large-client-header-buffers", "headers", g.buffers),
        ("relative-redirects", "relative_redirects", g.boolean), ("preserve-trailing-slash", "trailing_slash", g.boolean),
        ("ssl-prefer-server-ciphers", "server_ciphers", g.boolean),
    ),
    *_rows(
        Scope.ROUTE, "answers",
        ("proxy-cookie-domain", "cookie_domain", g.replacement(g.cookie_domain)),
        ("proxy-cookie-path", "cookie_path", g.replacement(g.path)),
        ("proxy-redirect-from", "redirect_from", g.beginning), ("proxy-redirect-to", "redirect_to", g.beginning),
    ),
    *_rows(
        Scope.ROUTE, "mirror",
        ("mirror-target", "target", g.service_url), ("mirror-request-body", "body", g.switch),
        ("mirror-host", "host", g.authority),
    ),
    *_rows(Scope.HOST, "traffic", ("hsts", "hsts", g.hsts)),
    *_rows(Scope.HOST, "traffic", ("ssl-passthrough", "passthrough", g.boolean), closed=True),
    *_no(
        "text that becomes configuration is how clusters were taken; use the annotation for the purpose",
        "server-snippet", "configuration-snippet", "stream-snippet", "auth-snippet", "modsecurity-snippet", closed=True,
    ),
    *_no(
        "put a web application firewall before or behind the proxy",
        "enable-modsecurity", "enable-owasp-core-rules", "modsecurity-transaction-id", closed=True,
    ),
    *_no(
        "nobody is asked for all Ingresses but by parameters of their class; name auth-url there, or in those that need it",
        "enable-global-auth", closed=True,
    ),
    *_no("they are the same for all hosts: those that OpenSSL holds to be strong; leave it out", "ssl-ciphers", closed=True),
    *_no("leave it out: the auth service is asked on every request", "auth-cache-key", "auth-cache-duration"),
    *_no(
        "leave it out: HAProxy looks after its connections to the auth service itself",
        "auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout", "auth-keepalive-share-vars",
    ),
    *_no(
        "answers are as fast as they can be; limit requests by limit-rps, limit-rpm, limit-connections",
        "limit-rate", "limit-rate-after",
    ),
    *_no(
        "use limit-rps or limit-rpm, which are of all replicas together",
        "global-rate-limit", "global-rate-limit-window", "global-rate-limit-key", "global-rate-limit-ignored-cidrs",
    ),
    *_no("leave it out: redirects lead to the usual ports, 80 and 443", "use-port-in-redirects"),
    *_no("FastCGI is not spoken; put a server with HTTP before it", "fastcgi-index", "fastcgi-params-configmap"),
    *_no("leave it out: pods are spoken to as backend-protocol says", "proxy-http-version"),
    *_no("leave it out: each of at most four tries has the time that proxy-connect-timeout gives", "proxy-next-upstream-timeout"),
    *_no("use upstream-hash-by alone: one of all pods", "upstream-hash-by-subset", "upstream-hash-by-subset-size"),
    *_no("leave it out: it is of nginx only, or was removed there", "http2-push-preload", "enable-rewrite-log"),
    *_no(
        "leave it out: the proxy takes no part in traces, but passes their headers on; figures are at /metrics",
        "enable-opentracing", "opentracing-trust-incoming-span", "enable-opentelemetry",
        "opentelemetry-trust-incoming-span", "opentelemetry-operation-name", "enable-influxdb",
        "influxdb-measurement", "influxdb-port", "influxdb-host", "influxdb-server-name",
    ),
)  # fmt: skip

_HINT = "without effect, and without need: bodies are passed on as they come"
_HEADERS = (
    "headers of a request or an answer may take 32 kB, 256 of them, or what --header-bytes and --header-count say"
)
_DIFFERS = {
    **dict.fromkeys((row.name for row in ROWS if row.group == "hints"), _HINT),
    **dict.fromkeys(("proxy-buffer-size", "client-header-buffer-size", "large-client-header-buffers"), _HEADERS),
    "affinity": "the cookie names a server by a digest of its own",
    "affinity-canary-behavior": "always sticky: who has a cookie stays on its side of a canary",
    "affinity-mode": "always persistent: a client stays as long as its pod is there",
    "auth-method": "without CONNECT and TRACE",
    "auth-proxy-set-headers": "of the Ingress' own namespace; of nginx's variables those of permanent-redirect; 503 without it",
    "auth-request-redirect": "of nginx's variables those of permanent-redirect",
    "auth-tls-error-page": "an address or path, with 302; variables as of permanent-redirect",
    "auth-tls-match-cn": "the whole name has to match, not its beginning; no repeated groups, look-around or back-references",
    "auth-tls-verify-depth": "not limited: name the very authorities that may sign",
    "auth-tls-secret": "of the Ingress' own namespace; each host has one authority, and a certificate in spec.tls",
    "auth-url": "HAProxy itself asks it, with the names of its own resolver; no body of its answer is passed on",
    "custom-headers": "of the Ingress' own namespace; on answers of pods; any header but those of the connection itself",
    "custom-http-errors": "answers of pods; default-backend has to name who answers instead, with at most 30 kB",
    "default-backend": "serves while no pod of the Ingress' own Services is ready",
    "hsts": "of Vrata only, over HTTPS: `max-age=31536000; includeSubDomains`; ingress-nginx has it in its ConfigMap",
    "limit-connections": "429 instead of 503; requests under way are counted, not connections",
    "limit-burst-multiplier": "5 means: five times the rate in any five seconds, or minutes; of 1, 2, 3, 5, 10, 20 and 50 the "
    "largest that is no more",
    "limit-rpm": "429 instead of 503; of all replicas together; see limit-burst-multiplier",
    "limit-rps": "429 instead of 503; of all replicas together; see limit-burst-multiplier",
    "load-balance": "always round robin; upstream-hash-by and affinity are for the rest",
    "mirror-request-body": "of up to 32 kB; a longer one is not sent along",
    "mirror-target": "HAProxy itself sends the copy, a hundred at a time; more are left out",
    "permanent-redirect-code": "another one counts as 301, as one below 300 or above 308 does there",
    "temporal-redirect-code": "another one counts as 302, as one below 300 or above 308 does there",
    "canary-weight-total": "also below 100, where 100 counts there",
    "permanent-redirect": "an address or path; of nginx's variables $host, $scheme, $request_uri, $uri and $args",
    "proxy-connect-timeout": "of pods with TLS 5 s, handshake included, or 75 s if it says more; of others 0.5 s",
    "proxy-body-size": "413 by Content-Length; a body that does not say its length passes, for it is sent on as it comes, and "
    "411 would end gRPC and streamed uploads",
    "preserve-trailing-slash": "always",
    "proxy-cookie-domain": "one replacement, no regular expressions",
    "proxy-cookie-path": "one replacement, no regular expressions",
    "proxy-redirect-from": "of Location; a beginning, `off`; of variables $host and $scheme, no regular expressions",
    "proxy-redirect-to": "as proxy-redirect-from",
    "relative-redirects": "always: what is written as a path stays one",
    "ssl-prefer-server-ciphers": "always",
    "proxy-next-upstream": "a connection that fails is always tried elsewhere; of the rest only `off` has an effect",
    "proxy-next-upstream-tries": "1 means `off`; else four",
    "proxy-read-timeout": "the longer of the two, at most 24 days; WebSockets may rest an hour, or longer if this says so",
    "proxy-send-timeout": "the longer of the two, at most 24 days",
    "proxy-ssl-ciphers": "up to TLS 1.2, as with nginx; without @ commands",
    "proxy-ssl-protocols": "TLSv1 to TLSv1.3, without gaps; without SSLv2 and SSLv3",
    "proxy-ssl-verify-depth": "not limited: name the very authorities that may sign",
    "proxy-ssl-secret": "of the Ingress' own namespace",
    "proxy-ssl-verify": "`on` needs proxy-ssl-name and a ca.crt",
    "satisfy": "of addresses, auth-type and auth-url; a denied address, or client without certificate, stays out in any case",
    "session-cookie-change-on-failure": "always: a client whose pod has gone gets another cookie",
    "session-cookie-conditional-samesite-none": "None is said to every browser: who does not know it is of 2019 or older",
    "session-cookie-expires": "written as Max-Age",
    "slow-start": "of Vrata only: so long does a new pod take to get its full share",
    "ssl-passthrough": "of a controller started with --ssl-passthrough; over HTTP the host leads to HTTPS",
    "temporal-redirect": "as permanent-redirect",
    "auth-secret": "of the Ingress' own namespace; hashes of htpasswd -B, -s, -m and crypt's; users of other lines get 401, "
    "and an event names them",
    "auth-type": "basic only; digest leaves the Ingress out",
    "backend-protocol": "without AJP and FCGI",
    "canary": "for Ingresses of its own namespace",
    "canary-by-header-pattern": "no repeated groups, look-around or back-references; of headers up to 1,024 characters",
    "connection-proxy-header": "connections to pods are kept, whatever it says",
    "server-alias": "names and wildcards, no regular expressions; with the rules of all Ingresses of the host in the namespace",
    "upstream-hash-by": "one of five variables, no text around them",
    "upstream-vhost": "a name, perhaps with a port, no variables",
}
_OBJECTS = "what is no name of an object"
_ADDRESSES = "what is no address or path, other variables"
_NAMES = "what is no DNS name"
# Of values that ingress-nginx takes (`vrata.ingress.annotations.source`), by name: a law compares the two.
_REFUSES = {
    **dict.fromkeys(
        ("auth-proxy-set-headers", "auth-secret", "auth-tls-secret", "custom-headers", "proxy-ssl-secret"), _OBJECTS
    ),
    **dict.fromkeys(
        ("permanent-redirect", "temporal-redirect", "auth-signin", "proxy-redirect-from", "proxy-redirect-to"),
        _ADDRESSES,
    ),
    **dict.fromkeys(("mirror-host", "proxy-cookie-domain", "proxy-ssl-name", "session-cookie-domain"), _NAMES),
    **dict.fromkeys(("server-alias", "upstream-vhost"), f"{_NAMES}: regular expressions, variables"),
    **dict.fromkeys(
        ("canary-by-cookie", "canary-by-header", "session-cookie-name"),
        "/ and :, which no name of a header or cookie has",
    ),
    **dict.fromkeys(
        ("proxy-connect-timeout", "proxy-read-timeout", "proxy-send-timeout"),
        "negative ones, with which nginx does not start",
    ),
    **dict.fromkeys(("auth-response-headers", "cors-allow-headers"), "a list without a name"),
    **dict.fromkeys(
        ("permanent-redirect-code", "temporal-redirect-code"), "300, 304, 305, 306, and what is no code of a redirect"
    ),
    **dict.fromkeys(("session-cookie-expires", "session-cookie-max-age"), "what is no whole number"),
    **dict.fromkeys(("app-root", "proxy-cookie-path", "session-cookie-path"), "what does not begin with /, variables"),
    "auth-method": "CONNECT, TRACE",
    "auth-signin-redirect-param": "/ : ? & =, which a parameter's name needs as %XX",
    "auth-tls-error-page": "names of locations (@name), hosts without a scheme",
    "auth-tls-match-cn": "expensive expressions",
    "auth-type": "digest",
    "auth-url": "a host with variables, other schemes",
    "backend-protocol": "FCGI",
    "canary-by-header-pattern": "expensive expressions",
    "cors-allow-origin": "origins without a comma between",
    "custom-http-errors": "codes below 400 and above 599",
    "mirror-target": "paths, a host with variables",
    "proxy-ssl-ciphers": "a list of which OpenSSL has none",
    "rewrite-target": "what begins with neither / nor a group, variables",
    "upstream-hash-by": "other variables, text",
    "x-forwarded-prefix": "variables, groups",
}


def _compared(row: Row) -> Row:
    """With its differences: what it does, else which values it does not take."""
    refuses = _REFUSES.get(row.name, "")
    note = _DIFFERS.get(row.name) or (f"not taken: {refuses}" if refuses else "")
    return replace(row, support=Support.DIFFERENTLY, note=note, refuses=refuses) if note else row


TABLE = {row.name: _compared(row) for row in ROWS}
