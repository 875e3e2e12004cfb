"""Which Ingress, rule, Service and pods serve a URL, and what else would have: pure, from the same table as the routing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from vrata.base.errors import InvalidInput
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.endpoints import EXTERNAL, port_of, servers_of, service_of
from vrata.ingress.model import CAREFULLY, NOT_HERE, TO_EVERY, BackendKey, Problem, Route, RowKey
from vrata.ingress.parameters import defaults_of
from vrata.ingress.render import server_address
from vrata.ingress.rows import ANY, END, candidates, find_rows, host_of
from vrata.ingress.table import NOTHING, Table
from vrata.kube.objects import ConfigMap, EndpointSlice, Ingress, IngressClass, Service


@dataclass(frozen=True)
class Cluster:
    """What the cluster holds."""

    ingresses: tuple[Ingress, ...]
    classes: tuple[IngressClass, ...]
    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    parameters: Mapping[str, ConfigMap] = field(default_factory=dict)  # of classes
    shared_hosts: bool = False  # as the controller was started
    passthrough: bool = False  # likewise


def explain(cluster: Cluster, url: str) -> list[str]:
    """Lines for a person; InvalidInput for what is no URL."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("URL", url, "use one such as https://shop.example/cart")
    host, path = _host(parts.hostname, url), quote(parts.path or "/", safe=_IN_PATHS)
    classes = {one.metadata.name: one for one in cluster.classes}
    table, names = Table(shared_hosts=cluster.shared_hosts), tuple(candidates(host))
    problems: list[Problem] = []
    for ingress in (one for one in cluster.ingresses if not one.metadata.deletion_timestamp):
        mine, wrong = is_ours(ingress, classes)
        told, hosts = [wrong] if wrong else [], _named(ingress)
        if mine:
            defaults, wrong = defaults_of(ingress, classes, cluster.parameters)
            claims = read_ingress(ingress, defaults, passthrough=cluster.passthrough)
            table.put(ingress.metadata.key, claims)
            told, hosts = [*claims.problems, *([wrong] if wrong else [])], hosts | claims.hosts.keys()
        problems += told if hosts.intersection(names) else []
    table.settle()
    problems += [one for name in names for one in table.hosts.get(name, NOTHING).problems]
    return [
        *_explained(cluster, table, parts.scheme, host, path),
        *(f"problem      Ingress {one.ingress}: {one.message}" for one in problems),
    ]


_IN_PATHS = "/%:@!$&'()*+,;=~"


def _host(text: str, url: str) -> str:
    """As clients ask for it: without the root's dot, and in ASCII (RFC 5890)."""
    try:
        return text.removesuffix(".").encode("idna").decode().lower()
    except UnicodeError:
        raise InvalidInput("URL", url, "write a DNS name, such as https://shop.example/cart") from None


def _named(ingress: Ingress) -> set[str]:
    """The hosts that an Ingress is written for, served or not."""
    return {rule.host.lower() or ANY for rule in ingress.spec.rules} or {ANY}


def _explained(cluster: Cluster, table: Table, scheme: str, host: str, path: str) -> Iterator[str]:
    if scheme == "https" and (through := table.hosts.get(host, NOTHING).through):
        served = table.hosts[host]
        keys = (key for key, one in (*served.rows.items(), *served.patterns) if one.through and one.backend == through)
        ingress, at = table.owner(host, next(keys))
        yield "encrypted    up to the pods, which have the certificate, whatever the path"
        yield f"             {at} of Ingress {ingress}"
        yield from _backend(cluster, "backend", through)
        return
    if scheme == "https":
        named = (table.hosts.get(one, NOTHING).certificate for one in candidates(host))
        secret = next((one for one in named if one), None)
        yield f"certificate  {f'of Secret {secret}' if secret else 'the default one: no Ingress names one for this host'}"
    found = found_rules(table, host, path)
    if not found:
        yield f"answer       404: no rule of {len(table.ours)} Ingresses is for this host and path, and none is the default"
        return
    for number, (owner, key, told, route) in enumerate(found):
        ingress, at = table.owner(owner, key)
        if number == 0:
            yield f"rule         {told}"
            yield f"             {at} of Ingress {ingress}"
            yield from _served(cluster, scheme, route)
        else:
            yield f"passed over  {told}, {at} of Ingress {ingress}: the rule above is nearer"


def found_rules(table: Table, host: str, path: str) -> list[tuple[str, str, str, Route]]:
    """What is for a request, the first one taken: host, key, the rule in words, the route."""
    found, names = [], list(candidates(host))
    while names:
        one = names.pop(0)
        served = table.hosts.get(one, NOTHING)
        rows = [row for row in find_rows(served.rows, host, path) if host_of(row) == one]
        here = [(one, str(row), _told(row), served.rows[row]) for row in rows]
        here += [(one, key, f"pattern {key}", route) for key, route in served.patterns if re.match(key, f"{one}{path}")]
        found += [rule for rule in here if not rule[3].miss]
        misses = {(rule[3].miss or "").removesuffix(CAREFULLY) for rule in here}
        if NOT_HERE in misses:
            break
        names = [ANY] if TO_EVERY in misses else names
    return found


def _served(cluster: Cluster, scheme: str, route: Route) -> Iterator[str]:
    if route.https_only and scheme == "http":
        yield "answer       308 to https: the Ingress has TLS for this host"
        return
    for word in route.policy.split():
        yield f"asked        {unquote(word)}"
    if route.rewrite:
        yield f"new path     {route.rewrite}"
    yield from _backend(cluster, "backend", route.backend)
    if route.canary:
        yield from _backend(cluster, "canary", route.canary)


def _backend(cluster: Cluster, what: str, backend: BackendKey) -> Iterator[str]:
    key = service_of(backend)
    service = next((one for one in cluster.services if one.metadata.key == key), None)
    slices = [one for one in cluster.slices if one.service_key == key]
    servers, wrong = servers_of(backend, service, slices)
    yield f"{what:<13}Service {key}, port {port_of(backend)}"
    if service and service.spec.type == EXTERNAL:
        yield f"pods         none: it stands for the name {service.spec.external_name}"
        return
    yield f"pods         {', '.join(map(server_address, servers)) or '503: none is ready'}"
    if wrong:
        yield f"problem      {wrong[1]}"


def _told(row: RowKey) -> str:
    host = host_of(row)
    path = row.removeprefix(host)
    kind, path = ("Exact", path.removesuffix(f"/{END}")) if path.endswith(END) else ("Prefix", path.rstrip("/") or "/")
    return f"{kind} {path} on {'every host' if host == '*' else host}"
