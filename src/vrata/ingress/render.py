"""The HAProxy configuration and maps of the Ingress controller: pure.

The configuration holds names of slots, addresses and numbers only. Hosts, paths and Services live in maps, one validated
key a line, so that adding a route is a change of a map, not of the configuration.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from vrata.haproxy.model import BindTls
from vrata.haproxy.tls import bind_words
from vrata.ingress.model import REDIRECT, Scheme, Server, ServerTls, Settings, Slot
from vrata.ingress.places import LIVE, PATTERNS, Kind
from vrata.ingress.policy import BURSTS
from vrata.ingress.rows import ANY, END
from vrata.ingress.served import LIST
from vrata.ingress.streams import Port

SLOT_LENGTH = len(REDIRECT)  # which is a backend like any slot
OWNERS = "owners"  # slot → backend: what a slot serves at the moment, also for the log
POLICIES = "policies"  # name → what `policy.lua` does
USERS = "users"  # Secret → version of its list of users
AUTHORITIES = "authorities"  # host → digest of the Secret that says who signs clients' certificates there
THROUGH = "through"  # host → slot of the pods that end its TLS
STREAMS = "streams"  # name of a TCP port's frontend → slot
PROGRAM = "policy.lua"
DOORMAN = "users.sock"
INNER = "tls.sock"
ERRORS = "errors.sock"
PEERS = "peers.sock"
ALONE = "alone"
HOSTS = "hosts"  # the table of figures by host
HOST_COUNTERS = ("http_req_cnt", "http_err_cnt", "http_fail_cnt", "bytes_in_cnt", "bytes_out_cnt")
NOT_FOUND = "no Ingress serves this host and path\\n"
TOO_MANY = "too many requests; wait a moment\\n"
BROKEN = "the settings of this route can not be carried out\\n"
UNCLEAR = "this path can be read as another one; write it plainly\\n"
UNAVAILABLE = "no pod is ready to answer; try again in a moment\\n"


def render_config(
    settings: Settings,
    slots: Mapping[Slot, Iterable[Server]],
    spare: Iterable[Slot],
    directory: str,
    ports: Iterable[Port] = (),
    replicas: Iterable[str] = (),
) -> str:
    """The whole configuration; `directory` holds the maps and sockets, `replicas` are addresses of others.

    `slots` are in use; `spare` are for backends to come, unless this HAProxy adds those when they do.
    """
    others = sorted(replicas)
    # Clients with certificates that nobody vouches for come in, for a route to decide what they get.
    tls = " ".join(
        [*bind_words(BindTls(certificates=LIST), f"{directory}/tls"), "ca-ignore-err all crt-ignore-err all"]
    )
    if settings.ssl_passthrough:
        # Behind the frontend that looks at names it hears of clients' addresses by the PROXY protocol in any case.
        encrypted = f"  bind unix@{directory}/{INNER} mode 600 accept-proxy {tls}\n"
    else:
        encrypted = _bind(settings, settings.https_port, tls)
    parts = [
        _head(settings, directory, others),
        _frontend(Scheme.HTTP, _bind(settings, settings.http_port), directory, settings),
        _frontend(Scheme.HTTPS, encrypted, directory, settings),
        _LIMITS,
        _CONNECTIONS,
        *([_HOSTS.format(size=settings.host_metrics)] if settings.host_metrics else []),
        _SLOTS,
        _streams(settings, ports, directory),
        _peers(settings, directory, others),
        *([_passthrough(_bind(settings, settings.https_port), directory)] if settings.ssl_passthrough else []),
    ]
    spare = tuple(spare)
    parts += [_slot(slot, servers, f"{directory}/tls") for slot, servers in slots.items()]
    parts += [_slot(slot, (), "") for slot in spare if slot[0] not in LIVE]
    # Whoever reads this knows what it can do; it may be another HAProxy than the one that runs.
    parts += [".if version_before(3.4)", *(_slot(slot, (), "") for slot in spare if slot[0] in LIVE), ".endif\n"]
    return "\n".join(parts)


def _bind(settings: Settings, port: int, words: str = "", *, proxied: bool | None = None) -> str:
    """Who comes with the PROXY protocol says the client's address by it; of others their own address counts."""
    proxied = settings.accept_proxy if proxied is None else proxied
    trusted = " ".join(settings.proxies)
    line = " ".join(("  bind", f":{port:d}", *(["accept-proxy"] if proxied and not trusted else []), words)).rstrip()
    rule = f"  tcp-request connection expect-proxy layer4 if {{ src {trusted} }}\n" if proxied and trusted else ""
    return f"{line}\n{rule}"


