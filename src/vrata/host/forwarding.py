"""Listeners that the kernel carries, as nftables rules: new flows go to members by weight, conntrack keeps each (nft(8)).

UDP always, TCP where the load balancer's flavor asks for it. No packet comes to user space. A packet for a virtual
address (only where it is held now) is given to a member by DNAT and leaves with the balancer's virtual address as its
source, so that the answer comes back this way, also after a failover: like behind HAProxy, a member sees the balancer.
conntrackd tells the standby of every flow, so that established connections outlive the host that carried them.

ROUND_ROBIN counts new flows over slots by weight, SOURCE_IP and SOURCE_IP_PORT hash; with these a member's death moves
nobody but its own clients. LEAST_CONNECTIONS is ROUND_ROBIN here: nftables can not compare members. SOURCE_IP
persistence is a map source -> member that forgets.

Weight 0 and members that are down take no new flow; `flows_to_forget` says whose flows end. Does no I/O.
"""

import hashlib
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, InstanceKind, Leg, Listener, ListenerStats, Member, Pool
from vrata.host.rules import Chain, Table, braces, cidrs_of
from vrata.net.flows import Frontends, Target

TABLE = "inet vrata_forward"
UDP, TCP = "UDP", "TCP"
MAX_SLOTS = 2048  # of one listener; larger sums of weights are scaled down
MAX_REMEMBERED = 65_536  # sources a persistence map holds
DEFAULT_TIMEOUT_S = 360  # IPVS' own
_MAX_TIMEOUT_S = 31_536_000
_ALGORITHMS = {"ROUND_ROBIN": None, "LEAST_CONNECTIONS": None, "SOURCE_IP": "{ip} saddr",
               "SOURCE_IP_PORT": "{ip} saddr . th sport"}  # fmt: skip
_FAMILY = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


@dataclass(frozen=True)
class Flow:
    """Flows of one listener's port to one member, on every virtual address of one family."""

    transport: str  # udp, tcp
    version: int
    virtual_port: int
    address: str
    port: int


def kernel_listeners(desired: DesiredInstance) -> list[Listener]:
    """Listeners that HAProxy never sees."""
    if desired.kind is not InstanceKind.BALANCER:
        return []
    return [one for one in desired.listeners if one.protocol == UDP or (one.protocol == TCP and one.kernel)]


def kernel_pools(desired: DesiredInstance) -> list[Pool]:
    """The pools behind them, and every other one of UDP."""
    behind = {listener.default_pool_id for listener in kernel_listeners(desired)}
    return [pool for pool in desired.pools if pool.protocol == UDP or pool.id in behind]


def compile_forwarding(desired: DesiredInstance, down: frozenset[str] = frozenset()) -> Table:
    """The table of an instance while these members are down; an empty one without such listeners."""
    listeners = kernel_listeners(desired)
    if not listeners:
        return Table(TABLE)
    pools = {pool.id: pool for pool in desired.pools}
    objects: dict[str, tuple[str, str]] = {}
    chains: dict[str, Chain] = {}
    for listener in listeners:
        key = short(listener.id)
        for counter in ("in", "out", "new"):
            objects[f"{counter}_{key}"] = ("counter", "")
        chains[f"admit_{key}"] = Chain(_admit(listener, key))
        chains[f"reply_{key}"] = Chain((f'counter name "out_{key}" accept',))
        pool = _pool(listener, pools)
        for version in (4, 6):
            if virtual_addresses(desired, version):
                _compile_choice(listener, pool, version, down, objects, chains)
    return Table(TABLE, objects, chains | _base_chains(desired, listeners))


def short(name: str) -> str:
    """A stable name of ten hexadecimal digits: what nft reads is never what a user wrote."""
    return hashlib.blake2s(name.encode(), digest_size=5).hexdigest()


def mark_of(name: str) -> int:
    """The number a member goes by in persistence maps; never 0."""
    return int(short(name)[:8], 16) | 1


def virtual_addresses(desired: DesiredInstance, version: int) -> list[str]:
    """The instance's virtual addresses of one family."""
    return [str(ip) for leg in desired.legs for ip in _virtual(leg, version)]


def _virtual(leg: Leg, version: int) -> list[str]:
    found = (_address("leg.virtual", cidr.partition("/")[0]) for cidr in leg.virtual)
    return [str(ip) for ip in found if ip.version == version]


