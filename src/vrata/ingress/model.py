"""Routes and backends as HAProxy shall have them: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONTROLLER = "vrata.dev/ingress-controller"


@dataclass(frozen=True, order=True)
class Server:
    """One pod behind a backend; the name is stable for address and port."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Backend:
    """One Service port; named by a hash, so that no text of a user stands in the configuration."""

    name: str
    service: str  # namespace/name
    port: str  # as the Ingress names it
    servers: tuple[Server, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is wrong with one Ingress; the rest of it, and all others, are served."""

    ingress: str
    reason: str
    message: str


@dataclass(frozen=True)
class Routing:
    """Everything that is served. Maps go from a lookup key to a backend's name.

    `exact` has keys `<host> <path>` joined by the separator, `prefix` the same with a trailing slash; hosts are exact
    (`shop.example`), wildcard (`*.example`) or `*` for rules without a host.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)  # host -> itself, so that HAProxy knows which are served
    exact: Mapping[str, str] = field(default_factory=dict)
    prefix: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    backends: Mapping[str, Backend] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    ours: frozenset[str] = frozenset()  # keys of the Ingresses that this controller serves


@dataclass(frozen=True)
class Settings:
    """Of one controller process. Times in milliseconds."""

    http_port: int = 8080
    health_port: int = 8081
    accept_proxy: bool = True
    connect_timeout_ms: int = 500  # then another pod is tried; a lost SYN would be sent again only after a second
    client_timeout_ms: int = 60_000
    server_timeout_ms: int = 60_000
    tunnel_timeout_ms: int = 3_600_000
    drain_s: int = 600  # how long connections of an old configuration may last
    threads: int = 2
