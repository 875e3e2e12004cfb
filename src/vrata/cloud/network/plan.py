"""Which addresses a subnet may give, and which one is next: pure arithmetic on ranges (Neutron v2.0, allocation pools).

Never here: who has which address; the caller brings the taken ones.
"""

import ipaddress
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Pool = dict[str, str]


class BadPools(ValueError):
    """Allocation pools that do not fit the subnet; the text says how."""


class GatewayInPool(BadPools):
    """A pool holds the gateway's address."""


class PoolsOverlap(BadPools):
    """Two pools share an address."""


class PoolOutOfBounds(BadPools):
    """A pool leaves the subnet."""


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


def default_gateway(cidr: str) -> str | None:
    """The first usable address; None for a single address, which has nothing to lead to."""
    net = ipaddress.ip_network(cidr)
    return str(net[1]) if net.num_addresses > 1 else None


def check_pools(cidr: str, gateway: str | None, pools: Sequence[Pool]) -> None:
    """BadPools if a pool is not a range inside the subnet, overlaps another one or holds the gateway."""
    net = ipaddress.ip_network(cidr)
    ranges = sorted(_range(pool) for pool in pools)
    for pool in pools:
        start, end = _range(pool)
        if start > end:
            raise BadPools(f"The allocation pool {pool['start']}-{pool['end']} is not valid.")
        if start < int(net.network_address) or end > int(net.broadcast_address):
            raise PoolOutOfBounds(
                f"The allocation pool {pool['start']}-{pool['end']} spans beyond the subnet cidr {cidr}."
            )
        if gateway is not None and start <= int(ipaddress.ip_address(gateway)) <= end:
            raise GatewayInPool(f"Gateway ip {gateway} conflicts with allocation pool {pool['start']}-{pool['end']}.")
    for (_, end), (start, _) in itertools.pairwise(ranges):
        if start <= end:
            raise PoolsOverlap(f"Found overlapping allocation pools for subnet {cidr}.")


def free(pools: Iterable[Pool], taken: Container[int], version: int) -> Iterator[str]:
    """The addresses of the pools that nobody has, lowest first. `taken` may grow between two of them."""
    for start, end in sorted(_range(pool) for pool in pools):
        for candidate in range(start, end + 1):
            if candidate not in taken:
                made: Address = (ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address)(candidate)
                yield str(made)


def size(pools: Iterable[Pool]) -> int:
    """How many addresses the pools have."""
    return sum(end - start + 1 for start, end in map(_range, pools))


def in_pools(wanted: Address, pools: Iterable[Pool]) -> bool:
    """Whether one of the pools holds the address."""
    ranges = ((ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])) for pool in pools)
    return any(start.version == wanted.version and int(start) <= int(wanted) <= int(end) for start, end in ranges)


def usable(address: str, cidr: str) -> bool:
    """Whether a port may ask for this address on this subnet."""
    ip, net = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    if ip.version != net.version or ip not in net:
        return False
    return net.num_addresses <= 2 or (ip != net.network_address and (net.version == 6 or ip != net.broadcast_address))


def address(text: object) -> Address | None:
    """The address the text is, None if it is not one."""
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) and "%" not in text else None
    except ValueError:
        return None


def network(text: object) -> Network | None:
    """The network the text is, None if it is not one."""
    try:
        return ipaddress.ip_network(text, strict=False) if isinstance(text, str) and "%" not in text else None
    except ValueError:
        return None


def eui64(cidr: str, mac: str) -> str:
    """The address that stateless configuration makes of a prefix and a MAC address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.ip_network(cidr).network_address + int.from_bytes(host, "big"))


def inside(inner: Network, outer: Network) -> bool:
    """Whether one network lies in another."""
    return inner.version == outer.version and outer.supernet_of(inner)  # type: ignore[arg-type]


def collapsed(networks: Sequence[Network]) -> list[Network]:
    """The same addresses in the fewest networks, all of one version."""
    return list(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]


def prefix_is_free(cidr: str, prefixes: Iterable[Network], taken: Iterable[Network]) -> bool:
    """Whether the network lies in one of the prefixes and meets nothing taken."""
    net = ipaddress.ip_network(cidr)
    return any(inside(net, prefix) for prefix in prefixes) and not any(net.overlaps(one) for one in taken)


def next_prefix(prefixes: Iterable[Network], taken: Iterable[Network], length: int) -> str | None:
    """The lowest free network of this length in the prefixes, None when there is none.

    It jumps over what is taken, so its time grows with the number of taken networks, not with the size of the pool.
    """
    busy = sorted((int(one.network_address), int(one.broadcast_address)) for one in taken)
    for prefix in sorted(prefixes, key=lambda one: int(one.network_address)):
        if prefix.prefixlen > length:
            continue
        size = 2 ** (prefix.max_prefixlen - length)
        start = int(prefix.network_address)
        for first, last in busy:
            if start + size - 1 < first:
                break
            if last >= start:
                start = -(-(last + 1) // size) * size  # the next multiple of its size
        if start + size - 1 <= int(prefix.broadcast_address):
            return f"{type(prefix.network_address)(start)}/{length}"
    return None


def with_prefix(address: str, cidr: str) -> str:
    """`10.0.0.5` on `10.0.0.0/24` is `10.0.0.5/24`."""
    return f"{address}/{ipaddress.ip_network(cidr).prefixlen}"


def _range(pool: Pool) -> tuple[int, int]:
    return int(ipaddress.ip_address(pool["start"])), int(ipaddress.ip_address(pool["end"]))


def _pool(net: Network, first: int, last: int) -> Pool:
    kind = type(net.network_address)
    return {"start": str(kind(first)), "end": str(kind(last))}
