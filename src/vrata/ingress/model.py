"""What an Ingress asks for, and what HAProxy shall have of it: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType

CONTROLLER = "vrata.dev/ingress-controller"

# What the key of a ConfigMap begins with where Ingresses have theirs.
CONFIG_MAP = "configmap/"
SERVICE = "service/"  # likewise
# `namespace/name:port` of a Service, the port as the Ingress names it; then how its pods are spoken to, `;tls` and the
# like (`vrata.ingress.endpoints`).
BackendKey = NewType("BackendKey", str)
# A backend of HAProxy, without a Service of its own: it serves whichever it is given.
Slot = NewType("Slot", str)
# Key of one row of the route maps (`vrata.ingress.rows`).
RowKey = NewType("RowKey", str)
# What a row says: a slot, perhaps a canary's slot, a policy and a new path (`vrata.ingress.places`).
Place = NewType("Place", str)
# What a route asks for beyond a backend, as the proxy reads it (`vrata.ingress.policy`); empty for most.
Policy = NewType("Policy", str)
NO_POLICY = Policy("")
# `namespace/name` of a Secret with a certificate; what another one, or a ConfigMap, is for follows a semicolon
# (`vrata.ingress.users`, `vrata.ingress.trust`, `vrata.ingress.headers`).
SecretKey = NewType("SecretKey", str)

# To a pod that speaks TLS: its handshake is part of connecting. The first is nginx' default, the other the most that its
# manual promises (`proxy_connect_timeout`).
HANDSHAKE_MS, LONGEST_HANDSHAKE_MS = 5000, 75_000

# Sends every request to the same address over HTTPS.
REDIRECT = Place("to-https")
# A request that no rule of its host is for: 404; tried with the rules of its wildcard; with those for every host.
NOT_HERE, TO_WILDCARD, TO_EVERY = Place("not-here"), Place("~w"), Place("~a")
# Follows one of the latter two where the host has guards, behind a number: so many readings of a path are looked at.
CAREFULLY = "!"

# Networks that nothing of a tenant leads to: this machine and its links, and what is nobody's; then the metadata services of
# clouds that have them elsewhere (Amazon's over IPv6, Azure, Alibaba, Oracle).
NEAR = (
    *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"),
    *("fd00:ec2::254/128", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
)


class Scheme(StrEnum):
    """How a client speaks; each has a frontend and a route map of its own."""

    HTTP = "http"
    HTTPS = "https"


@dataclass(frozen=True, order=True)
class ServerTls:
    """How a pod proves who it is, and HAProxy to it; names of files (`vrata.ingress.served`), empty for none."""

    authority: str = ""
    certificate: str = ""
    name: str = ""  # that the pod's certificate must have, if it has to prove anything
    sends_name: bool = False
    versions: tuple[str, str] | None = None  # of TLS, the oldest and the newest
    ciphers: str = ""


@dataclass(frozen=True, order=True)
class Server:
    """One pod behind a backend; the name tells all there is to tell. `h2`: HTTP/2, as gRPC speaks it."""

    name: str
    address: str
    port: int
    h2: bool = False
    tls: ServerTls | None = None
    proxy: bool = False
    slow_start_ms: int = 0  # so long does it take to get its full share


@dataclass(frozen=True)
class Problem:
    """What is wrong with one Ingress (or ConfigMap, Service: the key begins so); the rest of it, and all others, are served."""

    ingress: str
    reason: str
    message: str


class Route(NamedTuple):
    """Where a row leads; over HTTP perhaps only to HTTPS.

    `canary` is a second backend, which the policy chooses for some requests, `fallback` one for all while the chosen has no
    pod. `rewrite` is a path in place of the request's, with `\\1` to `\\9` for the groups of a pattern. `through`: TLS is
    the pods' own affair. `http_only`: another Ingress has TLS of the host go to pods unopened. `miss`: no backend, but what
    happens to a request that no rule of its host is for.
    """

    backend: BackendKey
    https_only: bool = False
    policy: Policy = NO_POLICY
    canary: BackendKey | None = None
    rewrite: str = ""
    fallback: BackendKey | None = None
    through: bool = False
    http_only: bool = False
    miss: Place | None = None

    def backends(self) -> tuple[BackendKey, ...]:
        """All that it may lead to."""
        return tuple(one for one in (self.backend, self.canary, self.fallback) if one)


class Role(StrEnum):
    """What a claim is for: a rule itself, a second backend of another Ingress' rule, a name for lack of a better one."""

    RULE = "rule"
    CANARY = "canary"
    ALIAS = "alias"


