"""What one Ingress asks for, read alone: pure (Kubernetes documentation, «Ingress», v1).

A bad host, path or backend is left out with a problem that names field, value and remedy. Whether a Service exists is no
question of this module.
"""

import re
from collections.abc import Mapping

from vrata.ingress.model import CONTROLLER, BackendKey, CertificateClaim, Claim, Claims, Problem, Route, SecretKey
from vrata.ingress.rows import ANY, exact_row, prefix_row
from vrata.kube.objects import HttpIngressPath, Ingress, IngressBackend, IngressClass

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY_CLASS = "kubernetes.io/ingress.class"
SSL_REDIRECT = ("vrata.dev/ssl-redirect", "nginx.ingress.kubernetes.io/ssl-redirect")

# What closes a door and is not there yet: without it the Ingress would be open to everybody.
GUARDS = (
    "auth-type",
    "auth-url",
    "auth-tls-secret",
    "whitelist-source-range",
    "allowlist-source-range",
    "denylist-source-range",
)
PREFIXES = ("vrata.dev/", "nginx.ingress.kubernetes.io/")

HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*", re.ASCII)
HOST_MAX = 253
PATH = re.compile(r"/[!-\[\]-~]*", re.ASCII)  # visible ASCII without the backslash: a map key ends at a blank
PATH_MAX = 2048
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)  # names of objects and of ports


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


def read_ingress(ingress: Ingress) -> Claims:
    """Everything that can be served of one Ingress, and what is wrong with the rest."""
    reading = _Reading(ingress)
    if reading.may_be_open():
        reading.read()
    created = ingress.metadata.creation_timestamp
    return Claims(
        age=(created.timestamp() if created else 0.0, ingress.metadata.key),
        hosts={host: tuple(claims) for host, claims in reading.hosts.items()},
        certificates=tuple(reading.certificates),
        default=reading.default,
        problems=tuple(reading.problems),
    )


class _Reading:
    """Claims in the making."""

    def __init__(self, ingress: Ingress) -> None:
        self.ingress = ingress
        self.hosts: dict[str, list[Claim]] = {}
        self.certificates: list[CertificateClaim] = []
        self.encrypted: set[str] = set()
        self.default: Claim | None = None
        self.problems: list[Problem] = []

    def may_be_open(self) -> bool:
        """False, and told, if it asks for a protection that this controller does not have."""
        asked = [prefix + name for prefix in PREFIXES for name in GUARDS]
        found = [name for name in asked if name in self.ingress.metadata.annotations]
        for name in found:
            self._tell(
                "NotServed", f"annotation {name} is not supported yet; without it nothing would be guarded: remove it"
            )
        return not found

    def read(self) -> None:
        spec = self.ingress.spec
        self._tls()
        if spec.default_backend:
            backend = self._backend(spec.default_backend, "spec.defaultBackend")
            if backend:
                self.default = Claim(prefix_row(ANY, "/"), Route(backend), "spec.defaultBackend")
        for number, rule in enumerate(spec.rules):
            at, host = f"spec.rules[{number}]", rule.host.lower() or ANY
            if host != ANY and not self._is_host(host, f"{at}.host"):
                continue
            for index, path in enumerate(rule.http.paths if rule.http else ()):
                self._path(host, path, f"{at}.http.paths[{index}]")

    def _path(self, host: str, path: HttpIngressPath, at: str) -> None:
        text = path.path or "/"
        if not (PATH.fullmatch(text) and len(text) <= PATH_MAX):
            message = f"{at}.path: {text[:80]!r} can not be matched; begin with / and use visible ASCII characters"
            self._tell("InvalidPath", message)
            return
        backend = self._backend(path.backend, f"{at}.backend")
        if backend:
            row = exact_row(host, text) if path.path_type == "Exact" else prefix_row(host, text)
            route = Route(backend, self._is_encrypted(host))
            self.hosts.setdefault(host, []).append(Claim(row, route, f"{at}.backend"))

    def _tls(self) -> None:
        annotations = self.ingress.metadata.annotations
        redirect = next((annotations[name] for name in SSL_REDIRECT if name in annotations), "true")
        if redirect not in ("true", "false"):
            self._tell("InvalidAnnotation", f"ssl-redirect: {redirect[:80]!r} is neither true nor false; write one")
        for number, entry in enumerate(self.ingress.spec.tls):
            at = f"spec.tls[{number}]"
            if entry.secret_name and not _NAME.fullmatch(entry.secret_name):
                self._tell("InvalidSecret", f"{at}.secretName: {entry.secret_name[:80]!r} is no name; write one")
                continue
            hosts = entry.hosts or tuple({rule.host: None for rule in self.ingress.spec.rules if rule.host})
            for index, host in enumerate(name.lower() for name in hosts):
                if not self._is_host(host, f"{at}.hosts[{index}]"):
                    continue
                if redirect != "false":
                    self.encrypted.add(host)
                if entry.secret_name:
                    secret = SecretKey(f"{self.ingress.metadata.namespace}/{entry.secret_name}")
                    self.certificates.append(CertificateClaim(host, secret, f"{at}.secretName"))

    def _is_encrypted(self, host: str) -> bool:
        return host in self.encrypted or f"{ANY}.{host.partition('.')[2]}" in self.encrypted

    def _is_host(self, host: str, at: str) -> bool:
        valid = bool(HOST.fullmatch(host)) and len(host) <= HOST_MAX
        if not valid:
            self._tell("InvalidHost", f"{at}: {host[:80]!r} is no DNS name; write one")
        return valid

    def _backend(self, backend: IngressBackend, at: str) -> BackendKey | None:
        if backend.service is None:
            self._tell("ResourceBackend", f"{at}.resource: resources are not served; name a Service")
            return None
        name, port = backend.service.name, backend.service.port
        text = port.name or str(port.number)
        for field, value in (("service.name", name), ("service.port.name", text)):
            if not _NAME.fullmatch(value):
                self._tell("InvalidBackend", f"{at}.{field}: {value[:80]!r} is no name of Kubernetes; write one")
                return None
        return BackendKey(f"{self.ingress.metadata.namespace}/{name}:{text}")

    def _tell(self, reason: str, message: str) -> None:
        self.problems.append(Problem(self.ingress.metadata.key, reason, message))
