"""One VRRP router carried by keepalived, as frozen values (RFC 9568). Does no I/O."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VirtualAddress:
    """An address (no prefix) that belongs to the active router, and the interface it lives on."""

    address: str
    interface: str


@dataclass(frozen=True)
class Router:
    """A VRRPv3 router with unicast peers. All `virtual` addresses move together."""

    name: str
    interface: str
    router_id: int
    priority: int
    advert_interval_ms: int
    source: str
    peers: tuple[str, ...]
    virtual: tuple[VirtualAddress, ...]
    notify_fifo: str
    fault_file: str  # 0: fit to serve; anything else: FAULT at once
    alive_script: str | None = None  # asked each second, for when nobody writes the fault file
