"""Which addresses a subnet may give, and which one is next: pure arithmetic on ranges (Neutron v2.0, allocation pools).

Never here: who has which address; the caller brings the taken ones.
"""

import ipaddress
import itertools
from collections.abc import Container, Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Pool = dict[str, str]


class BadPools(ValueError):
    """Allocation pools that do not fit the subnet; the text says how."""


def default_pools(cidr: str, gateway: str | None) -> list[Pool]:
    """Everything but network, broadcast and gateway address."""
    net = ipaddress.ip_network(cidr)
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.num_addresses > 2:
        first, last = first + 1, last - (1 if net.version == 4 else 0)
    if gateway is None or ipaddress.ip_address(gateway) not in net:
        return [_pool(net, first, last)]
    middle = int(ipaddress.ip_address(gateway))
    return [_pool(net, a, b) for a, b in ((first, middle - 1), (middle + 1, last)) if a <= b]


def default_gateway(cidr: str) -> str:
    """The first usable address."""
    return str(ipaddress.ip_network(cidr).network_address + 1)


def check_pools(cidr: str, gateway: str | None, pools: Sequence[Pool]) -> None:
    """BadPools if a pool is not a range inside the subnet, overlaps another one or holds the gateway."""
    net = ipaddress.ip_network(cidr)
    ranges = sorted(_range(pool) for pool in pools)
    for (start, end), pool in zip(ranges, pools, strict=True):
        if start > end:
            raise BadPools(f"The allocation pool {pool['start']}-{pool['end']} is not valid.")
        if start < int(net.network_address) or end > int(net.broadcast_address):
            raise BadPools(f"The allocation pool {pool['start']}-{pool['end']} spans beyond the subnet cidr {cidr}.")
        if gateway is not None and start <= int(ipaddress.ip_address(gateway)) <= end:
            raise BadPools(f"Gateway ip {gateway} conflicts with allocation pool {pool['start']}-{pool['end']}.")
    for (_, end), (start, _) in itertools.pairwise(ranges):
        if start <= end:
            raise BadPools(f"Found overlapping allocation pools for subnet {cidr}.")


def next_free(pools: Iterable[Pool], taken: Container[int], version: int) -> str | None:
    """The lowest address of the pools that nobody has, None when all are taken."""
    for start, end in sorted(_range(pool) for pool in pools):
        for candidate in range(start, end + 1):
            if candidate not in taken:
                made: Address = (ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address)(candidate)
                return str(made)
    return None


def usable(address: str, cidr: str) -> bool:
    """Whether a port may ask for this address on this subnet."""
    ip, net = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    if ip.version != net.version or ip not in net:
        return False
    return net.num_addresses <= 2 or (ip != net.network_address and (net.version == 6 or ip != net.broadcast_address))


def with_prefix(address: str, cidr: str) -> str:
    """`10.0.0.5` on `10.0.0.0/24` is `10.0.0.5/24`."""
    return f"{address}/{ipaddress.ip_network(cidr).prefixlen}"


def _range(pool: Pool) -> tuple[int, int]:
    return int(ipaddress.ip_address(pool["start"])), int(ipaddress.ip_address(pool["end"]))


def _pool(net: Network, first: int, last: int) -> Pool:
    kind = type(net.network_address)
    return {"start": str(kind(first)), "end": str(kind(last))}
