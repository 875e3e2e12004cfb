"""Writes HAProxy configuration text from the model; every user-given word goes through `quote`. Does no I/O.

HAProxy configuration manual 2.6: quoting is section 2.2, proxies are section 4, servers section 5.2. A value outside
its grammar raises InvalidInput with field, value and remedy, and nothing is rendered.
"""

import ipaddress
import re

from vrata.base.errors import InvalidInput
from vrata.haproxy.model import (
    Backend,
    Balance,
    Check,
    CheckKind,
    Config,
    Frontend,
    Mode,
    Persistence,
    Server,
)

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@=+,-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 token
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_CODES = re.compile(r"[1-5][0-9]{2}(-[1-5][0-9]{2}|(,[1-5][0-9]{2}){0,31})")
_FILE = re.compile(r"/[A-Za-z0-9_./@+-]{1,106}")  # sun_path of a Unix socket holds 108 bytes
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_CIDRS_A_LINE = 20  # a configuration line holds 64 words at most (MAX_LINE_ARGS)
_MAX_MS = 2_147_483_647  # manual, section 2.5
_MAX_WEIGHT = 256

FORWARD_HEADERS = {
    "X-Forwarded-For": "option forwardfor",
    "X-Forwarded-Port": "http-request set-header X-Forwarded-Port %[dst_port]",
    "X-Forwarded-Proto": "http-request set-header X-Forwarded-Proto http",
}


def quote(word: str) -> str:
    """One argument of a configuration line, exactly as given; InvalidInput for control characters.

    Single quotes make everything literal (section 2.2); a single quote itself is put in double quotes. Where HAProxy
    reads the argument as a log format, the caller also doubles the per cent signs before quoting.
    """
    if not word.isprintable():
        raise InvalidInput("text", word, "use printable characters only")
    if _PLAIN.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def check_name(field: str, value: str) -> str:
    """A name of a proxy, server or peer."""
    if not _NAME.fullmatch(value):
        raise InvalidInput(field, value, "use letters, digits and _ . : -, beginning with a letter or digit")
    return value