def routes_of(scheme: Scheme) -> str:
    """The map of a scheme's routes."""
    return f"routes-{scheme}"


def patterns_map(scheme: Scheme) -> str:
    """The map of a scheme's routes whose paths are patterns."""
    return f"patterns-{scheme}"


def render_map_file(rows: Iterable[tuple[str, str]]) -> str:
    """A map as a file: key, blank, value."""
    return "".join(f"{key} {value}\n" for key, value in rows)


def map_path(directory: str, name: str) -> str:
    """Where a map's file is; also its name on the runtime socket."""
    return f"{directory}/{name}.map"


def _head(settings: Settings, directory: str, replicas: Iterable[str]) -> str:
    backend = f"%[path,field(3,/),map_str({map_path(directory, OWNERS)})]"
    return f"""\
global
  log stderr format raw local0 notice
  stats socket {directory}/stats.sock mode 600 level admin
  hard-stop-after {settings.drain_s:d}s
  nbthread {settings.threads:d}
  localpeer {settings.replica or ALONE}
  # Connections to pods are kept until so many files are open: with many Services each has but a few.
  tune.pool-low-fd-ratio 40
  tune.pool-high-fd-ratio 60
  setenv VRATA_POLICIES {map_path(directory, POLICIES)}
  setenv VRATA_USERS {map_path(directory, USERS)}
  setenv VRATA_DOORMAN {directory}/{DOORMAN}
  setenv VRATA_REPLICAS {",".join([settings.replica or ALONE, *replicas])}
  setenv VRATA_ERRORS {directory}/{ERRORS}
  setenv VRATA_OWNERS {map_path(directory, OWNERS)}
  lua-load-per-thread {directory}/{PROGRAM}

defaults all
  log global
  mode http
  option dontlognull
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
.if version_atleast(3.4)
  # What may have to be sent again is kept in a small copy, not in one of a whole buffer.
  option use-small-buffers l7-retries
.endif
  timeout connect {settings.connect_timeout_ms:d}ms
  timeout client {settings.client_timeout_ms:d}ms
  timeout server {settings.server_timeout_ms:d}ms
  timeout tunnel {settings.tunnel_timeout_ms:d}ms
  timeout http-request 10s
  timeout queue 5s
  http-error status 503 content-type text/plain string "{UNAVAILABLE}"

frontend health from all
  bind :{settings.health_port:d}
  monitor-uri /healthz
  http-request use-service prometheus-exporter if {{ path /metrics }}
  # Which Service a backend of the log or the statistics serves.
  http-request return status 200 content-type text/plain lf-string "{backend}" if {{ path_beg /backends/ }}
  http-request return status 404

# Where `policy.lua` asks for an answer in place of a pod's.
frontend errors from all
  bind unix@{directory}/{ERRORS} mode 600
  http-request set-var(txn.slot) req.hdr(x-slot)
  http-request del-header x-slot
  use_backend %[var(txn.slot)]
"""


# Names under which pods are told what no client can say of itself.
_OURS = "'^(forwarded|http2-settings|x[-_](forwarded[-_].*|real[-_]ip|scheme)|ssl[-_]client[-_].*)$'"


