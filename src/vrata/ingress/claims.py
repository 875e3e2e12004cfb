"""What one Ingress asks for, read alone: pure (Kubernetes documentation, «Ingress», v1).

A bad host, path or backend is left out with a problem that names field, value and remedy. Whether a Service exists is no
question of this module.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from vrata.ingress.annotations import grammar
from vrata.ingress.annotations.options import BackendOptions, BackendTls, Redirect, Rewrite
from vrata.ingress.annotations.parse import parse_annotations, said
from vrata.ingress.endpoints import FIRST, HASH, HTTP2, OPAQUE, SLOW, TCP, TLS, VIRTUAL, backend_key, slow_start
from vrata.ingress.headers import HEADERS, Headers
from vrata.ingress.model import (
    CONTROLLER,
    HANDSHAKE_MS,
    BackendKey,
    CertificateClaim,
    Claim,
    Claims,
    NamedSecret,
    Problem,
    Role,
    Route,
    SecretKey,
)
from vrata.ingress.policy import (
    auth_headers_of,
    authority_of,
    canary_of,
    cookie_at,
    headers_of,
    join,
    plain_start,
    policy_of,
    redirect_to,
    secret_of,
    too_long,
    users_of,
)
from vrata.ingress.rows import ANY, exact_row, moved_row, prefix_row
from vrata.ingress.trust import PEER, Peer
from vrata.kube.objects import HttpIngressPath, Ingress, IngressBackend, IngressClass

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY_CLASS = "kubernetes.io/ingress.class"
HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*", re.ASCII)
HOST_MAX = 253
PATH = re.compile(r"/[!-\[\]-~]*", re.ASCII)  # visible ASCII without the backslash: a map key ends at a blank
PATH_MAX = 2048
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)  # names of objects and of ports


def class_name(ingress: Ingress, classes: Mapping[str, IngressClass]) -> str:
    """The class that an Ingress names, or else a default one, ours before others; empty if there is none."""
    name = ingress.spec.ingress_class_name or ingress.metadata.annotations.get(LEGACY_CLASS)
    if name is not None:
        return name
    defaults = [one for one in classes.values() if one.metadata.annotations.get(DEFAULT_CLASS) == "true"]
    defaults.sort(key=lambda one: (one.spec.controller != CONTROLLER, one.metadata.name))
    return defaults[0].metadata.name if defaults else ""


def is_ours(ingress: Ingress, classes: Mapping[str, IngressClass]) -> tuple[bool, Problem | None]:
    """Whether this controller serves an Ingress, and what is wrong with its class if nobody does."""
    name = class_name(ingress, classes)
    if not name:
        return False, None
    found = classes.get(name)
    if found is None:
        known = ", ".join(sorted(classes)) or "none exists yet"
        by_annotation = not ingress.spec.ingress_class_name and LEGACY_CLASS in ingress.metadata.annotations
        at = f"metadata.annotations[{LEGACY_CLASS}]" if by_annotation else "spec.ingressClassName"
        message = f"{at}: no IngressClass {name!r}; use one of: {known}"
        return False, Problem(ingress.metadata.key, "IngressClassNotFound", message)
    return found.spec.controller == CONTROLLER, None


def read_ingress(
    ingress: Ingress,
    defaults: Mapping[str, str] | None = None,
    headers: Callable[[SecretKey], object] = lambda _: None,
    *,
    passthrough: bool = False,
) -> Claims:
    """Everything that can be served of one Ingress, and what is wrong with the rest.

    `defaults` are annotations that its class has for it, `headers` what is known of a ConfigMap that it names for some.
    `passthrough`: whether the controller was told to look at names before TLS ends.
    """
    reading = _Reading(ingress, {**(defaults or {}), **said(ingress.metadata.annotations)})
    reading.add_headers(headers)
    if reading.through and not passthrough:
        remedy = "start the controller with --ssl-passthrough"
        reading.tell("UnsupportedAnnotation", f"ssl-passthrough: is off, so the Ingress is left out; {remedy}")
        reading.shut = True
    elif not reading.options.refused:
        reading.read()
    created = ingress.metadata.creation_timestamp
    return Claims(
        age=(created.timestamp() if created else 0.0, ingress.metadata.key),
        hosts={host: tuple(claims) for host, claims in reading.hosts.items()},
        named=reading.named(),
        certificates=tuple(reading.certificates),
        secrets=tuple(reading.secrets),
        left_out=reading.options.refused or reading.shut,
        default=reading.default,
        problems=tuple(reading.problems),
    )


class _Reading:
    """Claims in the making."""

    def __init__(self, ingress: Ingress, annotations: Mapping[str, str]) -> None:
        self.ingress = ingress
        self.options, problems = parse_annotations(ingress.metadata.key, annotations)
        self.problems = list(problems)
        self.hosts: dict[str, list[Claim]] = {}
        self.certificates: list[CertificateClaim] = []
        self._certificates_of: dict[str, list[CertificateClaim]] = {}
        self.encrypted: set[str] = set()
        self.default: Claim | None = None
        self.secrets: list[NamedSecret] = []
        self._authority: SecretKey | None = None
        self._peer: Peer | None = None
        self._fallback: BackendKey | None = None
        self.shut = False
        self.through = bool(self.options.traffic and self.options.traffic.passthrough)
        self._rewrite = self.options.rewrite or Rewrite()
        self._redirect = self.options.redirect or Redirect()
        self._canary = self.options.canary if self.options.canary and self.options.canary.enabled else None
        # A canary has the settings of the Ingress whose requests it shares.
        self._policy = canary_of(self._canary) if self._canary else policy_of(ingress.metadata.key, self.options)

    def add_headers(self, headers: Callable[[SecretKey], object]) -> None:
        """Those of the ConfigMaps that annotations name."""
        if self._canary:
            return
        named = self.options.traffic.headers if self.options.traffic else None
        if named:
            key = secret_of(self.ingress.metadata.key, named, HEADERS)
            wrong = self._name_secret("custom-headers", named, key)
            if wrong:
                self.tell("InvalidAnnotation", f"{wrong}; it has no effect")
            elif isinstance(found := headers(key), Headers):
                self._policy = join(self._policy, headers_of(found))
        told = self._told_auth_service()
        if told:
            found = headers(told)
            self._policy = join(self._policy, auth_headers_of(found if isinstance(found, Headers) else None))

    def _told_auth_service(self) -> SecretKey | None:
        """The ConfigMap of what the auth service is told, if it is asked at all."""
        auth = self.options.external_auth
        named = auth.proxy_headers if auth and auth.url and not self._canary else None
        return secret_of(self.ingress.metadata.key, named, HEADERS) if named else None

    def named(self) -> frozenset[str]:
        """The hosts that belong to its namespace if it is the oldest Ingress that names them, in rules or beside them.

        A canary shares the host of another Ingress. A default backend beside rules for hosts is for these in the first place.
        """
        if self._canary:
            return frozenset()
        return self._ruled() | {name for host in self._ruled() - {ANY} for name in self._names_beside(host)}

    def _ruled(self) -> frozenset[str]:
        hosts = {rule.host.lower() or ANY for rule in self.ingress.spec.rules}
        if not hosts and self.ingress.spec.default_backend:
            hosts = {ANY}
        return frozenset(host for host in hosts if host == ANY or _is_host(host))

    def _names_beside(self, host: str) -> Iterator[str]:
        """Aliases, and the name with or without `www.`."""
        if self.options.traffic:
            yield from self.options.traffic.aliases
        if self._redirect.www:
            yield _with_or_without_www(host)

    def read(self) -> None:
        spec = self.ingress.spec
        if not self._may_be_open():
            return
        affine = self.options.affinity is not None and self.options.affinity.kind is not None
        paths = sum(len(rule.http.paths) for rule in spec.rules if rule.http) if affine else 1
        if too_long(self._policy, paths):
            self.tell(
                "InvalidAnnotation",
                "annotations: together they are too long, so the Ingress is left out; name fewer networks or origins",
            )
            self.shut = True
            return
        self._tls()
        self._fall_back()
        answers = self.options.answers
        if answers and (answers.redirect_from is None) != (answers.redirect_to is None):
            self.tell("InvalidAnnotation", "proxy-redirect-from, proxy-redirect-to: it has no effect; say both")
        needs_names = self._authority is not None or self.through
        if self.through and any(rule.host.startswith(ANY) for rule in spec.rules):
            self.tell("InvalidHost", "ssl-passthrough: it is for full names; give each rule one")  # as in ingress-nginx
        if needs_names and any(not rule.host for rule in spec.rules):
            at = "auth-tls-secret" if self._authority else "ssl-passthrough"
            self.tell(
                "InvalidAnnotation", f"{at}: the name in the handshake is all there is to go by; give each rule a host"
            )
        if spec.default_backend and not self._authority and not self.through:
            backend = self._backend(spec.default_backend, "spec.defaultBackend")
            if backend and not self._canary:
                route = Route(backend, self._redirect.force_ssl, self._policy, fallback=self._fallback)
                self.default = Claim(prefix_row(ANY, "/"), route, "spec.defaultBackend")
        for number, rule in enumerate(spec.rules):
            at, host = f"spec.rules[{number}]", rule.host.lower() or ANY
            unfit = needs_names if host == ANY else not self._is_host(host, f"{at}.host")
            unfit = unfit or (self.through and host.startswith(ANY))
            if unfit:
                continue
            for index, path in enumerate(rule.http.paths if rule.http else ()):
                self._path(host, path, f"{at}.http.paths[{index}]")
        if not self._canary:
            self._rest()
            self._other_names()
            self._asks_clients()

    def _fall_back(self) -> None:
        """Whose pods serve while there are none."""
        traffic = self.options.traffic
        named = traffic.default_backend if traffic else None
        if traffic and traffic.errors and not traffic.own_errors and not named and not self._canary:
            self.tell("InvalidAnnotation", "custom-http-errors: it has no effect; name a Service in default-backend")
        if named and not self._canary:
            namespace, slash, name = named.rpartition("/")
            if slash and namespace != self.ingress.metadata.namespace:
                self.tell(
                    "InvalidAnnotation", f"default-backend: {named!r} is of another namespace; name one of this one"
                )
                return
            self._fallback = backend_key(f"{self.ingress.metadata.namespace}/{name}", FIRST)

    def _may_be_open(self) -> bool:
        """False, and told, if it is not clear who may enter, or which pods are to be trusted."""
        key, options = self.ingress.metadata.key, self.options
        wrong = self._trust_pods(options.backend_tls or BackendTls())
        auth, client = options.basic_auth, options.client_tls
        guarded = (auth and auth.is_asked_for) or (client and client.is_asked_for)
        if self.through and (guarded or options.access or options.external_auth):
            wrong = "ssl-passthrough: nobody here sees who asks, so nobody can be kept out; remove it, or the guards"
        if auth and auth.is_asked_for and not self._canary:
            if auth.kind is None or auth.secret is None:
                wrong = "auth-type, auth-secret: one needs the other"
            else:
                wrong = wrong or self._name_secret("auth-secret", auth.secret, users_of(key, auth))
        told, external = self._told_auth_service(), options.external_auth
        if told and external:
            wrong = wrong or self._name_secret("auth-proxy-set-headers", external.proxy_headers or "", told)
        if client and client.is_asked_for and client.verify != "off" and not self._canary:
            self._authority = authority_of(key, client)
            if client.secret is None or self._authority is None:
                wrong = "auth-tls-secret: nobody says who signs certificates; name a Secret with ca.crt"
            else:
                wrong = wrong or self._name_secret("auth-tls-secret", client.secret, self._authority)
        if client and client.verify == "off" and client.name_pattern and not self._canary:
            wrong = "auth-tls-match-cn: nobody is asked for a certificate; remove auth-tls-verify-client, or this"
        if wrong:
            self.tell("InvalidAnnotation", f"{wrong}; the Ingress is left out")
        self.shut = bool(wrong)
        return not wrong

    def _trust_pods(self, tls: BackendTls) -> str:
        """What is wrong with what is asked of pods; nothing is if nothing is."""
        encrypted = self.options.backend is not None and self.options.backend.protocol.endswith("S")
        if tls == BackendTls() or not encrypted:
            return ""
        if (tls.verify or tls.send_name) and not tls.name:
            return "proxy-ssl-name: say which name the pods' certificate has"
        if tls.verify and not tls.secret:
            return "proxy-ssl-secret: nobody says who signs the pods' certificates; name a Secret with ca.crt"
        secret = secret_of(self.ingress.metadata.key, tls.secret, PEER) if tls.secret else None
        self._peer = Peer(secret, tls.verify, (tls.name or "").lower(), tls.send_name, tls.versions, tls.ciphers or "")
        return self._name_secret("proxy-ssl-secret", tls.secret, secret) if tls.secret and secret else ""

    def _name_secret(self, at: str, text: str, secret: SecretKey) -> str:
        """What is wrong with a Secret, or a ConfigMap, that an annotation names."""
        namespace, slash, _ = text.rpartition("/")
        if slash and namespace != self.ingress.metadata.namespace:
            return f"{at}: {text!r} is of another namespace; copy it"
        self.secrets.append(NamedSecret(secret, at))
        return ""

    def _path(self, host: str, path: HttpIngressPath, at: str) -> None:
        text = path.path or "/"
        regex = self._rewrite.use_regex or self._rewrite.target is not None
        wrong = (_wrong_pattern(text) or _wrong_rewrite(text, self._rewrite.target)) if regex else _wrong_path(text)
        if wrong:
            self.tell("InvalidPath", f"{at}.path: {text[:80]!r} cannot be matched; {wrong}")
            return
        backend = self._backend(path.backend, f"{at}.backend")
        if backend:
            row = exact_row(host, text) if path.path_type == "Exact" and not regex else prefix_row(host, text)
            claim = Claim(
                row,
                self._route(backend, host, plain_start(text) if regex else text),
                f"{at}.backend",
                pattern=text if regex else re.escape(text),
                regex=regex,
                authority=self._authority,
                role=Role.CANARY if self._canary else Role.RULE,
            )
            self.hosts.setdefault(host, []).append(claim)

    def _rest(self) -> None:
        """The default backend is for everything that no rule of the Ingress' own hosts is for."""
        if not self.default:
            return
        for host in self._ruled() - {ANY}:
            route = self.default.route._replace(https_only=self._is_https_only(host))
            claim = replace(self.default, row=prefix_row(host, "/"), route=route, rest=True)
            self.hosts.setdefault(host, []).append(claim)

    def _route(self, backend: BackendKey, host: str, path: str) -> Route:
        """`path` is the rule's, or what one that is a pattern begins with; empty for a default backend."""
        if self.through:
            return Route(backend, https_only=True, through=True)
        rewrite = _template(self._rewrite.target)
        policy = join(self._policy, cookie_at(self.options, path)) if path and not self._canary else self._policy
        return Route(backend, self._is_https_only(host), policy, rewrite=rewrite, fallback=self._fallback)

    def _asks_clients(self) -> None:
        """Tell whose clients are not asked for a certificate that they must have."""
        named = {one.host for one in self.certificates}
        for host in self.hosts if self._authority else ():
            if not named & {host, f"{ANY}.{host.partition('.')[2]}"}:
                message = (
                    f"auth-tls-secret: {host} has no certificate, so no client is asked for one, and all are refused"
                )
                self.tell("InvalidAnnotation", f"{message}; name a Secret for it in spec.tls")

    def _other_names(self) -> None:
        """Names that nobody else claims: aliases serve the same, the name with or without www. leads to the other."""
        for one in self.certificates:
            self._certificates_of.setdefault(one.host, []).append(one)
        named = {host: claims for host, claims in self.hosts.items() if host != ANY}
        for alias in self.options.traffic.aliases if self.options.traffic else ():
            for host, claims in named.items():
                self._also(alias, host, [(claim, claim.route) for claim in claims], same=True)
        if self._redirect.www:
            for host, claims in named.items():
                other = _with_or_without_www(host)
                route = claims[0].route._replace(policy=redirect_to(host), rewrite="")
                row = prefix_row(host, "/")
                self._also(other, host, [(replace(claims[0], row=row, pattern="/", regex=False, rest=False), route)])

    def _also(self, name: str, host: str, claims: list[tuple[Claim, Route]], *, same: bool = False) -> None:
        """`same`: the name serves what all Ingresses of the namespace say of the host."""
        if name in self.hosts:
            return
        self.hosts[name] = [
            replace(claim, row=moved_row(claim.row, name), route=route, role=Role.ALIAS, alias_of=host if same else "")
            for claim, route in claims
        ]
        self.certificates += [replace(one, host=name) for one in self._certificates_of.get(host, ())]

    def _tls(self) -> None:
        for number, entry in enumerate(self.ingress.spec.tls):
            at = f"spec.tls[{number}]"
            if entry.secret_name and not _NAME.fullmatch(entry.secret_name):
                self.tell("InvalidSecret", f"{at}.secretName: {entry.secret_name[:80]!r} is no name; write one")
                continue
            hosts = entry.hosts or tuple({rule.host: None for rule in self.ingress.spec.rules if rule.host})
            if entry.secret_name and not hosts:
                remedy = "name the hosts that it is for; others are served with a certificate that is nobody's"
                self.tell("CertificateUnused", f"{at}.hosts: neither they nor rules name a host; {remedy}")
            for index, host in enumerate(name.lower() for name in hosts):
                if not self._is_host(host, f"{at}.hosts[{index}]"):
                    continue
                if self._redirect.ssl is not False:
                    self.encrypted.add(host)
                if entry.secret_name:
                    secret = SecretKey(f"{self.ingress.metadata.namespace}/{entry.secret_name}")
                    self.certificates.append(CertificateClaim(host, secret, f"{at}.secretName"))

    def _is_https_only(self, host: str) -> bool:
        wildcard = f"{ANY}.{host.partition('.')[2]}"
        return self._redirect.force_ssl or host in self.encrypted or wildcard in self.encrypted

    def _is_host(self, host: str, at: str) -> bool:
        valid = _is_host(host)
        if not valid:
            self.tell("InvalidHost", f"{at}: {host[:80]!r} is no DNS name; write one")
        return valid

    def _backend(self, backend: IngressBackend, at: str) -> BackendKey | None:
        if backend.service is None:
            self.tell("ResourceBackend", f"{at}.resource: resources are not served; name a Service")
            return None
        name, port = backend.service.name, backend.service.port
        text = port.name or str(port.number)
        for field, value in (("service.name", name), ("service.port.name", text)):
            if not _NAME.fullmatch(value):
                self.tell("InvalidBackend", f"{at}.{field}: {value[:80]!r} is no name of Kubernetes; write one")
                return None
        return backend_key(f"{self.ingress.metadata.namespace}/{name}", text, self._words())

    def _words(self) -> set[str]:
        """How pods are to be spoken to."""
        if self.through:
            return {TCP}
        asked = self.options.backend or BackendOptions()
        words = {
            HTTP2: asked.protocol.startswith("GRPC"),
            TLS: asked.protocol.endswith("S"),
            SLOW: asked.protocol.endswith("S") and (asked.connect_timeout_ms or 0) > HANDSHAKE_MS,
            HASH: asked.hash_by is not None,
            VIRTUAL: asked.service_upstream,
            slow_start(asked.slow_start_ms): asked.slow_start_ms > 0,
            OPAQUE: self._canary is not None
            or (self.options.affinity is not None and self.options.affinity.kind is not None),
        }
        return {word for word, wanted in words.items() if wanted} | ({self._peer.word()} if self._peer else set())

    def tell(self, reason: str, message: str) -> None:
        """Something is wrong."""
        self.problems.append(Problem(self.ingress.metadata.key, reason, message))


