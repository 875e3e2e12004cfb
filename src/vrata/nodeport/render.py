"""From Service ports to nftables rules, and from changes to nft's language: pure.

A packet finds its endpoint by three lookups, whatever the number of Services. Verdict maps say by (address, protocol, port),
or by (protocol, port) for node ports, among how many endpoints to choose; a number is drawn; the map with that number has the
endpoint. The chains between them are shared by all Services with as many endpoints, so a Service is elements of maps and
nothing else: 10,000 load in half a second. Only client affinity and source ranges take chains of their own.

No text of a user enters a ruleset: chains are named by hashes, the rest are addresses and numbers.
"""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from vrata.net.flows import Target
from vrata.nodeport.model import (
    FAMILIES,
    HAIRPINS,
    MASQUERADE_MARK,
    TABLE,
    ChainName,
    Element,
    Family,
    PortView,
    Rules,
    Surroundings,
)
from vrata.nodeport.plan import Transaction

LAYOUT = "layout-2"  # an empty set: which program's definitions a table has
_ADDRESS = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
_LOOPBACK = {"ip": "127.0.0.0/8", "ip6": "::1"}
_MARK = f"meta mark set meta mark | {MASQUERADE_MARK:#x}"
_PROTOCOLS = "meta l4proto { tcp, udp, sctp }"
_AT_ONCE = 500  # elements a command
# Maps of endpoints: this node's, or any, and those of the whole cluster where the policy Local makes a difference.
NEAR, FAR, NODE_NEAR, NODE_FAR = "near", "far", "node-near", "node-far"


def skeleton_sets(family: Family) -> dict[str, str]:
    """Maps and sets of a table: name -> the command's kind and definition."""
    address = _ADDRESS[family]
    front, port = f"{address} . inet_proto . inet_service", "inet_proto . inet_service"
    return {
        LAYOUT: f"set {LAYOUT} {{ type inet_proto; }}",
        "services": f"map services {{ type {front} : verdict; }}",
        "nodeports": f"map nodeports {{ type {port} : verdict; }}",
        "idle-services": f"map idle-services {{ type {front} : verdict; }}",
        "idle-nodeports": f"map idle-nodeports {{ type {port} : verdict; }}",
        HAIRPINS: f"set {HAIRPINS} {{ type {address} . {address}; }}",
        "cluster-ips": f"set cluster-ips {{ type {address}; }}",
        "local-pods": f"set local-pods {{ type {address}; flags interval; auto-merge; }}",
    }