def _frontend(scheme: Scheme, bind: str, directory: str, settings: Settings) -> str:
    end = END.encode("unicode_escape").decode()
    lookup = f"concat(/{end}),map_beg({map_path(directory, routes_of(scheme))})"
    missed = "unless { var(txn.slot) -m found }"
    known = f"if {{ var(txn.slot) -m len {SLOT_LENGTH} }}"
    # Keys are hosts that there are rules for, so nobody fills the table with names of their own.
    count = "  http-request track-sc2 {0} table " + HOSTS + " {1}\n" if settings.host_metrics else ""
    return f"""\
frontend {scheme} from all
{bind}\
  # All requests of a connection say the same: as texts they need not be written out again for each.
  tcp-request session set-var(sess.client) src,concat()
  tcp-request session set-var(sess.port) dst_port,concat()
{_clients(directory) if scheme is Scheme.HTTPS else ""}{_access_log(settings, directory)}\
  # A replay is safe only for methods that promise it (RFC 9110, 9.2.2).
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS PUT DELETE TRACE }}
  # Many a pod reads `_` as `-`. Without its settings no pod changes to HTTP/2 (RFC 7540, 3.2.1), where no rule would hold.
  http-request del-header {_OURS} -m reg
  http-request add-header X-Forwarded-For %[var(sess.client)]
  http-request add-header X-Forwarded-Host %[req.hdr(host)]
  http-request add-header X-Forwarded-Port %[var(sess.port)]
  http-request add-header X-Forwarded-Proto {scheme}
  http-request add-header X-Real-IP %[var(sess.client)]
  # Nearly every request names its host as the map does and leads to a slot, the name of which has 8 characters.
  http-request set-var(txn.slot) base,{lookup}
{count.format("req.hdr(host),field(1,/)", known)}\
  http-request allow {known}
  http-request set-var(req.path) path
  http-request set-var(req.host) req.hdr(host),field(1,:),lower,rtrim(.)
{_look_up(scheme, directory, lookup)}\
  http-request set-var(req.host) var(req.host),regsub(^[^.]*,{ANY}) {missed}
{_look_up(scheme, directory, lookup)}\
  http-request set-var(req.host) str({ANY}) {missed}
{_look_up(scheme, directory, lookup)}\
  http-request return status 404 content-type text/plain string "{NOT_FOUND}" {missed}
{count.format("var(req.host),field(1,/)", "")}\
  http-request allow {known}
{_policy(scheme, directory, lookup, settings)}\
  http-response lua.respond if {{ var(txn.respond) -m bool }}
  http-after-response add-header Server vrata unless {{ res.hdr(server) -m found }}
{_responses(scheme)}\
  use_backend %[var(txn.slot)]
"""


def _clients(directory: str) -> str:
    """Whose certificate was asked for when the connection was made: what a map says later is not of this one."""
    found, name = map_path(directory, AUTHORITIES), "ssl_fc_sni,lower"
    missed = "unless { var(sess.authority) -m found }"
    return f"""\
  tcp-request session set-var(sess.name) {name}
  tcp-request session set-var(sess.authority) var(sess.name),map_str({found})
  tcp-request session set-var(sess.authority) var(sess.name),regsub(^[^.]*,{ANY}),map_str({found}) {missed}
"""


def _access_log(settings: Settings, directory: str) -> str:
    """One JSON object a request; what comes from clients is quoted by HAProxy's own converter."""
    if not settings.access_log:
        return "  no log\n"  # else HAProxy writes a line for each request, and drops it for its level
    said = {"method": "method", "host": "req.hdr(host)", "uri": "url", "agent": "req.hdr(user-agent)"}
    kept = "".join(f"  http-request set-var(txn.log_{name}) {fetch}\n" for name, fetch in said.items())
    texts = {name: f"%[var(txn.log_{name}),json(utf8s)]" for name in said}
    texts |= {"client": "%ci", "frontend": "%ft", "server": "%s", "end": "%tsc", "place": "%b"}
    texts |= {"service": f"%[be_name,map_str({map_path(directory, OWNERS)})]"}
    numbers = {"time": "%Ts.%ms", "status": "%ST", "bytes": "%B", "connect_ms": "%Tc", "response_ms": "%Tr"}
    numbers |= {"total_ms": "%Ta", "retries": "%rc"}
    line = ",".join(
        [
            *(f'"{name}":{word}' for name, word in numbers.items()),
            *(f'"{name}":"{word}"' for name, word in texts.items()),
        ]
    )
    return f"  log {settings.access_log} len 8192 format raw local1 info\n  log-format '{{{line}}}'\n{kept}"