@dataclass(frozen=True)
class Claim:
    """That one row shall lead somewhere; `at` is the field of the Ingress that says so.

    `pattern` is the path as a regular expression, for hosts whose paths are such; `regex` says that it makes them so.
    `rest`: it is for what no rule of the host is for.
    """

    row: RowKey
    route: Route
    at: str
    pattern: str = "/"
    regex: bool = False
    role: Role = Role.RULE
    alias_of: str = ""  # the host whose rules the alias has
    rest: bool = False
    authority: SecretKey | None = None  # of the clients' certificates, of which a host has one


@dataclass(frozen=True)
class CertificateClaim:
    """That a host shall be served with a certificate."""

    host: str
    secret: SecretKey
    at: str


@dataclass(frozen=True)
class NamedSecret:
    """A Secret that is not a host's certificate, or a ConfigMap, and the field that names it."""

    secret: SecretKey
    at: str


@dataclass(frozen=True)
class Certificate:
    """PEM, leaf first, the key last, and the names it is served for; clients show theirs of that authority (a file)."""

    pem: str = field(repr=False)
    hosts: tuple[str, ...]
    authority: str = ""


@dataclass(frozen=True)
class Claims:
    """What one Ingress asks for, by host (`vrata.ingress.rows.ANY` for rules without one)."""

    age: tuple[float, str] = (0.0, "")  # the older Ingress wins a conflict
    hosts: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    named: frozenset[str] = (
        frozenset()
    )  # hosts, served or not: each belongs to the namespace of the oldest Ingress that names it
    certificates: tuple[CertificateClaim, ...] = ()
    secrets: tuple[NamedSecret, ...] = ()
    left_out: bool = False  # all of it, for what it asks for can not be done and would leave a door open
    default: Claim | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Of one controller process. Times in milliseconds."""

    http_port: int = 8080
    https_port: int = 8443
    health_port: int = 8081
    accept_proxy: bool = True
    proxies: tuple[str, ...] = ()  # networks that are believed; none: see `vrata.ingress.proxies`
    forwarded: tuple[str, ...] = ()  # networks whose X-Forwarded-For counts
    forbidden: tuple[
        str, ...
    ] = ()  # addresses that auth-url and mirror-target must not have, beside those in the cluster
    resolver: bool = True  # this machine has /etc/resolv.conf, which HAProxy reads
    connect_timeout_ms: int = 500  # then another pod is tried; a lost SYN would be sent again only after a second
    client_timeout_ms: int = 60_000
    idle_timeout_ms: int = 75_000  # of a client's connection between two requests
    server_timeout_ms: int = 60_000
    tunnel_timeout_ms: int = 3_600_000
    drain_s: int = 600  # how long connections of an old configuration may last
    threads: int = 2
    header_bytes: int = 32_768  # of one request or answer
    header_count: int = 256  # likewise
    tcp_services: str = ""  # `namespace/name` of the ConfigMap (`vrata.ingress.streams`)
    udp_services: str = ""  # likewise (`vrata.ingress.datagrams`)
    shared_hosts: bool = False  # rules of one namespace are also for hosts of another
    ssl_passthrough: bool = False  # TLS of some hosts is not ended here; of the others it takes a step more
    replica: str = ""  # address at which the HAProxies of other replicas find this one's; empty: there are none
    replicas_port: int = 10_102  # of all of them
    host_metrics: int = 0  # of so many hosts at most
    access_log: str = ""  # where HAProxy sends a line for each request: address:port (UDP) or the path of a socket
    spare_slots: int = 256  # at least so many backends without a Service after a start or a reload, before HAProxy 3.4
