"""What an operator may set of the cloud; every bound of the service has its name here."""

from dataclasses import dataclass

from vrata.base.pki import Pair

# What Neutron and Octavia themselves start with; -1: no limit.
NEUTRON_QUOTAS = (
    ("network", 100), ("subnet", 100), ("subnetpool", -1), ("port", 500), ("router", 10), ("floatingip", 50),
    ("security_group", 10), ("security_group_rule", 100), ("rbac_policy", 10),
)  # fmt: skip
BALANCING_QUOTAS = tuple(
    (name, -1) for name in ("loadbalancer", "listener", "pool", "member", "healthmonitor", "l7policy", "l7rule")
)


@dataclass(frozen=True)
class Settings:
    """Settings of one cloud service; times in the unit their name says."""

    public_url: str = ""  # empty: catalog addresses follow the request
    region: str = "RegionOne"
    endpoints: tuple[tuple[str, str], ...] = ()  # of services that others serve: type of service, address
    host_secrets: tuple[str, ...] = ()  # shared by all hosts; each is good, so that they can be exchanged one by one
    host_authority: Pair | None = None  # that signs certificates of hosts
    metrics_token: str = ""  # who asks for /metrics must show it; empty: nobody must
    secret_keys: tuple[str, ...] = ()  # of the key manager: the first seals, all open
    password_cost: int = 14  # log2 of scrypt's N for new hashes
    token_life_s: int = 24 * 3600
    host_timeout_s: float = 5.0  # a host that is silent for longer is dead, and what it carried is built anew
    sweep_interval_s: float = 0.25  # how often silent hosts are looked for, and instances that move
    heartbeat_interval_s: float = 0.5  # unchanged reports are written at most this often
    yield_timeout_s: float = 5.0  # an instance that still holds its addresses then is told again to hand over
    drain_timeout_s: float = 30.0  # connections of an instance that is replaced may take so long to end
    poll_max_s: float = 60.0  # longest long poll
    replica_poll_s: float = 0.4  # how soon a replica sees what another one changed
    advert_interval_ms: int = 100
    instances_per_pair: int = 2
    rbac: str = "default"  # whose policy of balancing: see balancing/policy.py
    noop: bool = False  # no hosts, no network: balancing's API alone, for conformance tests
    page_max: int = 1000
    network_quotas: tuple[tuple[str, int], ...] = NEUTRON_QUOTAS  # of a project without limits of its own; -1: none
    balancing_quotas: tuple[tuple[str, int], ...] = BALANCING_QUOTAS  # likewise