def _pool(listener: Listener, pools: Mapping[str, Pool]) -> Pool | None:
    if listener.default_pool_id is None:
        return None
    if listener.default_pool_id not in pools:
        raise InvalidInput("default_pool_id", listener.default_pool_id, "use a pool of this load balancer")
    pool = pools[listener.default_pool_id]
    if pool.protocol != listener.protocol:
        remedy = f"use a {listener.protocol} pool behind a {listener.protocol} listener"
        raise InvalidInput("pool.protocol", pool.protocol, remedy)
    if pool.lb_algorithm not in _ALGORITHMS:
        raise InvalidInput("lb_algorithm", pool.lb_algorithm, f"use one of {', '.join(_ALGORITHMS)}")
    if pool.persistence_type not in (None, "SOURCE_IP"):
        raise InvalidInput("session_persistence.type", pool.persistence_type, "use SOURCE_IP where the kernel forwards")
    return pool


def _admit(listener: Listener, key: str) -> tuple[str, ...]:
    """Every packet of clients: counted; strangers and flows above the limit are dropped."""
    rules = []
    if listener.allowed_cidrs:
        for version, (ip, _) in _FAMILY.items():
            allowed = cidrs_of("allowed_cidrs", listener.allowed_cidrs, version)
            who = f"{ip} saddr != {braces(allowed)}" if allowed else f"meta nfproto ipv{version}"
            rules.append(f"{who} drop")
    if listener.connection_limit != -1:
        if not 0 <= listener.connection_limit <= 2**31:
            raise InvalidInput("connection_limit", listener.connection_limit, "use -1 or a number of flows")
        limit = listener.connection_limit
        rules.append(f"ct state new {f'ct count over {limit} ' if limit else ''}drop")
    return (*rules, f'counter name "in_{key}"')


def _compile_choice(
    listener: Listener,
    pool: Pool | None,
    version: int,
    down: frozenset[str],
    objects: dict[str, tuple[str, str]],
    chains: dict[str, Chain],
) -> None:
    """The chains that choose a member for a new flow; without a live member the kernel says «port unreachable»."""
    key, ip = short(listener.id), _FAMILY[version][0]
    rules = [f'counter name "new_{key}"']
    members = reachable(pool, version)
    if pool is not None and members:
        live = [m for m in members if m.id not in down and m.weight > 0]
        target = {m.id: f"to{version}_{key}_{short(m.id)}" for m in members}
        keep = _persistence(pool, version, key)
        source = ""
        if keep:
            name, spec, source = keep
            objects[name] = ("map", spec)
            known = ", ".join(f"{mark_of(m.id)} : goto {target[m.id]}" for m in live)
            if known:
                rules += [f"meta mark set {source} map @{name}", f"meta mark vmap {{ {known} }}"]
                # An element's data never changes: the one of a member that is gone makes room for another.
                rules.append(f"delete @{name} {{ {source} : 0 }}")
        chosen = slots(pool, members, frozenset(m.id for m in live))
        if chosen:
            way = _ALGORITHMS[pool.lb_algorithm]
            number = "numgen inc" if way is None else f"jhash {way.format(ip=ip)}"
            verdicts = ", ".join(f"{at} : goto {target[member_id]}" for at, member_id in enumerate(chosen))
            rules.append(f"{number} mod {len(chosen)}{_seed(way)} vmap {{ {verdicts} }}")
        for member in members:
            where = f"[{member.address}]" if version == 6 else member.address
            remember = (f"update @{keep[0]} {{ {source} : {mark_of(member.id)} }}",) if keep else ()
            port = _port("member.protocol_port", member.protocol_port)
            chains[target[member.id]] = Chain((*remember, f"meta l4proto {_l4(listener)} dnat {ip} to {where}:{port}"))
    chains[f"pick{version}_{key}"] = Chain(tuple(rules))


def _seed(way: str | None) -> str:
    """A fixed seed: both instances of a pair must choose alike."""
    return " seed 0x76726174" if way else ""


def _persistence(pool: Pool, version: int, key: str) -> tuple[str, str, str] | None:
    """Name, specification and key expression of the map; its name says what it holds, so another one is a new map."""
    if pool.persistence_type is None:
        return None
    timeout = pool.persistence_timeout or DEFAULT_TIMEOUT_S
    if not 1 <= timeout <= _MAX_TIMEOUT_S:
        raise InvalidInput("persistence_timeout", timeout, f"use a number of seconds from 1 to {_MAX_TIMEOUT_S}")
    prefix = granularity(pool.persistence_granularity, version)
    ip, kind = _FAMILY[version]
    full = 32 if version == 4 else 128
    mask = ipaddress.ip_network(f"{'0.0.0.0' if version == 4 else '::'}/{prefix}").netmask
    source = f"{ip} saddr" if prefix == full else f"{ip} saddr & {mask}"
    name = f"keep{version}_{key}_{prefix}_{timeout}"
    return name, f"type {kind} : mark; size {MAX_REMEMBERED}; flags dynamic,timeout; timeout {timeout}s;", source


