"""The HAProxy configuration and maps of the Ingress controller: pure.

The configuration holds names of slots, addresses and numbers only. Hosts, paths and Services live in maps, one validated
key a line, so that adding a route is a change of a map, not of the configuration.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from vrata.haproxy.model import BindTls
from vrata.haproxy.tls import bind_words
from vrata.ingress.model import REDIRECT, Scheme, Server, Settings, Slot
from vrata.ingress.rows import ANY, END
from vrata.ingress.served import LIST

SLOT_PREFIX = "b-"
OWNERS = "owners"  # slot → backend: what a slot serves at the moment, also for the log
NOT_FOUND = "no Ingress serves this host and path\\n"
UNAVAILABLE = "no pod is ready to answer; try again in a moment\\n"


def slot_name(number: int) -> Slot:
    """Names of slots sort by number."""
    return Slot(f"{SLOT_PREFIX}{number:06d}")


def render_config(settings: Settings, slots: Mapping[Slot, Iterable[Server]], directory: str) -> str:
    """The whole configuration; `directory` holds the maps and sockets."""
    proxy = " accept-proxy" if settings.accept_proxy else ""
    tls = " ".join(bind_words(BindTls(certificates=LIST), f"{directory}/tls"))
    parts = [
        _head(settings, directory),
        _frontend(Scheme.HTTP, f":{settings.http_port:d}{proxy}", directory),
        _frontend(Scheme.HTTPS, f":{settings.https_port:d}{proxy} {tls}", directory),
        _SLOTS,
    ]
    parts += [_slot(slot, servers) for slot, servers in slots.items()]
    return "\n".join(parts)


def routes_of(scheme: Scheme) -> str:
    """The map of a scheme's routes."""
    return f"routes-{scheme}"


def render_map_file(rows: Iterable[tuple[str, str]]) -> str:
    """A map as a file: key, blank, value."""
    return "".join(f"{key} {value}\n" for key, value in sorted(rows))


def map_path(directory: str, name: str) -> str:
    """Where a map's file is; also its name on the runtime socket."""
    return f"{directory}/{name}.map"


def _head(settings: Settings, directory: str) -> str:
    backend = f"%[path,field(3,/),map_str({map_path(directory, OWNERS)})]"
    return f"""\
global
  log stderr format raw local0 notice
  stats socket {directory}/stats.sock mode 600 level admin
  hard-stop-after {settings.drain_s:d}s
  nbthread {settings.threads:d}

defaults all
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
  http-error status 503 content-type text/plain string "{UNAVAILABLE}"

frontend health from all
  bind :{settings.health_port:d}
  monitor-uri /healthz
  http-request use-service prometheus-exporter if {{ path /metrics }}
  # Which Service a backend of the log or the statistics serves.
  http-request return status 200 content-type text/plain lf-string "{backend}" if {{ path_beg /backends/ }}
  http-request return status 404
"""


def _frontend(scheme: Scheme, bind: str, directory: str) -> str:
    end = END.encode("unicode_escape").decode()
    slot = f"concat(/{end}),map_beg({map_path(directory, routes_of(scheme))})"
    missed = "unless { var(txn.slot) -m found }"
    return f"""\
frontend {scheme} from all
  bind {bind}
  # A replay is safe only for methods that promise it (RFC 9110, 9.2.2).
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS PUT DELETE TRACE }}
  # Nearly every request names its host as the map does, and is found with one look (vrata.ingress.rows).
  http-request set-var(txn.slot) base,{slot}
  http-request set-var(req.path) path {missed}
  http-request set-var(req.host) req.hdr(host),field(1,:),lower {missed}
  http-request set-var(txn.slot) var(req.host),concat(,req.path),{slot} {missed}
  http-request set-var(txn.slot) var(req.host),regsub(^[^.]*,{ANY}),concat(,req.path),{slot} {missed}
  http-request set-var(txn.slot) str({ANY}),concat(,req.path),{slot} {missed}
  http-request return status 404 content-type text/plain string "{NOT_FOUND}" {missed}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Real-IP %[src]
  http-after-response set-header Server vrata unless {{ res.hdr(server) -m found }}
  use_backend %[var(txn.slot)]
"""


_SLOTS = f"""\
backend {REDIRECT} from all
  http-request redirect scheme https code 308

defaults slot from all
  balance roundrobin
"""


def _slot(slot: Slot, servers: Iterable[Server]) -> str:
    rows = "".join(f"  server {' '.join((one.name, server_address(one), *server_words(one)))}\n" for one in servers)
    return f"backend {slot} from slot\n{rows}"


def server_words(server: Server) -> tuple[str, ...]:
    """What a `server` line, and `add server`, says after the address."""
    return ("proto", "h2") if server.h2 else ()


def server_address(server: Server) -> str:
    """`address:port`, with brackets around IPv6."""
    address = ipaddress.ip_address(server.address)
    return f"[{address}]:{server.port:d}" if address.version == 6 else f"{address}:{server.port:d}"