def render_endpoint(field: str, address: str, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    return f"{_address(field, address)}:{_number(field, port, 1, 65535)}"


def render_server_options(backend: Backend, server: Server) -> tuple[str, ...]:
    """The words after a server's address, good for `server` lines and for `add server` of the runtime API alike."""
    words = ["weight", str(_number("member.weight", server.weight, 0, _MAX_WEIGHT))]
    if server.backup:
        words.append("backup")
    if backend.send_proxy:
        words.append(str(backend.send_proxy))
    if backend.server_tls:
        words += ["ssl", "verify", "none"]
    if backend.check:
        words += _check_options(backend, backend.check, server)
    return tuple(words)


def render_config(config: Config) -> str:
    """The whole configuration file."""
    if not _FILE.fullmatch(config.stats_socket):
        raise InvalidInput("stats_socket", config.stats_socket, "use a plain absolute path of at most 107 characters")
    lines = [
        "global",
        f"    stats socket {config.stats_socket} mode 600 level admin",
        f"    hard-stop-after {_ms('hard_stop_after', config.hard_stop_after_ms)}",
        "    tune.ssl.default-dh-param 2048",
    ]
    if config.max_connections is not None:
        lines.append(f"    maxconn {_number('max_connections', config.max_connections, 1, 10_000_000)}")
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
        lines += ["", *_frontend(frontend)]
    for backend in config.backends:
        lines += ["", *_backend(backend, shared=bool(config.peers))]
    return "\n".join(lines) + "\n"


def _frontend(frontend: Frontend) -> list[str]:
    lines = [f"frontend {check_name('listener.id', frontend.name)}", f"    mode {frontend.mode}"]
    lines += [f"    bind {render_endpoint('listener', address, frontend.port)}" for address in frontend.addresses]
    if frontend.max_connections is not None:
        lines.append(f"    maxconn {_number('connection_limit', frontend.max_connections, 1, 10_000_000)}")
    lines.append(f"    timeout client {_ms('timeout_client_data', frontend.client_timeout_ms)}")
    if frontend.mode is Mode.HTTP:
        # After a reload the old worker would close idle connections under a client's next request.
        lines.append("    option idle-close-on-response")
        lines.append(f"    timeout http-request {min(_ms('timeout_client_data', frontend.client_timeout_ms), 50_000)}")
    if frontend.inspect_delay_ms:
        lines.append(f"    tcp-request inspect-delay {_ms('timeout_tcp_inspect', frontend.inspect_delay_ms)}")
    cidrs = [_cidr("allowed_cidrs", cidr) for cidr in frontend.allowed_cidrs]
    for start in range(0, len(cidrs), _CIDRS_A_LINE):
        lines.append("    acl allowed src " + " ".join(cidrs[start : start + _CIDRS_A_LINE]))
    if cidrs:
        lines.append("    tcp-request connection reject unless allowed")
    for header in frontend.forward_headers:
        if header not in FORWARD_HEADERS or frontend.mode is not Mode.HTTP:
            raise InvalidInput("insert_headers", header, f"use {', '.join(FORWARD_HEADERS)} on an HTTP listener")
        lines.append(f"    {FORWARD_HEADERS[header]}")
    if frontend.backend:
        lines.append(f"    default_backend {check_name('default_pool_id', frontend.backend)}")
    elif frontend.mode is Mode.TCP:
        lines.append("    tcp-request connection reject")
    return lines


def _backend(backend: Backend, *, shared: bool) -> list[str]:
    lines = [
        f"backend {check_name('pool.id', backend.name)}",
        f"    mode {backend.mode}",
        f"    balance {backend.balance}",
    ]
    if backend.balance is Balance.SOURCE:
        lines.append("    hash-type consistent")
    lines.append(f"    timeout connect {_ms('timeout_member_connect', backend.connect_timeout_ms)}")
    lines.append(f"    timeout server {_ms('timeout_member_data', backend.server_timeout_ms)}")
    lines += [f"    {line}" for line in _persistence(backend, shared=shared)]
    if backend.check:
        lines += [f"    {line}" for line in _check_lines(backend.check)]
    for server in backend.servers:
        name = check_name("member.id", server.name)
        endpoint = render_endpoint("member", server.address, server.port)
        lines.append(f"    server {name} {endpoint} {' '.join(render_server_options(backend, server))}")
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
    lines = [f"timeout check {_ms('healthmonitor.timeout', check.timeout_ms)}"]
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
    interval = _ms("healthmonitor.delay", check.interval_ms)
    words = ["check", "inter", f"{interval}ms", "fastinter", f"{min(interval, 1000)}ms"]
    words += ["rise", str(_number("healthmonitor.max_retries", check.rise, 1, 10))]
    words += ["fall", str(_number("healthmonitor.max_retries_down", check.fall, 1, 10))]
    # A whole handshake for TLS-HELLO too: `option ssl-hello-chk` speaks SSLv3, which servers refuse nowadays.
    if check.kind in (CheckKind.HTTPS, CheckKind.TLS_HELLO) and not backend.server_tls:
        words += ["check-ssl", "verify", "none"]
    if server.check_address is not None:
        words += ["addr", _address("member.monitor_address", server.check_address)]
    if server.check_port is not None:
        words += ["port", str(_number("member.monitor_port", server.check_port, 1, 65535))]
    if backend.send_proxy and server.check_address is None and server.check_port is None:
        words.append("check-send-proxy")
    return words


def _number(field: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidInput(field, value, f"use a number from {least} to {most}")
    return value


def _ms(field: str, value: int) -> int:
    return _number(field, value, 1, _MAX_MS)


def _address(field: str, value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
    if address.version == 6 and address.scope_id:
        raise InvalidInput(field, value, "use an address without a zone")
    return f"[{address}]" if address.version == 6 else str(address)


def _cidr(field: str, value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise InvalidInput(field, value, "use a network such as 192.0.2.0/24") from None