def granularity(value: str | None, version: int) -> int:
    """Prefix length of a netmask (IPv4) or of a prefix length as text (IPv6); the other family is not grouped."""
    full = 32 if version == 4 else 128
    if value is None:
        return full
    if re.fullmatch(r"[0-9]{1,3}", value):
        return int(value) if version == 6 and 1 <= int(value) <= 128 else full
    try:
        prefix = ipaddress.IPv4Network(f"0.0.0.0/{value}").prefixlen
    except ValueError:
        raise InvalidInput("persistence_granularity", value, "use a netmask or a prefix length") from None
    return prefix if version == 4 and prefix else full


def reachable(pool: Pool | None, version: int) -> list[Member]:
    """The pool's members of one family: addresses are not translated between families."""
    members = pool.members if pool is not None else ()
    out = [m for m in members if _address("member.address", m.address).version == version]
    for member in out:
        if not 0 <= member.weight <= 256:
            raise InvalidInput("member.weight", member.weight, "use a number from 0 to 256")
    return out


def slots(pool: Pool, members: list[Member], live: frozenset[str]) -> list[str]:
    """Member ids in the order new flows meet them, each as often as its weight says.

    Hashed, a dead member's slots go to the living in turn and all others stay. Backups serve when nobody else lives.
    """
    first = [m for m in members if not m.backup]
    if not any(m.id in live for m in first):
        first = [m for m in members if m.backup]
    if not any(m.id in live for m in first):
        return []
    if _ALGORITHMS[pool.lb_algorithm] is None:
        return spread({m.id: m.weight for m in first if m.id in live})
    everybody = spread({m.id: m.weight for m in first if m.weight > 0})
    heirs = [member_id for member_id in everybody if member_id in live]
    out, turn = [], 0
    for member_id in everybody:
        if member_id in live:
            out.append(member_id)
        else:
            out.append(heirs[turn % len(heirs)])
            turn += 1
    return out


