"""The HAProxy configuration and maps of a routing: pure.

The configuration holds hashes, addresses and numbers only. Hosts and paths of users live in map files, one validated key
a line, so that adding a route is a change of a map, not of the configuration.
"""

import ipaddress
from collections.abc import Mapping

from vrata.ingress.compile import ANY_HOST, SEPARATOR
from vrata.ingress.model import Backend, Routing, Server, Settings

NOT_FOUND = "no Ingress serves this host and path\\n"
MAPS = ("hosts", "exact", "prefix", "default")


def render_config(settings: Settings, routing: Routing, directory: str) -> str:
    """The whole configuration; `directory` holds the maps and sockets."""
    head = _head(settings, directory)
    frontend = _frontend(settings, directory)
    backends = "".join(_backend(routing.backends[name]) for name in sorted(routing.backends))
    return f"{head}\n{frontend}\n{backends}"


def render_maps(routing: Routing) -> dict[str, dict[str, str]]:
    """The content of each map: key → value."""
    return {
        "hosts": dict(routing.hosts),
        "exact": dict(routing.exact),
        "prefix": dict(routing.prefix),
        "default": {"default": routing.default} if routing.default else {},
    }


def render_map_file(entries: Mapping[str, str]) -> str:
    """A map as a file: key, blank, value."""
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def map_path(directory: str, name: str) -> str:
    """Where a map's file is; also its name on the runtime socket."""
    return f"{directory}/{name}.map"


def _head(settings: Settings, directory: str) -> str:
    return f"""\
global
  log stderr format raw local0 notice
  stats socket {directory}/stats.sock mode 600 level admin
  hard-stop-after {settings.drain_s:d}s
  nbthread {settings.threads:d}

defaults
  log global
  mode http
  option dontlognull
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
  timeout connect {settings.connect_timeout_ms:d}ms
  timeout client {settings.client_timeout_ms:d}ms
  timeout server {settings.server_timeout_ms:d}ms
  timeout tunnel {settings.tunnel_timeout_ms:d}ms
  timeout http-request 10s
  timeout queue 5s

frontend health
  bind :{settings.health_port:d}
  monitor-uri /healthz
  http-request return status 404
"""


def _frontend(settings: Settings, directory: str) -> str:
    def in_map(name: str, method: str, default: str = "") -> str:
        fallback = f",{default}" if default else ""
        return f"map_{method}({map_path(directory, name)}{fallback})"

    proxy = " accept-proxy" if settings.accept_proxy else ""
    key = f"%[var(txn.host)]{SEPARATOR}"
    return f"""\
frontend http
  bind :{settings.http_port:d}{proxy}
  # A replay is safe only for methods that promise it (RFC 9110, 9.2.2).
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS PUT DELETE TRACE }}
  http-request set-var(req.name) req.hdr(host),field(1,:),lower
  http-request set-var(txn.host) var(req.name),{in_map("hosts", "str")}
  http-request set-var(txn.host) var(req.name),regsub(^[^.]+,*),{in_map("hosts", "str")} unless {{ var(txn.host) -m found }}
  http-request set-var(txn.host) str({ANY_HOST}) unless {{ var(txn.host) -m found }}
  http-request set-var-fmt(req.exact) {key}%[path]
  http-request set-var-fmt(req.prefix) {key}%[path]/
  http-request set-var(txn.backend) var(req.exact),{in_map("exact", "str")}
  http-request set-var(txn.backend) var(req.prefix),{in_map("prefix", "beg")} unless {{ var(txn.backend) -m found }}
  http-request set-var(txn.backend) str(default),{in_map("default", "str")} unless {{ var(txn.backend) -m found }}
  http-request return status 404 content-type text/plain string "{NOT_FOUND}" unless {{ var(txn.backend) -m found }}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Real-IP %[src]
  use_backend %[var(txn.backend)]
"""


def _backend(backend: Backend) -> str:
    servers = "".join(f"  server {server.name} {server_address(server)}\n" for server in backend.servers)
    return f"backend {backend.name}\n  balance roundrobin\n{servers}\n"


def server_address(server: Server) -> str:
    """`address:port`, with brackets around IPv6."""
    address = ipaddress.ip_address(server.address)
    return f"[{address}]:{server.port:d}" if address.version == 6 else f"{address}:{server.port:d}"