def skeleton_chains(family: Family, around: Surroundings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Chains of a table: name -> hook (empty for none) and rules."""
    front = f"{family} daddr . meta l4proto . th dport"
    here = f"fib daddr type local {family} daddr != {_LOOPBACK[family]}"
    if only := _of(family, around.node_ports_on):
        here += f" {family} daddr {{ {', '.join(only)} }}"
    cluster = _of(family, around.cluster)
    strangers = (
        (f"{family} saddr != {{ {', '.join(cluster)} }} {family} daddr @cluster-ips {_MARK}",) if cluster else ()
    )
    dispatch = (*strangers, f"{front} vmap @services", f"{here} meta l4proto . th dport vmap @nodeports")
    idle = (f"{front} vmap @idle-services", f"{here} meta l4proto . th dport vmap @idle-nodeports")
    unmark = f"meta mark set meta mark & {0xFFFFFFFF ^ MASQUERADE_MARK:#x}"
    return {
        # A reset, unlike an ICMP error, is not held back by the kernel's rate limit (icmp_ratelimit in ip-sysctl).
        "refuse": ("", ("meta l4proto tcp reject with tcp reset", "reject")),
        # What the node itself sends comes here before it is translated.
        "refuse-strangers": ("", ("fib saddr type local return", "goto refuse")),
        "dispatch": ("", dispatch),
        "refuse-idle": ("", idle),
        # Whoever comes here with a cluster address asked for a port that no Service has.
        "refuse-unknown": ("", (f"{family} daddr @cluster-ips goto refuse",)),
        "prerouting": ("type nat hook prerouting priority dstnat;", ("jump dispatch",)),
        "output": ("type nat hook output priority -100;", ("jump dispatch",)),
        "postrouting": (
            "type nat hook postrouting priority srcnat;",
            (
                f"meta mark & {MASQUERADE_MARK:#x} != 0 {unmark} masquerade",
                f"{family} saddr . {family} daddr @{HAIRPINS} masquerade",
            ),
        ),
        "filter-input": ("type filter hook input priority -110;", ("ct state new jump refuse-idle",)),
        "filter-forward": (
            "type filter hook forward priority -110;",
            ("ct state new jump refuse-idle", "ct state new jump refuse-unknown"),
        ),
        "filter-output": ("type filter hook output priority -110;", ("ct state new jump refuse-idle",)),
        "filter-translated": ("type filter hook output priority -90;", ("ct state new jump refuse-unknown",)),
    }


def render_skeleton(around: Surroundings, *, anew: bool) -> str:
    """The tables without any Service, whatever was in them. `anew`: they go first; else what clients are bound to stays."""
    lines: list[str] = []
    for family in FAMILIES:
        table = f"{family} {TABLE}"
        lines += [f"add table {table}", *([f"delete table {table}", f"add table {table}"] if anew else [])]
        for definition in skeleton_sets(family).values():
            kind, _, rest = definition.partition(" ")
            lines.append(f"add {kind} {table} {rest}")
        chains = skeleton_chains(family, around)
        lines += [f"add chain {table} {name}{f' {{ {hook} }}' if hook else ''}" for name, (hook, _) in chains.items()]
        for name, (_, rules) in chains.items():
            lines.append(f"flush chain {table} {name}")
            lines += [f"add rule {table} {name} {rule}" for rule in rules]
        for name, definition in skeleton_sets(family).items():
            lines.append(f"flush {definition.partition(' ')[0]} {table} {name}")
        if pods := _of(family, around.local_pods):
            lines.append(f"add element {table} local-pods {{ {', '.join(pods)} }}")
    return "".join(line + "\n" for line in lines)


def _of(family: Family, cidrs: Iterable[str]) -> list[str]:
    version = 4 if family == "ip" else 6
    found = (ipaddress.ip_network(one, strict=False) for one in cidrs)
    return [str(one) for one in found if one.version == version]


def render_rules(views: Iterable[PortView]) -> Rules:
    """What a Service's ports contribute to the ruleset."""
    out = _Out()
    for view in views:
        out.port(view)
    return Rules(out.chains, out.shared, out.maps, out.sets, out.elements)


class _Out:
    """Collects the contribution of one Service."""

    def __init__(self) -> None:
        self.chains: dict[ChainName, tuple[str, ...]] = {}
        self.shared: dict[ChainName, tuple[str, ...]] = {}
        self.maps: dict[ChainName, str] = {}
        self.sets: dict[ChainName, str] = {}
        self.elements: dict[Element, str] = {}

    def port(self, view: PortView) -> None:
        family, number = view.family, f"{view.protocol} . {view.port:d}"
        for ip in view.cluster_ips:
            key = f"{_ip(ip)} . {number}"
            self.elements[family, "cluster-ips", _ip(ip)] = ""
            if view.internal:
                self.elements[family, "services", key] = f"goto {self._pick(view, NEAR, key, view.internal)}"
            else:
                self.elements[family, "idle-services", key] = "drop" if view.everywhere else "goto refuse"
        for ip in (*view.external_ips, *view.balancer_ips):
            guard = view.source_ranges if ip in view.balancer_ips else ()
            self._outside(view, f"{_ip(ip)} . {number}", "services", (NEAR, FAR), guard)
        if view.node_port:
            self._outside(view, f"{view.protocol} . {view.node_port:d}", "nodeports", (NODE_NEAR, NODE_FAR), ())
        for target in {*view.internal, *view.external, *view.everywhere}:
            self.elements[family, HAIRPINS, f"{_ip(target.address)} . {_ip(target.address)}"] = ""

    def _outside(self, view: PortView, key: str, verdicts: str, maps: tuple[str, str], ranges: tuple[str, ...]) -> None:
        """An address or port where strangers ask. `maps`: of endpoints, for strangers and for the node itself."""
        family = view.family
        everywhere = view.everywhere or tuple(dict.fromkeys((*view.external, *view.internal)))
        if not view.external and not (view.external_local and everywhere):
            self.elements[family, f"idle-{verdicts}", key] = "goto refuse"
            return
        near = self._pick(view, maps[0], key, view.external) if view.external else ""
        if not near:  # a load balancer that is refused asks another node at once
            self.elements[family, f"idle-{verdicts}", key] = "goto refuse-strangers"
        if view.external_local:
            chain = self._local(view, near, self._pick(view, maps[1], key, everywhere))
        else:  # any endpoint, which sees the node's address
            chain = f"mask-{near}"
            (self.chains if view.affinity_s else self.shared)[family, chain] = (_MARK, f"goto {near}")
        if ranges:
            chain = self._guard(view, chain, ranges)
        self.elements[family, verdicts, key] = f"goto {chain}"

    def _local(self, view: PortView, near: str, far: str) -> str:
        """This node's endpoints, which see the client's address; all of them for the node itself and its pods."""
        name = f"local-{near or 'none'}-{far}"
        (self.chains if view.affinity_s else self.shared)[view.family, name] = (
            f"fib saddr type local {_MARK} goto {far}",
            f"{view.family} saddr @local-pods goto {far}",
            *([f"goto {near}"] if near else []),
        )
        return name

    def _guard(self, view: PortView, chain: str, ranges: tuple[str, ...]) -> str:
        """Only clients of these ranges (spec.loadBalancerSourceRanges).

        A node that has the load balancer's address asks it from that very address: kube-proxy lets this pass, too.
        """
        name, listed = f"from-{_digest(view, chain, *ranges)}", ", ".join(_of(view.family, ranges))
        allowed = (f"{view.family} saddr {{ {listed} }} goto {chain}",) if listed else ()
        own = f"{view.family} saddr {{ {', '.join(map(_ip, view.balancer_ips))} }} goto {chain}"
        self.chains[view.family, name] = (*allowed, own, "drop")
        return name

    def _pick(self, view: PortView, where: str, key: str, targets: tuple[Target, ...]) -> str:
        """The chain that picks one of the endpoints at random, from the maps that begin with `where`."""
        if view.affinity_s:
            return self._pick_for_client(view, where, targets)
        family, of_node = view.family, where in (NODE_NEAR, NODE_FAR)
        looked_up = "meta l4proto . th dport" if of_node else f"{family} daddr . meta l4proto . th dport"
        types = "inet_proto . inet_service" if of_node else f"{_ADDRESS[family]} . inet_proto . inet_service"
        for index, target in enumerate(targets):
            name = f"{where}-{index}"
            self.maps[family, name] = f"type {types} : {_ADDRESS[family]} . inet_service;"
            self.shared[family, f"to-{name}"] = (f"{_PROTOCOLS} dnat {family} to {looked_up} map @{name}",)
            self.elements[family, name, key] = f"{_ip(target.address)} . {target.port:d}"
        if len(targets) == 1:
            return f"to-{where}-0"
        chain, verdicts = f"{where}-of-{len(targets)}", (f"{n} : goto to-{where}-{n}" for n in range(len(targets)))
        self.shared[family, chain] = (f"numgen random mod {len(targets)} vmap {{ {', '.join(verdicts)} }}",)
        return chain

    def _pick_for_client(self, view: PortView, where: str, targets: tuple[Target, ...]) -> str:
        """With affinity one chain and one set of recent clients an endpoint."""
        family, name = view.family, f"svc-{_digest(view, where)}"
        known, verdicts = [], []
        for index, target in enumerate(targets):
            digest = _digest(view, target.address, str(target.port))
            self.sets[family, f"aff-{digest}"] = f"type {_ADDRESS[family]}; size 65535; flags dynamic,timeout;"
            address = _ip(target.address) if family == "ip" else f"[{_ip(target.address)}]"
            self.chains[family, f"ep-{digest}"] = (
                f"update @aff-{digest} {{ {family} saddr timeout {view.affinity_s:d}s }}",
                f"meta l4proto {view.protocol} dnat {family} to {address}:{target.port:d}",
            )
            known.append(f"{family} saddr @aff-{digest} goto ep-{digest}")
            verdicts.append(f"{index} : goto ep-{digest}")
        self.chains[family, name] = (*known, f"numgen random mod {len(targets)} vmap {{ {', '.join(verdicts)} }}")
        return name


def render_transaction(change: Transaction) -> str:
    """nft commands of one change (nft(8)): definitions before uses. What it leaves unused goes afterwards."""
    lines = [f"add set {_at(where)} {{ {definition} }}" for where, definition in change.add_sets]
    lines += [f"add map {_at(where)} {{ {definition} }}" for where, definition in change.add_maps]
    lines += [f"add chain {_at(where)}" for where, _ in change.fill_chains]
    lines += [f"flush chain {_at(where)}" for where, _ in change.fill_chains]
    lines += [f"add rule {_at(where)} {rule}" for where, rules in change.fill_chains for rule in rules]
    lines += _elements("delete", change.delete_elements)
    lines += _elements("add", change.add_elements)
    return "".join(line + "\n" for line in lines)


def render_leftovers(change: Transaction) -> str:
    """What nothing points to any more, in a transaction of its own.

    Before Linux 6.2 a chain must not go in the transaction that takes away the map elements that point to it.
    """
    lines = [f"flush chain {_at(where)}" for where in change.delete_chains]
    lines += [f"delete chain {_at(where)}" for where in change.delete_chains]
    lines += [f"delete set {_at(where)}" for where in change.delete_sets]
    return "".join(line + "\n" for line in lines)


def _at(where: ChainName) -> str:
    family, name = where
    return f"{family} {TABLE} {name}"


def _elements(command: str, elements: Iterable[tuple[Element, str]]) -> Iterator[str]:
    grouped: Mapping[ChainName, list[str]] = defaultdict(list)
    for (family, where, key), value in elements:
        grouped[family, where].append(f"{key} : {value}" if value else key)
    for (family, where), listed in grouped.items():
        for start in range(0, len(listed), _AT_ONCE):
            yield f"{command} element {family} {TABLE} {where} {{ {', '.join(listed[start : start + _AT_ONCE])} }}"


def _digest(view: PortView, *more: str) -> str:
    text = "\0".join((view.service, view.name, view.protocol, str(view.port), *more))
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _ip(text: str) -> str:
    return str(ipaddress.ip_address(text))
