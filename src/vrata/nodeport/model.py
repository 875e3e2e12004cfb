"""The node proxy's view of Services and its ruleset as data: chains, dynamic sets, and elements of maps and sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vrata.net.flows import Target

TABLE = "vrata-node"  # one of each family
HAIRPINS = "hairpins"  # set of (address . address) of pods that may reach themselves through a Service
MASQUERADE_MARK = 0x4000  # as kube-proxy's

Family = Literal["ip", "ip6"]
FAMILIES: tuple[Family, ...] = ("ip", "ip6")


@dataclass(frozen=True)
class PortView:
    """One Service port in one address family, with the endpoints that answer.

    `internal` answers at cluster addresses, `external` everywhere else, `everywhere` are those of all nodes. `alive` are
    also those that end but still serve: a UDP flow stays with them. `source_ranges` guards `balancer_ips`; empty: nobody is
    refused.
    """

    service: str  # namespace/name
    name: str
    protocol: str  # tcp, udp, sctp
    cluster_ips: tuple[str, ...]
    port: int
    node_port: int
    internal: tuple[Target, ...]
    external: tuple[Target, ...]
    external_local: bool  # externalTrafficPolicy Local: keep the client's address
    affinity_s: int = 0  # ClientIP affinity, 0: none
    everywhere: tuple[Target, ...] = ()
    alive: frozenset[Target] = frozenset()
    external_ips: tuple[str, ...] = ()  # spec.externalIPs
    balancer_ips: tuple[str, ...] = ()  # of the load balancer, ipMode VIP
    source_ranges: tuple[str, ...] = ()
    family: Family = "ip"


ChainName = tuple[Family, str]
Element = tuple[Family, str, str]  # family, map or set, key


@dataclass(frozen=True)
class Rules:
    """What one Service contributes to the ruleset. `shared` chains and `maps` serve any Service and are never deleted."""

    chains: Mapping[ChainName, tuple[str, ...]] = field(default_factory=dict)  # -> rules
    shared: Mapping[ChainName, tuple[str, ...]] = field(default_factory=dict)
    maps: Mapping[ChainName, str] = field(default_factory=dict)  # -> definition
    sets: Mapping[ChainName, str] = field(default_factory=dict)  # -> definition
    elements: Mapping[Element, str] = field(default_factory=dict)  # -> value, empty for a plain set


@dataclass(frozen=True)
class Surroundings:
    """What the ruleset knows of its node and cluster. CIDRs of both families."""

    local_pods: tuple[str, ...] = ()  # the node's own pods: their traffic to outside addresses may stay inside
    cluster: tuple[str, ...] = ()  # all pods; whoever else asks a cluster address is masqueraded; empty: nobody is
    node_ports_on: tuple[str, ...] = ()  # the node's addresses that node ports answer on; empty: all of them


@dataclass(frozen=True)
class Health:
    """The answer on a Service's healthCheckNodePort."""

    service: str
    port: int
    local_endpoints: int