def _look_up(scheme: Scheme, directory: str, lookup: str) -> str:
    """Look for a host's route; where its paths are patterns, among those."""
    patterned = f"if {{ var(txn.slot) -m str {PATTERNS} }}"
    patterns = map_path(directory, patterns_map(scheme))
    return f"""\
  http-request set-var(txn.slot) var(req.host),concat(,req.path),{lookup} unless {{ var(txn.slot) -m found }}
  http-request set-var(txn.slot) var(req.host),concat(,req.path),map_regm({patterns}) {patterned}
  http-request unset-var(txn.slot) {patterned}
"""


def _policy(scheme: Scheme, directory: str, lookup: str, settings: Settings) -> str:
    """What a route's annotations ask for (`policy.lua`); the place's parts are in `vrata.ingress.places`."""
    over = [
        ("second", "{ sc_gpc0_rate(0),sub(txn.limit_second) ge 0 }"),
        ("minute", "{ sc_gpc1_rate(0),sub(txn.limit_minute) ge 0 }"),
        ("connections", "{ sc_conn_cur(1),sub(txn.limit_connections) gt 0 }"),
    ]
    limits = [f"set-var(txn.over) bool(true) if {{ var(txn.limit_{name}) -m found }} {test}" for name, test in over]
    too_many = f'return status 429 content-type text/plain hdr Retry-After 1 string "{TOO_MANY}"'
    broken = f'return status 503 content-type text/plain string "{BROKEN}"'
    # What leads elsewhere once it is read as pods may read it is refused where that could be behind a guard.
    other, patterns = "var(req.host),concat(,req.other)", map_path(directory, patterns_map(scheme))
    unclear = f'return status 400 content-type text/plain string "{UNCLEAR}"'
    # Said before the program, which answers some requests itself. No word's value has a `=` in it.
    quiet = f"{{ var(txn.policy),map_str({map_path(directory, POLICIES)}) -m sub quiet=1 }}"
    rules = [
        "set-var(txn.row) var(txn.slot),field(1,/,2)",
        "set-var(txn.policy) var(txn.slot),field(2,/)",
        *([f"set-log-level silent if {quiet}"] if settings.access_log else []),
        "set-var(txn.rewrite) var(txn.slot),regsub(^[^/]*/[^/]*,)",
        "set-var(txn.slot) var(txn.slot),field(1,/)",
        f"set-var(txn.scheme) str({scheme})",
        "set-var(txn.host) req.hdr(host)",
        "set-var(txn.uri) pathq",
        "lua.policy",
        f"{broken} unless {{ var(txn.policy_done) -m bool }}",
        f"set-var(req.row) {other},{lookup} if {{ var(req.other) -m found }}",
        f"set-var(req.row) {other},map_regm({patterns}) if {{ var(req.row) -m str {PATTERNS} }}",
        "set-var(req.row) var(req.row),field(1,/,2)",
        f"{unclear} if {{ var(req.other) -m found }} !{{ var(req.row),strcmp(txn.row) eq 0 }}",
        "disable-l7-retry if { var(txn.no_retry) -m bool }",
        *(f"track-sc0 var(txn.limit) table limits-{one} if {{ var(txn.limit_burst) -m str {one} }}" for one in BURSTS),
        "track-sc1 var(txn.limit) table limits-connections if { var(txn.limit_connections) -m found }",
        *limits,
        f"{too_many} if {{ var(txn.over) -m bool }}",
        "sc-inc-gpc0(0) if { var(txn.limit_second) -m found }",
        "sc-inc-gpc1(0) if { var(txn.limit_minute) -m found }",
        "lua.authenticate if { var(txn.auth) -m bool }",
        f"{broken} if {{ var(txn.auth) -m bool }} !{{ var(txn.auth_done) -m bool }}",
        "wait-for-body time 5s if { var(txn.mirror_body) -m bool }",
        "lua.mirror if { var(txn.mirror) -m bool }",
    ]
    return "".join(f"  http-request {rule}\n" for rule in rules)


