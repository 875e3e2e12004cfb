"""Writes HAProxy configuration text from the model; every user-given word goes through `quote`. Does no I/O.

HAProxy configuration manual 2.6: quoting is section 2.2, proxies are section 4, servers section 5.2. A value outside
its grammar raises InvalidInput with field, value and remedy, and nothing is rendered.
"""

import re

from vrata.base.errors import InvalidInput
from vrata.haproxy import tls
from vrata.haproxy.l7 import l7_lines
from vrata.haproxy.model import (
    Backend,
    Balance,
    Check,
    CheckKind,
    Config,
    Confined,
    Frontend,
    Mode,
    Persistence,
    Server,
)
from vrata.haproxy.words import (
    ONLY_WEBSOCKETS,
    address_word,
    check_name,
    cidr_word,
    milliseconds,
    number,
    quote,
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 token
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_CODES = re.compile(r"[1-5][0-9]{2}(-[1-5][0-9]{2}|(,[1-5][0-9]{2}){0,31})")
# sun_path holds 108 bytes, and HAProxy binds a socket under a longer name first.
_FILE = re.compile(r"/[A-Za-z0-9_./@+-]{1,96}")
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_CIDRS_A_LINE = 20  # a configuration line holds 64 words at most (MAX_LINE_ARGS)
_MAX_WEIGHT = 256

INSERT_HEADERS = {
    "X-Forwarded-For": "option forwardfor",
    "X-Forwarded-Port": "http-request set-header X-Forwarded-Port %[dst_port]",
    "X-Forwarded-Proto": "http-request set-header X-Forwarded-Proto http",
}
TLS_HEADERS = {
    "X-Forwarded-Proto": "http-request set-header X-Forwarded-Proto https",
    "X-SSL-Client-Verify": "http-request set-header X-SSL-Client-Verify %[ssl_c_verify]",
    "X-SSL-Client-Has-Cert": "http-request set-header X-SSL-Client-Has-Cert %[ssl_c_used]",
    "X-SSL-Client-DN": "http-request set-header X-SSL-Client-DN %{+Q}[ssl_c_s_dn]",
    "X-SSL-Client-CN": "http-request set-header X-SSL-Client-CN %{+Q}[ssl_c_s_dn(cn)]",
    "X-SSL-Issuer": "http-request set-header X-SSL-Issuer %{+Q}[ssl_c_i_dn]",
    "X-SSL-Client-SHA1": "http-request set-header X-SSL-Client-SHA1 %{+Q}[ssl_c_sha1,hex]",
    "X-SSL-Client-Not-Before": "http-request set-header X-SSL-Client-Not-Before %{+Q}[ssl_c_notbefore]",
    "X-SSL-Client-Not-After": "http-request set-header X-SSL-Client-Not-After %{+Q}[ssl_c_notafter]",
}


def render_endpoint(field: str, address: str, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    return f"{address_word(field, address)}:{number(field, port, 1, 65535)}"


def render_server_options(backend: Backend, server: Server, tls_dir: str = "") -> tuple[str, ...]:
    """The words after a server's address, good for `server` lines and for `add server` of the runtime API alike."""
    words = ["weight", str(number("member.weight", server.weight, 0, _MAX_WEIGHT))]
    if server.backup:
        words.append("backup")
    if backend.send_proxy:
        words.append(str(backend.send_proxy))
    if backend.tls:
        words += tls.server_words(backend.tls, tls_dir, "ssl_fc_sni" if backend.mode is Mode.HTTP else None)
    if backend.check:
        words += _check_options(backend, backend.check, server)
    return tuple(words)


def render_config(config: Config) -> str:
    """The whole configuration file."""
    if not _FILE.fullmatch(config.stats_socket):
        raise InvalidInput("stats_socket", config.stats_socket, "use a plain absolute path of at most 97 characters")
    lines = [
        "global",
        f"    stats socket {config.stats_socket} mode 600 level admin",
        f"    hard-stop-after {milliseconds('hard_stop_after', config.hard_stop_after_ms)}",
        f"    nbthread {number('threads', config.threads, 1, 64)}",
        "    tune.ssl.default-dh-param 2048",
    ]
    if config.confined:
        lines += _confined(config.confined)
    if config.max_connections is not None:
        lines.append(f"    maxconn {number('max_connections', config.max_connections, 1, 10_000_000)}")
    if config.local_peer:
        lines.append(f"    localpeer {check_name('local_peer', config.local_peer)}")
    lines += ["", "defaults", "    retries 3", "    option redispatch", "    option dontlognull"]
    # Limits of what a frontend may hold open while it says nothing; each proxy sets its own below.
    lines += ["    timeout connect 5s", "    timeout client 50s", "    timeout server 50s", "    timeout queue 60s"]
    if config.peers:
        lines += ["", "peers pair"]
        lines += [
            f"    peer {check_name('peer', peer.name)} {render_endpoint('peer', peer.address, peer.port)}"
            for peer in config.peers
        ]
    for frontend in config.frontends:
        lines += ["", *_frontend(frontend, config.tls_dir)]
    for backend in config.backends:
        lines += ["", *_backend(backend, config.tls_dir, shared=bool(config.peers))]
    return "\n".join(lines) + "\n"


def _confined(confined: Confined) -> list[str]:
    if not _FILE.fullmatch(confined.root):
        raise InvalidInput("confined.root", confined.root, "use a plain absolute path of at most 97 characters")
    user_id = number("confined.user_id", confined.user_id, 1, 2**31 - 1)
    return [f"    chroot {confined.root}", f"    uid {user_id}", f"    gid {user_id}"]


def _frontend(frontend: Frontend, tls_dir: str) -> list[str]:
    lines = [f"frontend {check_name('listener.id', frontend.name)}", f"    mode {frontend.mode}"]
    secure = [" ".join(tls.bind_words(frontend.tls, tls_dir))] if frontend.tls else []
    binds = (render_endpoint("listener", address, frontend.port) for address in frontend.addresses)
    lines += ["    " + " ".join(["bind", bind, *secure]) for bind in binds]
    if frontend.max_connections is not None:
        lines.append(f"    maxconn {number('connection_limit', frontend.max_connections, 1, 10_000_000)}")
    lines.append(f"    timeout client {milliseconds('timeout_client_data', frontend.client_timeout_ms)}")
    if frontend.mode is Mode.HTTP:
        # After a reload the old worker would close idle connections under a client's next request.
        lines.append("    option idle-close-on-response")
        limit_ms = min(milliseconds("timeout_client_data", frontend.client_timeout_ms), 50_000)
        lines.append(f"    timeout http-request {limit_ms}")
    if frontend.inspect_delay_ms:
        lines.append(f"    tcp-request inspect-delay {milliseconds('timeout_tcp_inspect', frontend.inspect_delay_ms)}")
    cidrs = [cidr_word("allowed_cidrs", cidr) for cidr in frontend.allowed_cidrs]
    for start in range(0, len(cidrs), _CIDRS_A_LINE):
        lines.append("    acl allowed src " + " ".join(cidrs[start : start + _CIDRS_A_LINE]))
    if cidrs:
        lines.append("    tcp-request connection reject unless allowed")
    if frontend.source_port:
        lines.append("    tcp-request session set-var(sess.vrata_port) src_port")
    if frontend.tls:
        unwanted = tls.hole_versions(frontend.tls)
        lines += [f"    tcp-request session reject if {{ ssl_fc_protocol {version} }}" for version in unwanted]
    lines += [f"    {line}" for line in _http_lines(frontend)]
    if frontend.backend:
        lines.append(f"    default_backend {check_name('default_pool_id', frontend.backend)}")
    elif frontend.mode is Mode.TCP:
        lines.append("    tcp-request connection reject")
    return lines


def _http_lines(frontend: Frontend) -> list[str]:
    """L7 rules first: they judge what the client sent, not what is inserted."""
    if frontend.exporter:
        return [
            "http-request use-service prometheus-exporter if { path /metrics }",
            "http-request deny deny_status 404",
        ]
    if frontend.l7rules and frontend.mode is not Mode.HTTP:
        raise InvalidInput("l7policies", len(frontend.l7rules), "use them on a listener that understands HTTP")
    rules = l7_lines(frontend.l7rules)
    lines = [line for line in rules if not line.startswith("use_backend ")]
    known = {**INSERT_HEADERS, **TLS_HEADERS} if frontend.tls else INSERT_HEADERS
    for header in frontend.insert_headers:
        if header not in known or frontend.mode is not Mode.HTTP:
            raise InvalidInput("insert_headers", header, f"use {', '.join(known)} on an HTTP listener")
        lines.append(known[header])
    if frontend.tls and frontend.tls.hsts is not None:
        # Also on answers that HAProxy gives itself.
        lines.append(f"http-after-response set-header Strict-Transport-Security {quote(frontend.tls.hsts)}")
    return [*lines, *(line for line in rules if line.startswith("use_backend "))]


def _backend(backend: Backend, tls_dir: str, *, shared: bool) -> list[str]:
    lines = [f"backend {check_name('pool.id', backend.name)}", f"    mode {backend.mode}"]
    if backend.balance is Balance.SOURCE_PORT:
        lines.append("    balance hash src,concat(:,sess.vrata_port)")
    else:
        lines.append(f"    balance {backend.balance}")
    if backend.balance in (Balance.SOURCE, Balance.SOURCE_PORT):
        lines.append("    hash-type consistent")
    lines.append("    option allbackups")
    lines.append(f"    timeout connect {milliseconds('timeout_member_connect', backend.connect_timeout_ms)}")
    lines.append(f"    timeout server {milliseconds('timeout_member_data', backend.server_timeout_ms)}")
    lines += [f"    {line}" for line in _persistence(backend, shared=shared)]
    if backend.mode is Mode.HTTP and backend.tls and "h2" in backend.tls.alpn:
        lines += [f"    {line}" for line in ONLY_WEBSOCKETS]
    if backend.check:
        lines += [f"    {line}" for line in _check_lines(backend.check)]
    for server in backend.servers:
        name = check_name("member.id", server.name)
        endpoint = render_endpoint("member", server.address, server.port)
        lines.append(f"    server {name} {endpoint} {' '.join(render_server_options(backend, server, tls_dir))}")
    return lines


def _persistence(backend: Backend, *, shared: bool) -> list[str]:
    peers = " peers pair" if shared else ""
    match backend.persistence:
        case None:
            return []
        case Persistence.SOURCE:
            return [f"stick-table type ipv6 size 100k expire 30m{peers}", "stick on src"]
        case Persistence.INSERT_COOKIE:
            # `dynamic` derives the cookie from the server's address: equal on both instances, and allowed with
            # servers added at run time, where 2.6 knows no `cookie` keyword.
            name = _cookie_name(backend.cookie_name or "SRV")
            return [f"dynamic-cookie-key {quote(backend.name)}", f"cookie {name} insert indirect nocache dynamic"]
        case Persistence.APP_COOKIE:
            name = _cookie_name(backend.cookie_name or "")
            return [
                f"stick-table type string len 64 size 100k expire 30m{peers}",
                f"stick store-response res.cook({name})",
                f"stick match req.cook({name})",
            ]


def _cookie_name(name: str) -> str:
    # A token may hold quotes and commas that mean something inside a sample expression; keep to the harmless part.
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise InvalidInput("session_persistence.cookie_name", name, "use letters, digits and _ . - (1 to 64 of them)")
    return name


def _check_lines(check: Check) -> list[str]:
    lines = [f"timeout check {milliseconds('healthmonitor.timeout', check.timeout_ms)}"]
    if check.kind in (CheckKind.HTTP, CheckKind.HTTPS):
        if check.method not in _METHODS:
            raise InvalidInput("healthmonitor.http_method", check.method, f"use one of {', '.join(sorted(_METHODS))}")
        if not _PATH.fullmatch(check.path):
            raise InvalidInput("healthmonitor.url_path", check.path, "use a path that begins with / and has no spaces")
        if check.version not in ("1.0", "1.1"):
            raise InvalidInput("healthmonitor.http_version", check.version, "use 1.0 or 1.1")
        if not _CODES.fullmatch(check.expected_codes):
            raise InvalidInput("healthmonitor.expected_codes", check.expected_codes, "use 200, 200,202 or 200-204")
        send = f"http-check send meth {check.method} uri {quote(check.path)} ver HTTP/{check.version}"
        if check.host is not None:
            if not _HOST.fullmatch(check.host):
                raise InvalidInput("healthmonitor.domain_name", check.host, "use a DNS name")
            send += f" hdr Host {quote(check.host)}"
        lines += ["option httpchk", send, f"http-check expect status {check.expected_codes}"]
    return lines


def _check_options(backend: Backend, check: Check, server: Server) -> list[str]:
    interval = milliseconds("healthmonitor.delay", check.interval_ms)
    rise = number("healthmonitor.max_retries", check.rise, 1, 10)
    fall = number("healthmonitor.max_retries_down", check.fall, 1, 10)
    if check.kind is CheckKind.AGENT:
        # An agent that does not answer changes nothing: servers keep the state they have.
        port = number("agent_port", check.agent_port, 1, 65535)
        words = ["agent-check", "agent-addr", "127.0.0.1", "agent-port", str(port)]
        return [*words, "agent-inter", f"{interval}ms", "agent-send", f"{check_name('member.id', server.name)},"]
    words = ["check", "inter", f"{interval}ms", "fastinter", f"{min(interval, 1000)}ms"]
    words += ["rise", str(rise), "fall", str(fall)]
    # A whole handshake for TLS-HELLO too: `option ssl-hello-chk` speaks SSLv3, which servers refuse nowadays.
    if check.kind in (CheckKind.HTTPS, CheckKind.TLS_HELLO):
        words += ["check-ssl"] if backend.tls else ["check-ssl", "verify", "none"]
    elif backend.tls:
        words.append("check-ssl" if check.kind is CheckKind.HTTP else "no-check-ssl")
    if "check-ssl" in words and check.host is not None:
        words += ["check-sni", quote(check.host)]
    if backend.tls and backend.tls.alpn and check.kind in (CheckKind.HTTP, CheckKind.HTTPS):
        words += ["check-alpn", "http/1.1"]
    if server.check_address is not None:
        words += ["addr", address_word("member.monitor_address", server.check_address)]
    if server.check_port is not None:
        words += ["port", str(number("member.monitor_port", server.check_port, 1, 65535))]
    if backend.send_proxy and server.check_address is None and server.check_port is None:
        words.append("check-send-proxy")
    return words
