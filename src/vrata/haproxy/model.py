"""A TCP and HTTP proxying configuration of HAProxy as frozen values; knows nothing of who wants it, does no I/O.

Follows HAProxy's configuration manual 2.6 (sections 3 to 5). Times are milliseconds unless the name says otherwise.
Nothing here is validated: `vrata.haproxy.render` refuses what it can not write safely.
"""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What a proxy understands of the bytes it carries (manual, section 4, `mode`)."""

    TCP = "tcp"
    HTTP = "http"


class Balance(StrEnum):
    """How a backend chooses a server; all of them allow servers to come and go at run time."""

    ROUNDROBIN = "roundrobin"
    LEASTCONN = "leastconn"
    SOURCE = "source"  # rendered with `hash-type consistent`, else dynamic servers are refused


class SendProxy(StrEnum):
    """Version of the PROXY protocol header sent to a server."""

    V1 = "send-proxy"
    V2 = "send-proxy-v2"


class CheckKind(StrEnum):
    """How a server's health is probed."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    TLS_HELLO = "tls-hello"


class Persistence(StrEnum):
    """What ties a client to its server."""

    SOURCE = "source"
    INSERT_COOKIE = "insert-cookie"
    APP_COOKIE = "app-cookie"


@dataclass(frozen=True)
class Check:
    """A health check of every server of a backend."""

    kind: CheckKind
    interval_ms: int
    timeout_ms: int
    rise: int
    fall: int
    method: str = "GET"
    path: str = "/"
    version: str = "1.0"
    host: str | None = None
    expected_codes: str = "200"  # as Octavia writes them: 200 | 200,202 | 200-204


@dataclass(frozen=True)
class Server:
    """One server of a backend. `check_*` override where the probe goes."""

    name: str
    address: str
    port: int
    weight: int = 1
    backup: bool = False
    check_address: str | None = None
    check_port: int | None = None


@dataclass(frozen=True)
class Backend:
    """A set of servers and how one is chosen."""

    name: str
    mode: Mode
    balance: Balance
    servers: tuple[Server, ...] = ()
    check: Check | None = None
    send_proxy: SendProxy | None = None
    server_tls: bool = False
    persistence: Persistence | None = None
    cookie_name: str | None = None
    connect_timeout_ms: int = 5_000
    server_timeout_ms: int = 50_000


@dataclass(frozen=True)
class Frontend:
    """Addresses that are listened on and where their traffic goes; without a backend: HTTP 503, TCP closed."""

    name: str
    mode: Mode
    addresses: tuple[str, ...]
    port: int
    backend: str | None = None
    max_connections: int | None = None
    client_timeout_ms: int = 50_000
    inspect_delay_ms: int = 0
    allowed_cidrs: tuple[str, ...] = ()
    forward_headers: tuple[str, ...] = ()  # of X-Forwarded-For, X-Forwarded-Port, X-Forwarded-Proto


@dataclass(frozen=True)
class Peer:
    """One process that shares stick tables."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Config:
    """A whole configuration file. `peers` names this process too, as `local_peer`.

    `max_connections` None: as many as the limit of open files allows, which HAProxy works out itself; a number above
    that limit would keep it from starting.
    """

    stats_socket: str
    hard_stop_after_ms: int
    max_connections: int | None = None
    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()
    peers: tuple[Peer, ...] = ()
    local_peer: str | None = None