def _responses(scheme: Scheme) -> str:
    origin = "if { var(txn.cors_origin) -m found }"
    cookie = "%[var(txn.cookie)]=%[var(txn.served_by)]%[var(txn.cookie_attributes)]"
    rules = [
        "allow unless { var(txn.policy) -m found }",
        f"set-header Access-Control-Allow-Origin %[var(txn.cors_origin)] {origin}",
        f"add-header Vary Origin {origin}",
        "set-header Access-Control-Allow-Credentials true if { var(txn.cors_credentials) -m found }",
        "set-header Access-Control-Expose-Headers %[var(txn.cors_expose)] if { var(txn.cors_expose) -m found }",
        "set-var(txn.served_by) srv_name if { var(txn.cookie) -m found }",
        # The client has this cookie already if the server is the one it asked for.
        "unset-var(txn.cookie) if { var(txn.server),strcmp(txn.served_by) eq 0 }",
        f"add-header Set-Cookie {cookie} if {{ var(txn.cookie) -m found }} {{ var(txn.served_by) -m found }}",
    ]
    if scheme is Scheme.HTTPS:  # over HTTP it means nothing (RFC 6797, section 7.2)
        rules.append("set-header Strict-Transport-Security %[var(txn.hsts)] if { var(txn.hsts) -m found }")
    return "".join(f"  http-after-response {rule}\n" for rule in rules)


# A counter for each replica, Ingress and client address: rates are shared by all replicas, which never write each other's.
_LIMITS = "\n".join(
    f"""\
backend limits-{burst} from all
  stick-table type string len 100 size 100k expire {2 * burst}m store gpc0_rate({burst}s),gpc1_rate({burst}m) peers replicas
"""
    for burst in BURSTS
)
# What is under way is known to whoever serves it.
_CONNECTIONS = """\
backend limits-connections from all
  stick-table type string len 100 size 100k expire 60s store conn_cur
"""
_HOSTS = f"""\
backend {HOSTS} from all
  stick-table type string len 253 size {{size}} expire 1d nopurge store {",".join(HOST_COUNTERS)}
"""


def _peers(settings: Settings, directory: str, replicas: Iterable[str]) -> str:
    """Who shares what is counted: over a reload this HAProxy with the one before, then with those of other replicas.

    The protocol knows no passwords, so only these are heard.
    """
    own = f"unix@{directory}/{PEERS}"
    port = settings.replicas_port
    lines = [f"peers replicas\n  bind {own} mode 600\n  server {settings.replica or ALONE}\n"]
    lines += [f"  server {one} {_endpoint(one, port)}\n" for one in replicas]
    if replicas:
        lines.append(f"""
frontend replicas-in from tcp
  bind {_endpoint(settings.replica, port)}
  tcp-request connection reject unless {{ src {" ".join(replicas)} }}
  default_backend replicas-here

backend replicas-here from tcp
  server here {own}
""")
    return "".join(lines)


def _streams(settings: Settings, ports: Iterable[Port], directory: str) -> str:
    """Listeners of TCP services; the rules of HTTP mean nothing there, so they have defaults of their own."""
    common = f"""\
  log global
  mode tcp
  option redispatch 1
  retries 3
  timeout connect {settings.connect_timeout_ms:d}ms
  timeout client {settings.tunnel_timeout_ms:d}ms
  timeout server {settings.tunnel_timeout_ms:d}ms
  timeout queue 5s
"""
    parts = [f"defaults tcp\n{common}", f"defaults {Kind.TCP}\n{common}  balance roundrobin\n"]
    for port in sorted(ports):
        bind = _bind(settings, port.number, proxied=port.proxied)
        slot = f"%[str({port.name}),map_str({map_path(directory, STREAMS)})]"
        parts.append(f"frontend {port.name} from tcp\n{bind}  use_backend {slot}\n")
    return "\n".join(parts)


