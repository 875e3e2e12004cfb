"""What crosses the wire between the cloud and a host: desired instances down, reports up.

The cloud writes `DesiredSet` and reads `HostReport`; the host agent does the opposite. Fields that OpenStack has a
word for keep it (Octavia API v2). Every value here has been validated by the cloud; the host validates again what
it renders. Unknown fields are ignored on both sides, so either may be upgraded first.

    GET  /agent/v1/hosts/{host}/desired?since=REVISION&database=ID&wait_s=SECONDS   200 DesiredSet | 204 nothing newer
    PUT  /agent/v1/hosts/{host}/report?boot=ID&number=N   204 (also the heartbeat and the registration)

Of two reports of one boot of a host's machine the one with the higher number is the later one: an earlier one that
comes late is dropped.

    GET  /agent/v1/authority                  200 certificate of the authority, in PEM
    POST /agent/v1/hosts/{host}/join          200 a first certificate, for a `JoinToken` as `Authorization: Bearer`
    POST /agent/v1/hosts/{host}/certificate   200 the next certificate; both send a request for it (PKCS #10), in PEM

A host shows its certificate (TLS), or `Authorization: Bearer SECRET`, the secret shared by the cloud and all its hosts.
"""

import re
from enum import StrEnum

import msgspec


class InstanceKind(StrEnum):
    """What an instance does: carry one load balancer, or be a router's way out and its floating IPs."""

    BALANCER = "balancer"
    GATEWAY = "gateway"


class VrrpState(StrEnum):
    """State of one virtual router on one instance (RFC 9568, section 6.4; FAULT is keepalived's)."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"
    FAULT = "FAULT"
    UNKNOWN = "UNKNOWN"


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every message: immutable, keyword-only, defaults left out."""


class FirewallRule(Wire, frozen=True, kw_only=True):
    """What a security group lets in (Neutron's ingress rule; what answers it is let out by itself).

    `protocol` None: any, else "tcp", "udp", "icmp", "ipv6-icmp" or a number as text. `remotes` are CIDRs; empty:
    from everywhere. Ports are inclusive; for ICMP they are type and code, as in Neutron.
    """

    ethertype: str  # IPv4, IPv6
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remotes: tuple[str, ...] = ()


class Firewall(Wire, frozen=True, kw_only=True):
    """Everything that may enter through a leg besides VRRP, peers and neighbour discovery; no rule: nothing."""

    rules: tuple[FirewallRule, ...] = ()


class Leg(Wire, frozen=True, kw_only=True):
    """One interface of an instance: where it is plugged in and which addresses it has.

    Addresses are CIDRs ("10.10.0.57/24", "2001:db8::5/64"). `fixed` ones are always on the interface; `virtual`
    ones belong to the active instance only (VRRP moves them together). `gateway`, an address, is the next hop for
    everything that is not on-link: of the instance's default route on the first leg that names one; on every
    further leg for packets whose source is one of the leg's virtual addresses (policy routing).
    """

    name: str  # interface name inside the instance, e.g. "tenant", "external"
    physical_network: str  # the host maps it to one of its bridges
    mac_address: str
    fixed: tuple[str, ...] = ()
    virtual: tuple[str, ...] = ()
    gateway: str | None = None
    mtu: int = 1500
    firewall: Firewall | None = None  # None: everything may enter
    routes: tuple[tuple[str, str], ...] = ()  # (destination CIDR, next hop) besides the default one


class Neighbour(Wire, frozen=True, kw_only=True):
    """Where another instance of the same owner sends from: the address and MAC address of its first leg."""

    address: str
    mac_address: str


class Vrrp(Wire, frozen=True, kw_only=True):
    """The pair's VRRPv3 group, unicast between the fixed addresses of both instances' first legs."""

    router_id: int  # 1..255
    priority: int  # 1..254; the higher one of the two becomes active on a fresh pair
    advert_interval_ms: int
    source: str
    peers: tuple[str, ...] = ()  # empty: topology SINGLE, or no second host
    peer_instances: tuple[str, ...] = ()  # ids of the instances at `peers`, same order
    peer_macs: tuple[str, ...] = ()  # MAC addresses of their first legs, same order
    neighbours: tuple[Neighbour, ...] = ()  # all that may be heard: peers, and instances that are about to leave
    joins: bool = False  # another instance serves already: this one is no candidate before it can, too
    ghosts: tuple[str, ...] = ()  # of instances on hosts that fell silent: they hear adverts too, in case they live


