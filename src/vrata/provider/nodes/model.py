"""Servers as nodes see them, and what a cluster wants to be told of them: frozen values."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Address:
    """One address of a server; `floating` ones are reached from outside."""

    network: str
    address: str
    floating: bool = False


@dataclass(frozen=True)
class Server:
    """One server (Nova API reference, «Servers»)."""

    id: str
    name: str
    status: str = "ACTIVE"
    flavor: str = ""  # its name
    zone: str = ""
    access: tuple[str, ...] = ()  # accessIPv4, accessIPv6
    addresses: tuple[Address, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeSettings:
    """Of the node controllers. `initialises` and `deletes` are their two halves (node, node-lifecycle)."""

    region: str = ""  # empty: the one that was logged in to
    regional: bool = False  # the provider id names the region (OS_CCM_REGIONAL)
    ipv6: bool = True
    public_networks: tuple[str, ...] = ()
    internal_networks: tuple[str, ...] = ()
    sort_order: tuple[str, ...] = ()  # networks in CIDR notation: addresses in an earlier one come first
    initialises: bool = True
    deletes: bool = True
