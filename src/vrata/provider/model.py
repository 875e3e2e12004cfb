"""What a Service asks of the cloud, and what the cloud has: frozen values (Octavia API v2, Neutron API v2.0)."""

from dataclasses import dataclass, field

from vrata.base.errors import InvalidInput

Version = tuple[int, int]
NEWEST: Version = (2, 9999)  # than any; what is taken for granted of a cloud that was not asked yet
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
    cluster_uid: str = ""  # uid of the namespace kube-system: no other cluster has it
    octavia: Version = NEWEST  # the newest version of its API
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
    ingress_hostname: bool = False  # enable-ingress-hostname
    ingress_hostname_suffix: str = "nip.io"
    on_error: str = "failover"  # what is done about a load balancer in ERROR: wait, failover, rebuild
    classes: tuple[tuple[str, BalancerClass], ...] = ()  # by name
    restrict_annotations: bool = False  # some need a label of the namespace, see `annotations.RESTRICTED`


@dataclass(frozen=True)
class Member:
    """One node, or pod, behind a pool."""

    name: str
    address: str
    port: int
    monitor_port: int | None = None
    subnet_id: str | None = field(default=None, compare=False)  # where it is reached; no difference worth a write


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
    persistence_timeout_s: int | None = None


@dataclass(frozen=True)
class Listener:
    """One port of the Service. Timeouts in milliseconds."""

    protocol: str
    port: int
    pool: Pool
    connection_limit: int = -1
    allowed_cidrs: frozenset[str] = frozenset()  # empty: the cloud has no such attribute
    timeouts_ms: tuple[tuple[str, int], ...] = ()  # attribute name, value
    tls_ref: str | None = None
    forwards_client: bool = False  # inserts X-Forwarded-For


@dataclass(frozen=True)
class Vip:
    """Where a new load balancer has its addresses; of one that exists, nothing of this changes. Empty: not said."""

    subnet_id: str = ""
    network_id: str = ""
    port_id: str = ""
    address: str | None = None
    families: tuple[int, ...] = (4,)  # the second one is an additional VIP


@dataclass(frozen=True)
class Pick:
    """From where a floating IP is taken. `subnet`: a pattern for its name; an id wins over it and over tags."""

    network_id: str = ""
    subnet_id: str = ""
    subnet: str = ""
    subnet_tags: str = ""


@dataclass(frozen=True)
class Note:
    """Something that the Service says and that can not be done; the rest of it is."""

    reason: str
    message: str


EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}  # IP version -> the range that lets everybody in

ADDRESS, MEMBERS, PROTOCOL, PLACE = "address", "members", "protocol", "place"  # what else a problem may block


@dataclass(frozen=True)
class Problem:
    """Something that the Service says and nobody can do. It blocks `blocks`, and nothing else, of a balancer that exists.

    `blocks` has names of attributes as Octavia has them (`connection_limit`), or ADDRESS: the floating IP; MEMBERS;
    PROTOCOL: what a port speaks, so that no listener or pool comes or goes; PLACE: where a new load balancer would be.
    """

    field: str
    value: str
    remedy: str
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, error: InvalidInput, *blocks: str) -> "Problem":
        """As a value that can be compared."""
        return cls(error.field, str(error.value), error.remedy, blocks)

    def error(self) -> InvalidInput:
        """Its sentence for a person."""
        return InvalidInput(self.field, self.value, self.remedy)


@dataclass(frozen=True)
class Desired:
    """All that one Service wants in the cloud."""

    name: str
    description: str
    floating_description: str
    internal: bool
    listeners: tuple[Listener, ...]
    owner_tag: str = ""  # on the load balancer: whose it is; empty: its name says it
    vip: Vip = Vip()
    pick: Pick = Pick()
    floating_address: str | None = None
    keep_floating: bool = False
    balancer_id: str = ""  # the one to use; empty: found by name and owner, or made
    known_address: str = ""  # that it had when it was last seen
    legacy_name: str = ""  # that controllers of long ago gave
    tls_field: str = ""  # who named the TLS reference
    provider: str = ""
    flavor_id: str = ""
    availability_zone: str = ""
    proxy_protocol: bool = False
    hostname: str = ""  # what the status shows instead of an address
    hostname_suffix: str = ""  # the status shows `address.suffix`
    clients: frozenset[str] = frozenset()  # who reaches members from their own addresses (provider ovn); empty: nobody
    notes: tuple[Note, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def blocked(self) -> frozenset[str]:
        """What must stay as the cloud has it, because the Service says of it what nobody can do."""
        return frozenset(name for one in self.problems for name in one.blocks)

    @property
    def tags(self) -> list[str]:
        """Of a load balancer of its own."""
        return [self.name, *([self.owner_tag] if self.owner_tag else [])]

    @property
    def floats(self) -> bool:
        """Whether it has a floating IP: there are none for IPv6."""
        return not self.internal and self.vip.families[0] == 4


@dataclass(frozen=True)
class ObservedPool:
    id: str
    protocol: str
    algorithm: str
    persistence: str | None
    members: frozenset[Member]
    monitor_id: str | None
    monitor: Monitor | None
    persistence_timeout_s: int | None = None
    name: str = ""


@dataclass(frozen=True)
class ObservedListener:
    id: str
    protocol: str
    port: int
    connection_limit: int
    allowed_cidrs: frozenset[str]
    timeouts_ms: dict[str, int]
    pool: ObservedPool | None
    tags: frozenset[str] = frozenset()
    tls_ref: str | None = None
    forwards_client: bool = False


@dataclass(frozen=True)
class Observed:
    """The load balancer as the cloud has it; `listeners` is read only while it can be changed."""

    id: str
    provisioning_status: str
    vip_address: str
    vip_port_id: str
    listeners: tuple[ObservedListener, ...] = ()
    loose_pools: tuple[ObservedPool, ...] = ()  # without a listener: a crash between two calls
    name: str = ""
    tags: frozenset[str] = frozenset()
    subnet_id: str = ""
    network_id: str = ""
    flavor_id: str = ""
    availability_zone: str = ""
    provider: str = ""
    additional_vips: tuple[str, ...] = ()  # addresses


@dataclass(frozen=True)
class FloatingIp:
    id: str
    address: str
    port_id: str | None
    ours: bool  # of this Service, by its description
    clusters: bool = False  # of some Service of this cluster


@dataclass(frozen=True)
class Subnet:
    """A subnet that floating IPs may come from."""

    id: str
    name: str
    tags: frozenset[str] = frozenset()
    version: int = 4


@dataclass(frozen=True)
class Swaps:
    """What is remembered of listeners whose protocol was to change, which takes another listener.

    `cleared`: those that made room. `refused`: kinds that the cloud would not have in their place.
    """

    cleared: tuple[ObservedListener, ...] = ()
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class World:
    """Everything a pass looked at in the cloud."""

    balancer: Observed | None
    floating: FloatingIp | None  # on the VIP port
    wanted_floating: FloatingIp | None = None  # the one whose address the Service names, wherever it is
    stray_floating: tuple[FloatingIp, ...] = ()  # ours by description, on no port
    floating_network_id: str | None = None
    floating_subnets: tuple[Subnet, ...] | None = None  # of that network; None: not asked for
    subnets: tuple[tuple[int, str], ...] = ()  # IP version -> the subnet the nodes are on
    namesakes: tuple[str, ...] = ()  # ids of load balancers of the same name that are not provably ours
    swaps: Swaps = Swaps()