class HealthMonitor(Wire, frozen=True, kw_only=True):
    """Octavia health monitor; `delay` and `timeout` in seconds."""

    id: str
    type: str  # HTTP, HTTPS, PING, TCP, TLS-HELLO, UDP-CONNECT
    delay: int
    timeout: int
    max_retries: int = 1
    max_retries_down: int = 3
    http_method: str = "GET"
    http_version: float = 1.0
    url_path: str = "/"
    expected_codes: str = "200"
    domain_name: str | None = None


class Certificate(Wire, frozen=True, kw_only=True):
    """A certificate with its chain and its private key, PEM, leaf first, key last. Kept in files of mode 0600."""

    ref: str  # the key manager's reference: says which one in errors
    pem: str = ""


class Tls(Wire, frozen=True, kw_only=True):
    """What both ends of TLS share; empty tuples and None: the product's safe default."""

    ciphers: str | None = None  # OpenSSL's cipher list
    versions: tuple[str, ...] = ()  # of SSLv3, TLSv1, TLSv1.1, TLSv1.2, TLSv1.3
    alpn_protocols: tuple[str, ...] = ()  # of h2, http/1.1, http/1.0
    ca_pem: str | None = None  # whom the other side's certificate must come from
    crl_pem: str | None = None


class ListenerTls(Tls, frozen=True, kw_only=True):
    """TLS ended by a listener. Both references given by `default_certificate` and `sni_certificates`."""

    default_certificate: Certificate | None = None
    sni_certificates: tuple[Certificate, ...] = ()
    client_authentication: str = "NONE"  # NONE, OPTIONAL, MANDATORY against `ca_pem` and `crl_pem`
    hsts_max_age: int | None = None  # seconds
    hsts_include_subdomains: bool = False
    hsts_preload: bool = False


class PoolTls(Tls, frozen=True, kw_only=True):
    """TLS spoken to members: with `certificate` as client, members verified against `ca_pem` where given."""

    certificate: Certificate | None = None


class L7Rule(Wire, frozen=True, kw_only=True):
    """Octavia L7 rule; all rules of a policy must match."""

    id: str
    type: str  # HOST_NAME, PATH, FILE_TYPE, HEADER, COOKIE, SSL_CONN_HAS_CERT, SSL_VERIFY_RESULT, SSL_DN_FIELD
    compare_type: str  # REGEX, STARTS_WITH, ENDS_WITH, CONTAINS, EQUAL_TO
    value: str
    key: str | None = None
    invert: bool = False


class L7Policy(Wire, frozen=True, kw_only=True):
    """Octavia L7 policy. A listener's policies come in the order in which they are to be tried."""

    id: str
    action: str  # REJECT, REDIRECT_TO_POOL, REDIRECT_TO_URL, REDIRECT_PREFIX
    rules: tuple[L7Rule, ...]
    redirect_pool_id: str | None = None
    redirect_url: str | None = None
    redirect_prefix: str | None = None
    redirect_http_code: int | None = None


class Member(Wire, frozen=True, kw_only=True):
    """Octavia member; weight 0 drains."""

    id: str
    address: str
    protocol_port: int
    weight: int = 1
    backup: bool = False
    monitor_address: str | None = None
    monitor_port: int | None = None


class Pool(Wire, frozen=True, kw_only=True):
    """Octavia pool."""

    id: str
    protocol: str  # TCP, HTTP, HTTPS, PROXY, PROXYV2, UDP
    lb_algorithm: str  # ROUND_ROBIN, LEAST_CONNECTIONS, SOURCE_IP, SOURCE_IP_PORT
    persistence_type: str | None = None  # SOURCE_IP, HTTP_COOKIE, APP_COOKIE
    cookie_name: str | None = None
    persistence_timeout: int | None = None  # seconds; UDP only
    persistence_granularity: str | None = None  # netmask or prefix length; UDP only
    tls: PoolTls | None = None
    members: tuple[Member, ...] = ()
    healthmonitor: HealthMonitor | None = None


class Listener(Wire, frozen=True, kw_only=True):
    """Octavia listener; timeouts in milliseconds; listens on every virtual address of the instance."""

    id: str
    protocol: str  # TCP, HTTP, HTTPS, TERMINATED_HTTPS, PROMETHEUS, UDP
    protocol_port: int
    default_pool_id: str | None = None
    connection_limit: int = -1  # -1: no limit
    timeout_client_data: int = 50_000
    timeout_member_connect: int = 5_000
    timeout_member_data: int = 50_000
    timeout_tcp_inspect: int = 0
    allowed_cidrs: tuple[str, ...] = ()  # empty: everybody
    insert_headers: tuple[str, ...] = ()  # X-Forwarded-For, -Port, -Proto; X-SSL-* where TLS is ended
    tls: ListenerTls | None = None
    l7policies: tuple[L7Policy, ...] = ()
    kernel: bool = False  # TCP in nftables instead of HAProxy; established connections survive a failover