def _with_or_without_www(host: str) -> str:
    return host.removeprefix("www.") if host.startswith("www.") else f"www.{host}"


def _is_host(text: str) -> bool:
    return len(text) <= HOST_MAX and bool(HOST.fullmatch(text))


def _wrong_path(text: str) -> str:
    valid = PATH.fullmatch(text) and len(text) <= PATH_MAX
    return "" if valid else "begin with / and use visible ASCII characters"


def _wrong_pattern(text: str) -> str:
    try:
        grammar.regex(text)
    except ValueError as error:
        return str(error)
    return "" if text.startswith("/") else "begin with /"


def _wrong_rewrite(pattern: str, target: str | None) -> str:
    """A new path that begins with a group has its slash from there."""
    if not target or target.startswith("/"):
        return ""
    groups = re.findall(r"(?:\\.|\[(?:\\.|[^]\\])*\]|[^(\\[])*\(([^)]?)", pattern)
    number = int(target[1])
    slash = number <= len(groups) and groups[number - 1] == "/"
    return "" if slash else f"rewrite-target {target!r} needs a / before it, or group {number} one at its beginning"


def _template(target: str | None) -> str:
    """A new path with the groups of a pattern as HAProxy writes them: $1 is \\1."""
    return re.sub(r"\$([0-9])", r"\\\1", target or "")