def _passthrough(bind: str, directory: str) -> str:
    """Looks at the name in the handshake before anybody answers it (RFC 6066, section 3)."""
    found = f"req.ssl_sni,lower,map_str({map_path(directory, THROUGH)})"
    return f"""\
frontend names from tcp
{bind}\
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  use_backend %[{found}] if {{ {found} -m found }}
  default_backend ended

backend ended from tcp
  server here unix@{directory}/{INNER} send-proxy-v2
"""


_HASH = "balance hash var(txn.hash)\n  hash-type consistent sdbm avalanche"
_BALANCE = {
    Kind.ROUND_ROBIN: "balance roundrobin",
    Kind.HASH: _HASH,
    Kind.COOKIE: _HASH,  # also spreads evenly where the policy hashes nothing
}
_SLOTS = f"""\
backend {REDIRECT} from all
  http-request redirect scheme https code 308
""" + "".join(
    f"""
defaults {kind} from all
  {balance}
  http-request set-timeout server var(txn.timeout) if {{ var(txn.timeout) -m found }}
  http-request set-timeout tunnel var(txn.tunnel) if {{ var(txn.tunnel) -m found }}
"""
    for kind, balance in _BALANCE.items()
)


def _slot(slot: Slot, servers: Iterable[Server], tls_dir: str) -> str:
    rows = "".join(
        f"  server {' '.join((one.name, server_address(one), *server_words(one, tls_dir)))}\n" for one in servers
    )
    # HAProxy does not take this one in `defaults`.
    known = "  use-server %[var(txn.server)] if { var(txn.server) -m found }\n" if slot[0] == Kind.COOKIE else ""
    return f"backend {slot} from {slot[0]}\n{known}{rows}"


# TLS versions of an annotation, as HAProxy writes them.
_VERSIONS = {"TLSv1": "TLSv1.0", "TLSv1.1": "TLSv1.1", "TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3"}


def server_words(server: Server, tls_dir: str) -> tuple[str, ...]:
    """What a `server` line, and `add server`, says after the address."""
    slow_ms = server.slow_start_ms
    words = (("proto", "h2"), server.h2), (("send-proxy-v2",), server.proxy), (("slowstart", f"{slow_ms:d}ms"), slow_ms)
    return (*_tls_words(server.tls, tls_dir), *(word for words_, wanted in words if wanted for word in words_))


def _tls_words(tls: ServerTls | None, tls_dir: str) -> tuple[str, ...]:
    if tls is None:
        return ()
    trusted = ("required", "ca-file", f"{tls_dir}/{tls.authority}", "verifyhost", tls.name)
    shown = ("crt", f"{tls_dir}/{tls.certificate}") if tls.certificate else ()
    named = ("sni", f"str({tls.name})") if tls.sends_name else ()
    oldest, newest = tls.versions or ("", "")
    bounds = ("ssl-min-ver", _VERSIONS[oldest], "ssl-max-ver", _VERSIONS[newest]) if tls.versions else ()
    ciphers = ("ciphers", tls.ciphers) if tls.ciphers else ()
    return ("ssl", "verify", *(trusted if tls.authority else ("none",)), *shown, *named, *bounds, *ciphers)


def server_address(server: Server) -> str:
    """`address:port`, with brackets around IPv6."""
    return _endpoint(server.address, server.port)


def _endpoint(address: str, port: int) -> str:
    found = ipaddress.ip_address(address)
    return f"[{found}]:{port:d}" if found.version == 6 else f"{found}:{port:d}"
