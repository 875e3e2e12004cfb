"""What a Service asks of the cloud, and what the cloud has: frozen values (Octavia API v2, Neutron API v2.0)."""

from dataclasses import dataclass, field

PENDING = frozenset({"PENDING_CREATE", "PENDING_UPDATE", "PENDING_DELETE"})


@dataclass(frozen=True)
class BalancerClass:
    """`[LoadBalancerClass "name"]` of the OpenStack cloud controller's cloud.conf; empty: as in the settings."""

    floating_network_id: str = ""
    floating_subnet_id: str = ""
    floating_subnet: str = ""  # a pattern for its name
    floating_subnet_tags: str = ""
    network_id: str = ""
    subnet_id: str = ""
    member_subnet_id: str = ""


@dataclass(frozen=True)
class Settings:
    """Of one provider process: `[LoadBalancer]` of the OpenStack cloud controller's cloud.conf. Monitor times in seconds.

    Source: cloud-provider-openstack, «Using OpenStack Cloud Controller Manager», Load Balancer.
    """

    cluster: str = "kubernetes"
    provider: str = ""  # lb-provider; empty: the cloud's default
    subnet_id: str = ""  # VIP subnet; empty: the one the nodes are on
    network_id: str = ""  # VIP network, where no subnet is named
    member_subnet_id: str = ""
    floating_network_id: str = ""  # empty: the first external network with an IPv4 subnet
    floating_subnet_id: str = ""
    floating_subnet: str = ""  # a pattern for its name: a glob, `~` a regular expression, `!` negates
    floating_subnet_tags: str = ""  # `a,b` any of them, `a&b` all, `!` negates
    internal: bool = False
    algorithm: str = "ROUND_ROBIN"
    monitor: bool = True
    monitor_delay_s: int = 5
    monitor_timeout_s: int = 3
    monitor_retries: int = 1
    monitor_retries_down: int = 3
    manage_security_groups: bool = False
    node_selector: str = ""  # `key=value,key`
    flavor_id: str = ""
    availability_zone: str = ""
    tls_container_ref: str = ""  # default-tls-container-ref
    check_tls_container: bool = True  # container-store = barbican
    cascade_delete: bool = True
    ingress_hostname: bool = False  # enable-ingress-hostname
    ingress_hostname_suffix: str = "nip.io"
    classes: tuple[tuple[str, BalancerClass], ...] = ()  # by name


@dataclass(frozen=True)
class Member:
    """One node behind a pool."""

    name: str
    address: str
    port: int
    monitor_port: int | None = None


@dataclass(frozen=True)
class Monitor:
    """A health monitor; times in seconds. `path` is for HTTP only."""

    type: str
    delay_s: int
    timeout_s: int
    retries: int
    retries_down: int
    path: str | None = None


@dataclass(frozen=True)
class Pool:
    """The members behind one listener."""

    protocol: str
    algorithm: str
    members: frozenset[Member]
    monitor: Monitor | None = None
    persistence: str | None = None


@dataclass(frozen=True)
class Listener:
    """One port of the Service. Timeouts in milliseconds, None: the cloud's default."""

    protocol: str
    port: int
    pool: Pool
    connection_limit: int = -1
    allowed_cidrs: frozenset[str] = frozenset()
    timeouts_ms: tuple[tuple[str, int], ...] = ()  # attribute name, value


@dataclass(frozen=True)
class Desired:
    """All that one Service wants in the cloud. `vip_address` None: any."""

    name: str
    description: str
    floating_description: str
    internal: bool
    listeners: tuple[Listener, ...]
    vip_address: str | None = None
    floating_address: str | None = None
    keep_floating: bool = False
    proxy_protocol: bool = False


@dataclass(frozen=True)
class ObservedPool:
    id: str
    protocol: str
    algorithm: str
    persistence: str | None
    members: frozenset[Member]
    monitor_id: str | None
    monitor: Monitor | None


@dataclass(frozen=True)
class ObservedListener:
    id: str
    protocol: str
    port: int
    connection_limit: int
    allowed_cidrs: frozenset[str]
    timeouts_ms: dict[str, int]
    pool: ObservedPool | None


@dataclass(frozen=True)
class Observed:
    """The load balancer as the cloud has it; `listeners` is read only while it can be changed."""

    id: str
    provisioning_status: str
    vip_address: str
    vip_port_id: str
    listeners: tuple[ObservedListener, ...] = ()
    orphan_pool_ids: tuple[str, ...] = ()  # pools of ours without a listener: a crash between two calls


@dataclass(frozen=True)
class FloatingIp:
    id: str
    address: str
    port_id: str | None
    ours: bool


@dataclass(frozen=True)
class World:
    """Everything a pass looked at in the cloud."""

    balancer: Observed | None
    floating: FloatingIp | None  # on the VIP port
    wanted_floating: FloatingIp | None = None  # the one whose address the Service names, wherever it is
    stray_floating: tuple[FloatingIp, ...] = field(default=())  # ours by description, on no port
