"""From Ingresses, classes, Services and slices to one routing: pure (Kubernetes documentation, «Ingress», v1).

One bad path or backend is left out with a problem that names field, value and remedy. Two Ingresses that claim one
host and path: the older one wins, the other is told.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vrata.ingress.model import CONTROLLER, Backend, Problem, Routing, Server
from vrata.kube.objects import EndpointSlice, Ingress, IngressBackend, IngressClass, Service, ServicePort

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY_CLASS = "kubernetes.io/ingress.class"
SEPARATOR = "|"
ANY_HOST = "*"

HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*", re.ASCII)
HOST_MAX = 253
PATH = re.compile(r"/[!-\[\]-~]*", re.ASCII)  # visible ASCII without the backslash: a map key ends at a blank
PATH_MAX = 2048


@dataclass(frozen=True)
class World:
    """What the controller sees of the cluster, by key."""

    ingresses: Mapping[str, Ingress]
    classes: Mapping[str, IngressClass]
    services: Mapping[str, Service]
    slices: Mapping[str, Iterable[EndpointSlice]]  # by Service key


@dataclass
class _Draft:
    """A routing in the making."""

    world: World
    hosts: dict[str, str] = field(default_factory=dict)
    exact: dict[str, str] = field(default_factory=dict)
    prefix: dict[str, str] = field(default_factory=dict)
    default: str = ""
    backends: dict[str, Backend] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)  # (kind of match, key) -> Ingress


def is_ours(ingress: Ingress, classes: Mapping[str, IngressClass]) -> tuple[bool, Problem | None]:
    """Whether this controller serves an Ingress, and what is wrong with its class if nobody does."""
    name = ingress.spec.ingress_class_name or ingress.metadata.annotations.get(LEGACY_CLASS)
    if name is None:
        defaults = [entry for entry in classes.values() if entry.metadata.annotations.get(DEFAULT_CLASS) == "true"]
        return any(entry.spec.controller == CONTROLLER for entry in defaults), None
    found = classes.get(name)
    if found is None:
        known = ", ".join(sorted(classes)) or "none exists yet"
        message = f"spec.ingressClassName: no IngressClass {name!r}; use one of: {known}"
        return False, Problem(ingress.metadata.key, "IngressClassNotFound", message)
    return found.spec.controller == CONTROLLER, None


def compile_routing(world: World) -> Routing:
    """All Ingresses of ours in one routing."""
    draft = _Draft(world)
    ours = []
    for ingress in world.ingresses.values():
        mine, problem = is_ours(ingress, world.classes)
        if problem:
            draft.problems.append(problem)
        if mine and not ingress.metadata.deletion_timestamp:
            ours.append(ingress)
    for ingress in sorted(ours, key=_age):
        _add_ingress(draft, ingress)
    return Routing(
        hosts=draft.hosts,
        exact=draft.exact,
        prefix=draft.prefix,
        default=draft.default,
        backends=draft.backends,
        problems=tuple(draft.problems),
        ours=frozenset(ingress.metadata.key for ingress in ours),
    )


def _age(ingress: Ingress) -> tuple[float, str]:
    created = ingress.metadata.creation_timestamp
    return created.timestamp() if created else 0.0, ingress.metadata.key


def _add_ingress(draft: _Draft, ingress: Ingress) -> None:
    key = ingress.metadata.key
    if ingress.spec.default_backend:
        name = _backend(draft, ingress, ingress.spec.default_backend, "spec.defaultBackend")
        if name and not draft.default:
            draft.default = name
    for number, rule in enumerate(ingress.spec.rules):
        host = rule.host.lower() or ANY_HOST
        at = f"spec.rules[{number}]"
        if host != ANY_HOST and not (HOST.fullmatch(host) and len(host) <= HOST_MAX):
            draft.problems.append(Problem(key, "InvalidHost", f"{at}.host: {rule.host!r} is no DNS name; write one"))
            continue
        draft.hosts[host] = host
        for index, path in enumerate(rule.http.paths if rule.http else ()):
            where = f"{at}.http.paths[{index}]"
            text = path.path or "/"
            if not (PATH.fullmatch(text) and len(text) <= PATH_MAX):
                message = (
                    f"{where}.path: {text[:80]!r} cannot be matched; begin with / and use visible ASCII characters"
                )
                draft.problems.append(Problem(key, "InvalidPath", message))
                continue
            name = _backend(draft, ingress, path.backend, f"{where}.backend")
            if name:
                _add_path(draft, key, where, host, text, exact=path.path_type == "Exact", backend=name)


def _add_path(draft: _Draft, ingress: str, where: str, host: str, path: str, *, exact: bool, backend: str) -> None:
    if exact:
        target, lookup = draft.exact, f"{host}{SEPARATOR}{path}"
    else:
        # `/shop` and `/shop/` are the same prefix; matched against the request's path with a slash appended.
        target, lookup = draft.prefix, f"{host}{SEPARATOR}{path.rstrip('/')}/"
    match = ("exact" if exact else "prefix", lookup)
    owner = draft.owners.setdefault(match, ingress)
    if lookup in target:
        if owner != ingress or target[lookup] != backend:
            message = f"{where}.path: {path!r} on host {host!r} belongs to the older Ingress {owner}; use another host or path"
            draft.problems.append(Problem(ingress, "PathConflict", message))
        return
    target[lookup] = backend


def _backend(draft: _Draft, ingress: Ingress, backend: IngressBackend, where: str) -> str | None:
    """The name of the backend for a Service port, None (with a problem) if there is no such thing."""
    key = ingress.metadata.key
    if backend.service is None:
        message = f"{where}.resource: resources are not served; name a Service"
        draft.problems.append(Problem(key, "ResourceBackend", message))
        return None
    service_key = f"{ingress.metadata.namespace}/{backend.service.name}"
    service = draft.world.services.get(service_key)
    if service is None:
        draft.problems.append(
            Problem(
                key,
                "ServiceNotFound",
                f"{where}.service.name: no Service {service_key!r}; create it, then it is served",
            )
        )
    wanted = backend.service.port
    text = wanted.name or str(wanted.number)
    port = _service_port(service, wanted.name, wanted.number) if service else None
    if service and port is None:
        known = ", ".join(f"{entry.name or entry.port}" for entry in service.spec.ports)
        message = f"{where}.service.port: Service {service_key} has no port {text!r}; use one of: {known}"
        draft.problems.append(Problem(key, "PortNotFound", message))
    digest = hashlib.blake2s(f"{service_key}\0{text}".encode(), digest_size=8).hexdigest()
    name = f"b-{digest}"
    if name not in draft.backends:
        slices = draft.world.slices.get(service_key, ())
        servers = _servers(port, slices) if port else ()
        draft.backends[name] = Backend(name, service_key, text, servers)
    return name


def _service_port(service: Service, name: str, number: int) -> ServicePort | None:
    for port in service.spec.ports:
        if port.protocol == "TCP" and (port.name == name if name else port.port == number):
            return port
    return None


def _servers(port: ServicePort, slices: Iterable[EndpointSlice]) -> tuple[Server, ...]:
    """Ready endpoints; terminating ones that still serve only when none is ready."""
    ready: set[Server] = set()
    last: set[Server] = set()
    for entry in slices:
        numbers = [item.port for item in entry.ports or () if item.name == port.name and item.protocol == "TCP"]
        for endpoint in entry.endpoints or ():
            for number in numbers:
                server = _server(endpoint.addresses[0], number)
                if endpoint.conditions.ready is not False:
                    ready.add(server)
                elif endpoint.conditions.terminating and endpoint.conditions.serving is not False:
                    last.add(server)
    return tuple(sorted(ready or last))


def _server(address: str, port: int) -> Server:
    return Server(f"s-{address.replace('.', '-').replace(':', '_')}-{port}", address, port)
