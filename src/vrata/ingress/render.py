"""The HAProxy configuration and maps of the Ingress controller: pure.

The configuration holds names of slots, addresses and numbers only. Hosts, paths and Services live in maps, one validated
key a line, so that adding a route is a change of a map, not of the configuration.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from vrata.haproxy.model import BindTls
from vrata.haproxy.tls import bind_words
from vrata.haproxy.words import ONLY_WEBSOCKETS
from vrata.ingress.annotations.grammar import LONGEST_MATCHED, NO_DHE
from vrata.ingress.model import (
    CAREFULLY,
    HANDSHAKE_MS,
    LONGEST_HANDSHAKE_MS,
    NEAR,
    NOT_HERE,
    REDIRECT,
    TO_EVERY,
    Scheme,
    Server,
    ServerTls,
    Settings,
    Slot,
)
from vrata.ingress.places import COOKIE_KINDS, LIVE, PATTERNS, PLAIN_KINDS, SLOW_KINDS, TLS_KINDS, Kind
from vrata.ingress.policy import BURSTS
from vrata.ingress.proxies import BALANCER
from vrata.ingress.rows import ANY, END
from vrata.ingress.said import dropped_headers
from vrata.ingress.served import LIST
from vrata.ingress.streams import Port

SLOT_LENGTH = len(REDIRECT)  # which is a backend like any slot
OWNERS = "owners"  # slot → backend: what a slot serves at the moment, also for the log
POLICIES = "policies"  # name → what `policy.lua` does
USERS = "users"  # Secret → version of its list of users
AUTHORITIES = "authorities"  # host → digest of the Secret that says who signs clients' certificates there
THROUGH = "through"  # host → slot of the pods that end its TLS
PROXIES = "proxies"  # network → whether it is the balancer's (`vrata.ingress.proxies`)
FORBIDDEN = "forbidden"  # address that no tenant's URL may lead to → why
STREAMS = "streams"  # name of a TCP port's frontend → slot
PROGRAM = "policy.lua"
DOORMAN = "users.sock"
INNER = "tls.sock"
ERRORS = "errors.sock"
OUTBOUND = "outbound.sock"
PEERS = "peers.sock"
ALONE = "alone"
ADDED_BYTES = 4096  # that headers may grow by: our own, those of an auth service
HOSTS = "hosts"  # the table of figures by host
HOST_COUNTERS = ("http_req_cnt", "http_err_cnt", "http_fail_cnt", "bytes_in_cnt", "bytes_out_cnt")
MISDIRECTED = "this connection was made for another name\\n"
NO_HOST = "a request needs a Host header\\n"
NO_TUNNEL = "nothing here is a proxy to elsewhere\\n"
NOT_FOUND = "no Ingress serves this host and path\\n"
TOO_MANY = "too many requests; wait a moment\\n"
BROKEN = "the settings of this route cannot be applied\\n"
_BROKEN = f'return status 503 content-type text/plain string "{BROKEN}"'
TOO_LONG = f"this path is longer than {LONGEST_MATCHED} characters; this host's are matched by regular expressions\\n"
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
        encrypted = _bind(settings, settings.https_port, directory, tls)
    parts = [
        _head(settings, directory, others),
        _frontend(Scheme.HTTP, _bind(settings, settings.http_port, directory), directory, settings),
        _frontend(Scheme.HTTPS, encrypted, directory, settings),
        _outbound(settings, directory),
        _LIMITS,
        _CONNECTIONS,
        *([_HOSTS.format(size=settings.host_metrics)] if settings.host_metrics else []),
        _SLOTS,
        _streams(settings, ports, directory),
        _peers(settings, directory, others),
        *(
            [_passthrough(_bind(settings, settings.https_port, directory), directory)]
            if settings.ssl_passthrough
            else []
        ),
    ]
    spare = tuple(spare)
    parts += [_slot(slot, servers, f"{directory}/tls") for slot, servers in slots.items()]
    parts += [_slot(slot, (), "") for slot in spare if slot[0] not in LIVE]
    # Whoever reads this knows what it can do; it may be another HAProxy than the one that runs.
    parts += [".if version_before(3.4)", *(_slot(slot, (), "") for slot in spare if slot[0] in LIVE), ".endif\n"]
    return "\n".join(parts)


def _bind(settings: Settings, port: int, directory: str, words: str = "", *, proxied: bool | None = None) -> str:
    """The balancer says the client's address by the PROXY protocol; of others their own address counts."""
    proxied = settings.accept_proxy if proxied is None else proxied
    line = f"  bind :{port:d} {words}".rstrip()
    believed = f"src,map_ip({map_path(directory, PROXIES)}) -m str {BALANCER}"
    return f"{line}\n" + (f"  tcp-request connection expect-proxy layer4 if {{ {believed} }}\n" if proxied else "")


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
  # A message's headers go through one buffer, with room for those that are added.
  tune.bufsize {settings.header_bytes + ADDED_BYTES:d}
  tune.maxrewrite {ADDED_BYTES:d}
  tune.http.maxhdr {settings.header_count:d}
  ssl-default-server-ciphers DEFAULT:{NO_DHE}
  localpeer {settings.replica or ALONE}
  # Connections to pods are kept until so many files are open: with many Services each has but a few.
  tune.pool-low-fd-ratio 40
  tune.pool-high-fd-ratio 60
  setenv VRATA_DIRECTORY {directory}
  setenv VRATA_LONGEST {settings.header_bytes * 15 // 16:d}
  setenv VRATA_MOST_HEADERS {settings.header_count:d}
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
  timeout http-keep-alive {settings.idle_timeout_ms:d}ms
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


def _outbound(settings: Settings, directory: str) -> str:
    """Where `policy.lua` asks what a tenant's URL names: judged by the address that it has at this moment."""
    resolve = "  http-request do-resolve(txn.address,default,ipv4) var(txn.name) unless { var(txn.address) -m found }\n"
    resolve = resolve if settings.resolver else ""
    refused = 'return status 403 content-type text/plain string "this address is not for tenants\\n"'
    unknown = 'return status 503 content-type text/plain string "this name has no address\\n"'
    return f"""\
frontend outbound from all
  bind unix@{directory}/{OUTBOUND} mode 600
  no log
  http-request set-var(txn.name) req.hdr(x-vrata-name)
  http-request set-var(txn.port) req.hdr(x-vrata-port)
  http-request set-var(txn.tls) req.hdr(x-vrata-tls)
  http-request set-method %[req.hdr(x-vrata-method)] if {{ req.hdr(x-vrata-method) -m found }}
  http-request del-header x-vrata- -m beg
  http-request set-var(txn.address) var(txn.name),ipmask(32) if {{ var(txn.name) -m reg ^[0-9]+([.][0-9]+){{3}}$ }}
{resolve}\
  http-request {unknown} unless {{ var(txn.address) -m found }}
  http-request {refused} if {{ var(txn.address) -m ip {" ".join(NEAR)} }}
  http-request {refused} if {{ var(txn.address),map_ip({map_path(directory, FORBIDDEN)}) -m found }}
  http-request set-dst var(txn.address)
  http-request set-dst-port var(txn.port)
  use_backend outbound-tls if {{ var(txn.tls) -m str 1 }}
  default_backend outbound-plain

backend outbound-plain from all
  server any 0.0.0.0:0

backend outbound-tls from all
  timeout connect {HANDSHAKE_MS:d}ms
  server any 0.0.0.0:0 ssl verify required ca-file @system-ca sni var(txn.name)
"""


def _frontend(scheme: Scheme, bind: str, directory: str, settings: Settings) -> str:
    end = END.encode("unicode_escape").decode()
    lookup = f"concat(/{end}),map_beg({map_path(directory, routes_of(scheme))})"
    missed = "unless { var(txn.slot) -m found }"
    known = f"if {{ var(txn.slot) -m len {SLOT_LENGTH} }}"
    # Keys are hosts that there are rules for, so nobody fills the table with names of their own.
    count = "  http-request track-sc2 {0} table " + HOSTS + " {1}\n" if settings.host_metrics else ""
    client = "src" if settings.forwarded else "var(sess.client)"
    return f"""\
frontend {scheme} from all
{bind}\
  # All requests of a connection say the same: as texts they need not be written out again for each.
  tcp-request session set-var(sess.client) src,concat()
  tcp-request session set-var(sess.port) dst_port,concat()
{_clients(directory) if scheme is Scheme.HTTPS else ""}{_access_log(settings, directory)}\
{_CHECKED}\
  # A replay is safe only for methods that promise it (RFC 9110, 9.2.2).
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS PUT DELETE TRACE }}
{_forwarded(settings)}\
  # Without its settings no pod changes to HTTP/2 (RFC 7540, 3.2.1), where no rule would hold; a pod that speaks it already
  # would get a tunnel instead of the request.
{"".join(f"  {line}{chr(10)}" for line in ONLY_WEBSOCKETS)}\
  # Of this connection only (RFC 9110, 7.6.1); gRPC needs `TE: trailers`. HAProxy has taken `close` and `keep-alive` off already.
  http-request lua.one_hop if {{ req.hdr(connection) -m found }}
  http-request del-header keep-alive
  http-request del-header proxy-connection
  http-request del-header te if {{ req.hdr(te) -m found }} !{{ req.fhdr(te) -i trailers }}
{dropped_headers(settings.forwarded)}\
  http-request add-header X-Forwarded-For %[{client}]
  http-request add-header X-Forwarded-Host %[req.hdr(host)]
  http-request add-header X-Forwarded-Port %[var(sess.port)]
  http-request add-header X-Forwarded-Proto {scheme}
  http-request add-header X-Real-IP %[{client}]
  # Nearly every request names its host as the map does and leads to a slot, the name of which has 8 characters.
  http-request set-var(txn.slot) base,{lookup}
{count.format("req.hdr(host),field(1,/)", known)}\
  http-request allow {known}
  http-request set-var(req.path) path
  http-request set-var(req.host) req.hdr(host),field(1,:),lower,rtrim(.)
{_look_up(scheme, directory, lookup)}\
  # Where none of a host's rules is for a request, its row says where it continues: to rules of the same namespace.
  http-request set-var(req.miss) var(txn.slot) if {{ var(txn.slot) -m beg {PATTERNS} }}
  http-request unset-var(txn.slot) if {{ var(req.miss) -m found }}
  http-request lua.careful {scheme} if {{ var(req.miss) -m end {CAREFULLY} }}
  http-request {_BROKEN} if {{ var(req.miss) -m end {CAREFULLY} }} !{{ var(txn.careful_done) -m bool }}
  http-request set-var(req.host) var(req.host),regsub(^[^.]*,{ANY}) {missed}
  http-request set-var(req.host) str({ANY}) if {{ var(req.miss) -m beg {TO_EVERY} }}
{_look_up(scheme, directory, lookup)}\
  http-request unset-var(txn.slot) if {{ var(txn.slot) -m beg {PATTERNS} }}
  http-request set-var(req.host) str({ANY}) {missed}
{_look_up(scheme, directory, lookup)}\
  http-request return status 404 content-type text/plain string "{NOT_FOUND}" {missed}
{count.format("var(req.host),field(1,/)", "")}\
  http-request allow {known}
{_policy(scheme, directory, settings)}\
  http-response lua.respond if {{ var(txn.respond) -m bool }}
  http-after-response add-header Server vrata unless {{ res.hdr(server) -m found }}
{_responses(scheme)}\
  use_backend %[var(txn.slot)]
"""


# RFC 9112: a request without Host is refused (3.2), one that names the whole address is passed on as others are (3.2.2); for
# HTTP/2 HAProxy does both itself. Nobody gets a tunnel to a pod (RFC 9110, 9.3.6).
_CHECKED = f"""\
  http-request return status 400 content-type text/plain string "{NO_HOST}" if !{{ req.hdr(host) -m found }} !{{ req.ver 1.0 }}
  http-request return status 405 content-type text/plain string "{NO_TUNNEL}" if METH_CONNECT
  http-request set-uri %[pathq] if !{{ url_beg / }} !{{ req.ver 2.0 }} {{ path -m found }}
  http-request set-uri * if !{{ url_beg / }} !{{ req.ver 2.0 }} METH_OPTIONS
  http-request set-uri / if !{{ url_beg / }} !{{ url * }} !{{ req.ver 2.0 }}
"""


def _forwarded(settings: Settings) -> str:
    """The client's address by the word of named networks: the last one of X-Forwarded-For, which they have added."""
    if not settings.forwarded:
        return ""
    said = f"{{ var(sess.client) -m ip {' '.join(settings.forwarded)} }} {{ req.hdr(x-forwarded-for,-1) -m found }}"
    return f"""\
  http-request set-src var(sess.client)
  http-request set-src req.hdr(x-forwarded-for,-1) if {said}
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
    too_long = f'return status 414 content-type text/plain string "{TOO_LONG}"'
    return f"""\
  http-request set-var(txn.slot) var(req.host),concat(,req.path),{lookup} unless {{ var(txn.slot) -m found }}
  http-request {too_long} {patterned} {{ path,length gt {LONGEST_MATCHED} }}
  http-request lua.patterns {scheme} {patterned}
  http-request {_BROKEN} {patterned} !{{ var(txn.patterns_done) -m bool }}
  http-request unset-var(txn.slot) {patterned}
"""


def _policy(scheme: Scheme, directory: str, settings: Settings) -> str:
    """What a route's annotations ask for (`policy.lua`); the place's parts are in `vrata.ingress.places`."""
    over = [
        ("second", "{ sc_gpc0_rate(0),sub(txn.limit_second) ge 0 }"),
        ("minute", "{ sc_gpc1_rate(0),sub(txn.limit_minute) ge 0 }"),
        ("connections", "{ sc_conn_cur(1),sub(txn.limit_connections) gt 0 }"),
    ]
    limits = [f"set-var(txn.over) bool(true) if {{ var(txn.limit_{name}) -m found }} {test}" for name, test in over]
    too_many = f'return status 429 content-type text/plain hdr Retry-After 1 string "{TOO_MANY}"'
    # Said before the program, which answers some requests itself. No word's value has a `=` in it.
    quiet = f"{{ var(txn.policy),map_str({map_path(directory, POLICIES)}) -m sub quiet=1 }}"
    rules = [
        "set-var(txn.policy) var(txn.slot),field(2,/)",
        *([f"set-log-level silent if {quiet}"] if settings.access_log else []),
        "set-var(txn.rewrite) var(txn.slot),regsub(^[^/]*/[^/]*,)",
        "set-var(txn.slot) var(txn.slot),field(1,/)",
        f"set-var(txn.scheme) str({scheme})",
        "set-var(txn.host) req.hdr(host)",
        "set-var(txn.name) req.hdr(host),host_only,lower,rtrim(.)",
        "set-var(txn.uri) pathq",
        "set-var(txn.source) src,hex,lower",
        "lua.policy",
        f"{_BROKEN} unless {{ var(txn.policy_done) -m bool }}",
        "disable-l7-retry if { var(txn.no_retry) -m bool }",
        *(f"track-sc0 var(txn.limit) table limits-{one} if {{ var(txn.limit_burst) -m str {one} }}" for one in BURSTS),
        "track-sc1 var(txn.limit) table limits-connections if { var(txn.limit_connections) -m found }",
        *limits,
        f"{too_many} if {{ var(txn.over) -m bool }}",
        "sc-inc-gpc0(0) if { var(txn.limit_second) -m found }",
        "sc-inc-gpc1(0) if { var(txn.limit_minute) -m found }",
        "lua.authenticate if { var(txn.auth) -m bool }",
        f"{_BROKEN} if {{ var(txn.auth) -m bool }} !{{ var(txn.auth_done) -m bool }}",
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
        bind = _bind(settings, port.number, directory, proxied=port.proxied)
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
# The policy of a cookie also spreads evenly where it hashes nothing.
_BALANCE = ("balance roundrobin", _HASH, _HASH)
_KINDS = (
    *((kind, balance, "") for kind, balance in zip(PLAIN_KINDS, _BALANCE, strict=True)),
    *((kind, balance, f"{HANDSHAKE_MS:d}ms") for kind, balance in zip(TLS_KINDS, _BALANCE, strict=True)),
    *((kind, balance, f"{LONGEST_HANDSHAKE_MS:d}ms") for kind, balance in zip(SLOW_KINDS, _BALANCE, strict=True)),
)
_SLOTS = f"""\
backend {REDIRECT} from all
  # TLS of a host that is passed through was ended here: for another name of the same certificate, or another Host.
  http-request return status 421 content-type text/plain string "{MISDIRECTED}" if {{ ssl_fc }}
  # Without the client's port, which is of HTTP, and without a dot at the end, which $host has neither.
  http-request redirect location https://%[req.hdr(host),host_only,rtrim(.)]%[pathq] code 308

backend {NOT_HERE} from all
  http-request return status 404 content-type text/plain string "{NOT_FOUND}"
""" + "".join(
    f"""
defaults {kind} from all
  {balance}
{f"  timeout connect {connect}{chr(10)}" if connect else ""}\
  http-request set-timeout server var(txn.timeout) if {{ var(txn.timeout) -m found }}
  http-request set-timeout tunnel var(txn.tunnel) if {{ var(txn.tunnel) -m found }}
"""
    for kind, balance, connect in _KINDS
)


def _slot(slot: Slot, servers: Iterable[Server], tls_dir: str) -> str:
    rows = "".join(
        f"  server {' '.join((one.name, server_address(one), *server_words(one, tls_dir)))}\n" for one in servers
    )
    # HAProxy does not take this one in `defaults`.
    known = "  use-server %[var(txn.server)] if { var(txn.server) -m found }\n" if slot[0] in COOKIE_KINDS else ""
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
    ciphers = ("ciphers", f"{tls.ciphers}:{NO_DHE}") if tls.ciphers else ()
    return ("ssl", "verify", *(trusted if tls.authority else ("none",)), *shown, *named, *bounds, *ciphers)


def server_address(server: Server) -> str:
    """`address:port`, with brackets around IPv6."""
    return _endpoint(server.address, server.port)


def _endpoint(address: str, port: int) -> str:
    found = ipaddress.ip_address(address)
    return f"[{found}]:{port:d}" if found.version == 6 else f"{found}:{port:d}"
