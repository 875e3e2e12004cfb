"""The node proxy's ruleset as data: chains, dynamic sets, and elements of the dispatching maps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TABLE = "vrata-node"
HAIRPINS = "hairpins"  # set of (address . address) of pods that may reach themselves through a Service
MASQUERADE_MARK = 0x4000  # as kube-proxy's


@dataclass(frozen=True)
class Target:
    """One endpoint of a Service port."""

    address: str
    port: int


@dataclass(frozen=True)
class PortView:
    """One Service port with the endpoints that shall answer: within the cluster and from outside."""

    service: str  # namespace/name
    name: str
    protocol: str  # tcp, udp
    cluster_ips: tuple[str, ...]
    port: int
    node_port: int
    internal: tuple[Target, ...]
    external: tuple[Target, ...]
    external_local: bool  # externalTrafficPolicy Local: keep the client's address
    affinity_s: int = 0  # ClientIP affinity, 0: none


Element = tuple[str, str]  # map or set name, key


@dataclass(frozen=True)
class Rules:
    """What one Service contributes to the ruleset."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> rules
    sets: Mapping[str, str] = field(default_factory=dict)  # name -> definition
    elements: Mapping[Element, str] = field(default_factory=dict)  # -> verdict, empty for a plain set


@dataclass(frozen=True)
class Health:
    """The answer on a Service's healthCheckNodePort."""

    service: str
    port: int
    local_endpoints: int