class FloatingNat(Wire, frozen=True, kw_only=True):
    """One-to-one translation on a gateway: `floating` outside, `fixed` inside (addresses, no prefix)."""

    floating: str
    fixed: str
    firewall: Firewall | None = None  # what may reach `fixed` this way; None: everything


class SourceNat(Wire, frozen=True, kw_only=True):
    """The tenants' way out: packets from `source_cidrs` leave with `address`."""

    address: str
    source_cidrs: tuple[str, ...]


class DesiredInstance(Wire, frozen=True, kw_only=True):
    """One instance that this host shall carry. `generation` rises with every change of what it serves."""

    id: str
    kind: InstanceKind
    owner_id: str  # load balancer or router
    generation: int
    legs: tuple[Leg, ...]
    vrrp: Vrrp
    threads: int = 1  # of HAProxy
    max_connections: int | None = None  # of the whole instance; None: what the machine allows
    reload_timeout_s: int = 86_400  # connections of before a reload of HAProxy go on for as long
    yields: int = 0  # each new value: give addresses and clients to the peer, once; connections that are there go on
    listeners: tuple[Listener, ...] = ()
    pools: tuple[Pool, ...] = ()
    floating: tuple[FloatingNat, ...] = ()
    snat: SourceNat | None = None


class DesiredSet(Wire, frozen=True, kw_only=True):
    """All that one host must run; what is not in it must go, unless the host refuses the set (`vrata.host.trust`)."""

    revision: int  # never falls in one database
    instances: tuple[DesiredInstance, ...]
    database: str = ""  # which database this comes from; empty: not known
    leaving: tuple[str, ...] = ()  # ids of instances that the cloud knows and has taken away on purpose
    broken: dict[str, str] = {}  # id of an instance that cannot be built -> why; it stays as it is and reports this
    adopt: str = ""  # id of the refusal that an administrator has overruled


class ListenerStats(Wire, frozen=True, kw_only=True):
    """Counters of one listener since the instance's HAProxy started, as in Octavia's statistics."""

    active_connections: int
    bytes_in: int
    bytes_out: int
    request_errors: int
    total_connections: int


class Cause(StrEnum):
    """Why an instance took the addresses."""

    FIRST = "first"  # nobody was heard before: no failover
    GOODBYE = "good-bye"  # the peer gave them up: its HAProxy or keepalived ended, or it was told to
    SILENCE = "silence"  # the peer's adverts stayed away


class Transition(Wire, frozen=True, kw_only=True):
    """One change of an instance's VRRP state. Sent again until a report has been answered.

    `at` is Unix time by the host's clock, `lasted_s` how long the state before lasted. Of one that becomes MASTER:
    `cause`, and in `silent_s` the seconds from the last that was heard of the peer (advert or good-bye) until then.
    """

    at: float
    before: VrrpState
    after: VrrpState
    lasted_s: float
    cause: Cause | None = None
    silent_s: float | None = None


class InstanceReport(Wire, frozen=True, kw_only=True):
    """What the host sees of one instance. `observed_generation` is the last one fully applied."""

    id: str
    observed_generation: int
    state: VrrpState
    error: str | None = None
    members: dict[str, str] = {}  # member id -> operating status: ONLINE, ERROR, DRAINING, NO_MONITOR, OFFLINE
    listeners: dict[str, ListenerStats] = {}
    transitions: tuple[Transition, ...] = ()


class Refusal(Wire, frozen=True, kw_only=True):
    """The host keeps everything as it is, because it does not trust the desired set that it was sent."""

    id: str
    reason: str
    lost_changes: bool = False  # the database is older than what the host has seen: lasts until an administrator adopts


class HostReport(Wire, frozen=True, kw_only=True):
    """Heartbeat, registration and observation of one host in one message."""

    physical_networks: tuple[str, ...]
    instances: tuple[InstanceReport, ...]
    refusal: Refusal | None = None


class JoinToken(msgspec.Struct, frozen=True):
    """What a machine shows to become a host, once. `authority`: SHA-256 of the authority's certificate, in hexadecimal."""

    secret: str
    authority: str

    def __str__(self) -> str:
        return f"{self.secret}.{self.authority}"


def read_token(text: str) -> JoinToken:
    """ValueError if it is none."""
    secret, _, authority = text.strip().partition(".")
    if not secret or not re.fullmatch("[0-9a-f]{64}", authority):
        raise ValueError("not a token of `vrata cloud host-token`")
    return JoinToken(secret, authority)
