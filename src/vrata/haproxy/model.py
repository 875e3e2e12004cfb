"""A TCP and HTTP proxying configuration of HAProxy as frozen values; knows nothing of who wants it, does no I/O.

Follows HAProxy's configuration manual 2.6 (sections 3 to 5). Times are milliseconds unless the name says otherwise.
Nothing here is validated: `vrata.haproxy.render` refuses what it can not write safely.
"""

from dataclasses import dataclass, field
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
    SOURCE_PORT = "source-port"  # a hash of address and port, consistent too


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
    AGENT = "agent"  # HAProxy asks `agent_port` on the loopback, where somebody else probes and answers up or down


class FileKind(StrEnum):
    """What is in a file beside the configuration, by HAProxy's word for it on the runtime socket."""

    CERTIFICATE = "cert"
    AUTHORITY = "ca-file"
    REVOKED = "crl-file"
    LIST = "crt-list"


class Verify(StrEnum):
    """What is asked of a client's certificate (manual, section 5.1, `verify`)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class L7Action(StrEnum):
    """What happens to a request that meets all conditions of a rule."""

    REJECT = "reject"
    LOCATION = "location"
    PREFIX = "prefix"
    BACKEND = "backend"


class Subject(StrEnum):
    """The part of a request, or of its TLS connection, that a condition looks at."""

    HOST = "host"
    PATH = "path"
    FILE_TYPE = "file-type"
    HEADER = "header"
    COOKIE = "cookie"
    HAS_CERTIFICATE = "has-certificate"
    VERIFY_RESULT = "verify-result"
    DN_FIELD = "dn-field"


class Match(StrEnum):
    """How the part is compared (manual, section 7.1.3, `-m`)."""

    REGEX = "reg"
    STARTS = "beg"
    ENDS = "end"
    CONTAINS = "sub"
    EQUAL = "str"


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
    agent_port: int = 0


@dataclass(frozen=True)
class TlsFile:
    """A file in the configuration's `tls_dir`. `label` says in errors what it is; the content may be secret."""

    name: str
    kind: FileKind
    label: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class Tls:
    """What both ends of TLS share. Files by name; None and empty: the safe defaults of `vrata.haproxy.tls`."""

    ciphers: str | None = None
    versions: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    authority: str | None = None
    revoked: str | None = None


@dataclass(frozen=True)
class BindTls(Tls):
    """TLS ended by a frontend; the first certificate of the list answers names that none of them has."""

    certificates: str = ""
    verify: Verify = Verify.NONE
    hsts: str | None = None  # value of the header Strict-Transport-Security


@dataclass(frozen=True)
class ServerTls(Tls):
    """TLS spoken to servers, verified where there is an authority; the name the client asked for goes along."""

    certificate: str | None = None


@dataclass(frozen=True)
class Condition:
    """One comparison."""

    subject: Subject
    match: Match
    value: str
    key: str | None = None
    invert: bool = False


@dataclass(frozen=True)
class L7Rule:
    """All conditions met: the action is taken and no later rule is tried. No condition: it never is."""

    name: str
    action: L7Action
    conditions: tuple[Condition, ...]
    target: str = ""  # URL, prefix or backend
    code: int = 302


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
    tls: ServerTls | None = None
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
    insert_headers: tuple[str, ...] = ()  # see `vrata.haproxy.render.INSERT_HEADERS` and `TLS_HEADERS`
    tls: BindTls | None = None
    l7rules: tuple[L7Rule, ...] = ()  # in the order in which they are tried
    source_port: bool = False  # remember the client's port for backends that balance by it
    exporter: bool = False  # answer /metrics with HAProxy's own Prometheus exporter, and nothing else


@dataclass(frozen=True)
class Peer:
    """One process that shares stick tables."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Confined:
    """What a worker becomes once its sockets are bound: a user and group of this number, in an empty directory."""

    user_id: int
    root: str


@dataclass(frozen=True)
class Config:
    """A whole configuration file. `peers` names this process too, as `local_peer`.

    `max_connections` None: as many as the limit of open files allows, which HAProxy works out itself; a number above
    that limit would keep it from starting. `confined` None: workers stay what the master is.
    """

    stats_socket: str
    hard_stop_after_ms: int
    max_connections: int | None = None
    threads: int = 1
    confined: Confined | None = None
    tls_dir: str = ""
    files: tuple[TlsFile, ...] = ()
    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()
    peers: tuple[Peer, ...] = ()
    local_peer: str | None = None
