"""Which Ingress, rule, Service and pods serve a URL, and what else would have: pure, from the same table as the routing."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from vrata.base.errors import InvalidInput
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.endpoints import servers_of, service_of
from vrata.ingress.model import RowKey
from vrata.ingress.render import server_address
from vrata.ingress.rows import END, candidates, find_rows, host_of
from vrata.ingress.table import NOTHING, Table
from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service


@dataclass(frozen=True)
class Cluster:
    """What the cluster holds."""

    ingresses: tuple[Ingress, ...]
    classes: tuple[IngressClass, ...]
    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]


def explain(cluster: Cluster, url: str) -> list[str]:
    """Lines for a person; InvalidInput for what is no URL."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("URL", url, "use one such as https://shop.example/cart")
    host, path = parts.hostname.lower(), parts.path or "/"
    classes = {one.metadata.name: one for one in cluster.classes}
    table = Table()
    for ingress in cluster.ingresses:
        if is_ours(ingress, classes)[0] and not ingress.metadata.deletion_timestamp:
            table.put(ingress.metadata.key, read_ingress(ingress))
    table.settle()
    return list(_explained(cluster, table, parts.scheme, host, path))


def _explained(cluster: Cluster, table: Table, scheme: str, host: str, path: str) -> Iterator[str]:
    if scheme == "https":
        named = (table.hosts.get(one, NOTHING).certificate for one in candidates(host))
        secret = next((one for one in named if one), None)
        yield f"certificate  {f'of Secret {secret}' if secret else 'the default one: no Ingress names one for this host'}"
    rows = {row for one in candidates(host) for row in table.hosts.get(one, NOTHING).rows}
    found = find_rows(rows, host, path)
    if not found:
        yield f"answer       404: no rule of {len(table.ours)} Ingresses is for this host and path, and none is the default"
        return
    for number, row in enumerate(found):
        ingress, at = table.owner(row)
        if number == 0:
            yield f"rule         {_told(row)}"
            yield f"             {at} of Ingress {ingress}"
            yield from _served(cluster, table, scheme, row)
        else:
            yield f"passed over  {_told(row)}, {at} of Ingress {ingress}: the rule above is nearer"
    for problem in (one for name in candidates(host) for one in table.hosts.get(name, NOTHING).problems):
        yield f"problem      Ingress {problem.ingress}: {problem.message}"


def _served(cluster: Cluster, table: Table, scheme: str, row: RowKey) -> Iterator[str]:
    route = table.hosts[host_of(row)].rows[row]
    if route.https_only and scheme == "http":
        yield "answer       308 to https: the Ingress has TLS for this host"
        return
    key = service_of(route.backend)
    service = next((one for one in cluster.services if one.metadata.key == key), None)
    slices = [one for one in cluster.slices if one.service_key == key]
    servers, wrong = servers_of(route.backend, service, slices)
    yield f"backend      Service {key}, port {route.backend.rpartition(':')[2]}"
    yield f"pods         {', '.join(map(server_address, servers)) or '503: none is ready'}"
    if wrong:
        yield f"problem      {wrong[1]}"


def _told(row: RowKey) -> str:
    host = host_of(row)
    path = row.removeprefix(host)
    kind, path = ("Exact", path.removesuffix(f"/{END}")) if path.endswith(END) else ("Prefix", path.rstrip("/") or "/")
    return f"{kind} {path} on {'every host' if host == '*' else host}"