def spread(weights: Mapping[str, int]) -> list[str]:
    """Smooth weighted round robin over one period: the heavier come oftener, never in one row."""
    divisor = math.gcd(*weights.values())
    shares = {key: weight // divisor for key, weight in weights.items()}
    total = sum(shares.values())
    if total > MAX_SLOTS:
        shares = {key: max(1, share * MAX_SLOTS // total) for key, share in shares.items()}
    # A member with n shares stands at (2k+1)/2n of the period; sorted, that is the smoothest order.
    places = [((2 * k + 1) / (2 * n), at, key) for at, (key, n) in enumerate(shares.items()) for k in range(n)]
    return [key for _, _, key in sorted(places)]


def _base_chains(desired: DesiredInstance, listeners: list[Listener]) -> dict[str, Chain]:
    ports: dict[str, list[tuple[int, str]]] = {}
    for listener in listeners:
        ports.setdefault(_l4(listener), []).append((_port("protocol_port", listener.protocol_port), short(listener.id)))
    arrive, choose = [], []
    for version, (ip, _) in _FAMILY.items():
        addresses = virtual_addresses(desired, version)
        for l4, known in ports.items() if addresses else ():
            mine = f"{ip} daddr {braces(addresses)} {l4} dport vmap"
            admit = ", ".join(f"{port} : goto admit_{key}" for port, key in known)
            pick = ", ".join(f"{port} : goto pick{version}_{key}" for port, key in known)
            arrive.append(f"{mine} {{ {admit} }}")
            # Only where the address is held now (packets for it are taken in always): a late packet to a former active one
            # gets no second flow.
            choose.append(f"fib daddr . iif type local {mine} {{ {pick} }}")
    back = {l4: ", ".join(f"{port} : goto reply_{key}" for port, key in known) for l4, known in ports.items()}
    forward = [
        *(f"meta l4proto {l4} ct direction reply ct original proto-dst vmap {{ {to} }}" for l4, to in back.items()),
        "ct state established,related accept",
        "ct status dnat accept",
    ]
    return {
        "arrive": Chain(tuple(arrive), "type filter hook prerouting priority mangle; policy accept;"),
        "choose": Chain(tuple(choose), "type nat hook prerouting priority dstnat; policy accept;"),
        # The namespace forwards packets now, and these only.
        "forward": Chain(tuple(forward), "type filter hook forward priority filter; policy drop;"),
        "leave": Chain(tuple(_leave(desired)), "type nat hook postrouting priority srcnat; policy accept;"),
    }


def _leave(desired: DesiredInstance) -> Iterable[str]:
    """Towards members the source is a virtual address: it moves with the flows when the pair changes over."""
    for leg in desired.legs:
        for version, (ip, _) in _FAMILY.items():
            virtual = _virtual(leg, version)
            where = f'oifname "{leg.name}" meta nfproto ipv{version} meta l4proto {{ tcp, udp }} ct status dnat'
            if virtual:
                yield f"{where} snat {ip} to {virtual[0]}"
            elif any((":" in cidr) == (version == 6) for cidr in leg.fixed):
                yield f"{where} masquerade"


def flows_to_forget(before: DesiredInstance | None, desired: DesiredInstance, down: frozenset[str]) -> tuple[Flow, ...]:
    """Flows that must find another member: those of members that are down, and of members that are no longer there."""
    if before is None:
        before = desired
    kept = {flow for flow, member_id in _flows(desired) if member_id not in down}
    lost = [flow for flow, _ in (*_flows(before), *_flows(desired)) if flow not in kept]
    return tuple(dict.fromkeys(lost))


def _flows(desired: DesiredInstance) -> Iterable[tuple[Flow, str]]:
    pools = {pool.id: pool for pool in desired.pools}
    for listener in kernel_listeners(desired):
        for version in (4, 6):
            for member in reachable(_pool(listener, pools), version):
                yield (
                    Flow(_l4(listener), version, listener.protocol_port, member.address, member.protocol_port),
                    member.id,
                )


def udp_frontends(desired: DesiredInstance, down: frozenset[str]) -> Frontends:
    """Where clients of UDP ask, and which members may answer: a flow that knows another, or nobody, is stale."""
    pools, found = {pool.id: pool for pool in desired.pools}, {}
    for listener in kernel_listeners(desired):
        if listener.protocol == UDP:
            for version in (4, 6):
                alive = [one for one in reachable(_pool(listener, pools), version) if one.id not in down]
                targets = frozenset(Target(one.address, one.protocol_port) for one in alive)
                for address in virtual_addresses(desired, version):
                    found[Target(address, listener.protocol_port)] = targets
    return Frontends(found)


def member_statuses(desired: DesiredInstance, down: frozenset[str]) -> dict[str, str]:
    """Operating status of every member of a pool that the kernel balances over."""
    out = {}
    for pool in kernel_pools(desired):
        for member in pool.members:
            if member.id in down:
                out[member.id] = "ERROR"
            elif member.weight == 0:
                out[member.id] = "DRAINING"
            else:
                out[member.id] = "ONLINE" if pool.healthmonitor else "NO_MONITOR"
    return out


def listener_stats(
    desired: DesiredInstance, counters: Mapping[str, tuple[int, int]], living: Mapping[tuple[str, int], int]
) -> dict[str, ListenerStats]:
    """Statistics of every such listener: from its counters (packets, bytes) and the living flows of its port."""
    none = (0, 0)
    return {
        listener.id: ListenerStats(
            active_connections=living.get((_l4(listener), listener.protocol_port), 0),
            bytes_in=counters.get(f"in_{short(listener.id)}", none)[1],
            bytes_out=counters.get(f"out_{short(listener.id)}", none)[1],
            request_errors=0,
            total_connections=counters.get(f"new_{short(listener.id)}", none)[0],
        )
        for listener in kernel_listeners(desired)
    }


_FLOW = re.compile(r"(tcp|udp) +\d+ (?:\d+ )?(?:([A-Z_0-9]+) )?src=\S+ dst=(\S+) sport=\d+ dport=(\d+) ")


def count_flows(desired: DesiredInstance, listing: str) -> Counter[tuple[str, int]]:
    """Living flows of each protocol and port of the virtual addresses, from what `conntrack -L` prints."""
    own = {address for version in _FAMILY for address in virtual_addresses(desired, version)}
    return Counter(
        (l4, int(port))
        for l4, state, to, port in _FLOW.findall(listing)
        if to in own and (l4 == "udp" or state == "ESTABLISHED")
    )


def _l4(listener: Listener) -> str:
    return "udp" if listener.protocol == UDP else "tcp"


def _address(field: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        raise InvalidInput(field, value, "use an address without a zone")
    return found


def _port(field: str, value: int) -> int:
    if not 1 <= value <= 65_535:
        raise InvalidInput(field, value, "use a number from 1 to 65535")
    return value
