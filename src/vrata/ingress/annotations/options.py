"""What an Ingress asks for beyond its rules: small frozen values; None where nothing was asked for.

Fields are filled from the table by name. Times in milliseconds or seconds and sizes in bytes, as their names say.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rewrite:
    """Of paths; `target` makes every path of the host a regular expression, as `use_regex` does."""

    target: str | None = None
    use_regex: bool = False
    app_root: str | None = None
    upstream_vhost: str | None = None
    forwarded_prefix: str | None = None


@dataclass(frozen=True)
class Redirect:
    """Of requests; `ssl` None means: where the host has TLS."""

    ssl: bool | None = None
    force_ssl: bool = False
    permanent: str | None = None
    permanent_code: int = 301
    temporal: str | None = None
    temporal_code: int = 302
    www: bool = False


@dataclass(frozen=True)
class Canary:
    """A second backend for the rules of another Ingress; the header decides before the cookie before the weight."""

    enabled: bool = False
    header: str | None = None
    header_value: str | None = None
    header_pattern: str | None = None
    cookie: str | None = None
    weight: int = 0
    weight_total: int = 100


@dataclass(frozen=True)
class Affinity:
    """Of clients to pods by a cookie."""

    kind: str | None = None
    mode: str = "balanced"
    canary_behavior: str = "sticky"
    cookie_name: str = "INGRESSCOOKIE"
    cookie_path: str | None = None
    cookie_domain: str | None = None
    cookie_samesite: str | None = None
    cookie_secure: bool | None = None
    cookie_conditional: bool = False
    cookie_max_age_s: int | None = None
    cookie_expires_s: int | None = None
    change_on_failure: bool = False


@dataclass(frozen=True)
class BackendOptions:
    """How pods are spoken to."""

    protocol: str = "HTTP"
    balance: str = "round_robin"
    hash_by: str | None = None
    service_upstream: bool = False
    connect_timeout_ms: int | None = None
    send_timeout_ms: int | None = None
    read_timeout_ms: int | None = None
    retry_on: tuple[str, ...] | None = None
    retry_tries: int | None = None
    connection: str | None = None
    slow_start_ms: int = 0


@dataclass(frozen=True)
class BackendTls:
    """How pods prove who they are."""

    secret: str | None = None
    verify: bool = False
    name: str | None = None
    send_name: bool = False
    versions: tuple[str, str] | None = None  # the oldest and the newest
    ciphers: str | None = None
    depth: int = 1


@dataclass(frozen=True)
class Cors:
    """Headers for requests from other origins."""

    enabled: bool = False
    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    headers: tuple[str, ...] | None = None
    expose: tuple[str, ...] = ()
    credentials: bool = True
    max_age_s: int = 1_728_000


@dataclass(frozen=True)
class AccessList:
    """Networks that may enter, and that may not; None: no list. `satisfy` any: of the former, or by one authentication."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] | None = None
    satisfy: str = "all"


@dataclass(frozen=True)
class RateLimit:
    """Per client address."""

    per_second: int | None = None
    per_minute: int | None = None
    connections: int | None = None
    burst_multiplier: int = 5
    exempt: tuple[str, ...] = ()


@dataclass(frozen=True)
class BasicAuth:
    """Who may enter by password."""

    kind: str | None = None
    secret: str | None = None
    form: str | None = None
    realm: str | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether it keeps anybody out: a realm, or the form of a list, does not."""
        return self.kind is not None or self.secret is not None


@dataclass(frozen=True)
class ExternalAuth:
    """Who may enter, by the word of another service."""

    url: str | None = None
    method: str | None = None
    signin: str | None = None
    response_headers: tuple[str, ...] = ()
    proxy_headers: str | None = None  # a ConfigMap
    redirect: str | None = None
    signin_param: str | None = None
    always_cookie: bool = False


@dataclass(frozen=True)
class ClientTls:
    """Who may enter by certificate."""

    secret: str | None = None
    verify: str | None = None  # on
    depth: int = 1
    pass_certificate: bool = False
    name_pattern: str | None = None
    error_page: str | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether it keeps anybody out: what is done with a certificate does not."""
        return self.secret is not None or self.name_pattern is not None or self.verify not in {None, "off"}


@dataclass(frozen=True)
class Mirror:
    """A copy of each request, whose answer nobody sees."""

    target: str | None = None
    body: bool = True
    host: str | None = None


@dataclass(frozen=True)
class Traffic:
    """The rest: of bodies, names and errors."""

    body_max_bytes: int | None = None
    aliases: tuple[str, ...] = ()
    passthrough: bool = False
    default_backend: str | None = None
    errors: tuple[int, ...] = ()
    own_errors: bool = False  # none of these, whatever the class says
    headers: str | None = None
    hsts: str | None = None
    access_log: bool = True


@dataclass(frozen=True)
class Answers:
    """What is replaced in answers of pods, and what by."""

    cookie_domain: tuple[str, str] | None = None
    cookie_path: tuple[str, str] | None = None
    redirect_from: str | None = None
    redirect_to: str | None = None


@dataclass(frozen=True)
class Hints:
    """For nginx's buffers and ways. HAProxy passes bodies on as they come, through buffers of its own."""

    request_buffering: bool | None = None
    request_buffer_bytes: int | None = None
    response_buffering: bool | None = None
    response_buffer_bytes: int | None = None
    response_buffers: int | None = None
    busy_buffers_bytes: int | None = None
    file_bytes: int | None = None
    header_bytes: int | None = None
    headers: tuple[int, int] | None = None  # how many buffers, of so many bytes
    relative_redirects: bool = True
    trailing_slash: bool = True
    server_ciphers: bool = True


@dataclass(frozen=True)
class Options:
    """Everything that one Ingress asks for. `refused`: leave the whole Ingress out, or a door would be open."""

    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    canary: Canary | None = None
    affinity: Affinity | None = None
    backend: BackendOptions | None = None
    backend_tls: BackendTls | None = None
    cors: Cors | None = None
    access: AccessList | None = None
    rate_limit: RateLimit | None = None
    basic_auth: BasicAuth | None = None
    external_auth: ExternalAuth | None = None
    client_tls: ClientTls | None = None
    mirror: Mirror | None = None
    traffic: Traffic | None = None
    answers: Answers | None = None
    hints: Hints | None = None
    refused: bool = False
