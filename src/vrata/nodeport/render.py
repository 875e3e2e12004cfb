"""From Service ports to nftables rules, and from changes to nft's language: pure.

Two verdict maps dispatch a packet in one lookup whatever the number of Services: by (address, protocol, port) for cluster
addresses, by (protocol, port) for node ports. A Service port has a chain that picks an endpoint at random. No text of a
user enters a ruleset: chains are named by hashes, the rest are addresses and numbers.
"""

import hashlib
import ipaddress
from collections.abc import Iterable

from vrata.nodeport.model import HAIRPINS, MASQUERADE_MARK, TABLE, Element, PortView, Rules, Target
from vrata.nodeport.plan import Transaction

SKELETON = f"""\
table ip {TABLE} {{
  map services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map nodeports {{ type inet_proto . inet_service : verdict; }}
  map idle-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map idle-nodeports {{ type inet_proto . inet_service : verdict; }}
  set {HAIRPINS} {{ type ipv4_addr . ipv4_addr; }}
  # A reset, unlike an ICMP error, is not held back by the kernel's rate limit (icmp_ratelimit in ip-sysctl).
  chain refuse {{ meta l4proto tcp reject with tcp reset; reject; }}
  chain dispatch {{
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @nodeports
  }}
  chain refuse-idle {{
    ip daddr . meta l4proto . th dport vmap @idle-services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @idle-nodeports
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; jump dispatch; }}
  chain output {{ type nat hook output priority -100; jump dispatch; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    meta mark & {MASQUERADE_MARK:#x} != 0 meta mark set meta mark & {0xFFFFFFFF ^ MASQUERADE_MARK:#x} masquerade
    ip saddr . ip daddr @{HAIRPINS} masquerade
  }}
  chain filter-input {{ type filter hook input priority -110; ct state new jump refuse-idle; }}
  chain filter-forward {{ type filter hook forward priority -110; ct state new jump refuse-idle; }}
  chain filter-output {{ type filter hook output priority -110; ct state new jump refuse-idle; }}
}}
"""


def render_rules(views: Iterable[PortView]) -> Rules:
    """What a Service's ports contribute to the ruleset."""
    chains: dict[str, tuple[str, ...]] = {}
    sets: dict[str, str] = {}
    elements: dict[Element, str] = {}
    for view in views:
        internal = _balance(view, "in", view.internal, chains, sets) if view.internal else None
        for ip in view.cluster_ips:
            key = f"{_ip(ip)} . {view.protocol} . {view.port:d}"
            elements["services" if internal else "idle-services", key] = f"goto {internal or 'refuse'}"
        if view.node_port:
            _render_node_port(view, internal, chains, sets, elements)
        for target in (*view.internal, *view.external):
            address = _ip(target.address)
            elements[HAIRPINS, f"{address} . {address}"] = ""
    return Rules(chains, sets, elements)


def _render_node_port(
    view: PortView,
    internal: str | None,
    chains: dict[str, tuple[str, ...]],
    sets: dict[str, str],
    elements: dict[Element, str],
) -> None:
    key = f"{view.protocol} . {view.node_port:d}"
    external = _balance(view, "out", view.external, chains, sets) if view.external else None
    if external is None and not (view.external_local and internal):
        elements["idle-nodeports", key] = "drop" if view.external_local else "goto refuse"
        return
    mark = f"meta mark set meta mark | {MASQUERADE_MARK:#x}"
    name = f"np-{_digest(view, 'node')}"
    if not view.external_local:
        chains[name] = (mark, f"goto {external}")
    else:
        # The node's own processes may use any endpoint; a stranger only one that sees his true address.
        own = (f"fib saddr type local {mark} goto {internal}",) if internal else ()
        chains[name] = (*own, f"goto {external}" if external else "drop")
    elements["nodeports", key] = f"goto {name}"


def _balance(
    view: PortView,
    side: str,
    targets: tuple[Target, ...],
    chains: dict[str, tuple[str, ...]],
    sets: dict[str, str],
) -> str:
    """The chain that picks an endpoint; with affinity one chain and one set of recent clients per endpoint."""
    name = f"svc-{_digest(view, side)}"
    if not view.affinity_s:
        pairs = ", ".join(f"{index} : {_ip(target.address)} . {target.port:d}" for index, target in enumerate(targets))
        chains[name] = (f"meta l4proto {view.protocol} dnat ip to numgen random mod {len(targets)} map {{ {pairs} }}",)
        return name
    known, verdicts = [], []
    for index, target in enumerate(targets):
        digest = _digest(view, side, target.address, str(target.port))
        sets[f"aff-{digest}"] = f"type ipv4_addr; size 65535; flags dynamic,timeout; timeout {view.affinity_s:d}s;"
        chains[f"ep-{digest}"] = (
            f"update @aff-{digest} {{ ip saddr }}",
            f"meta l4proto {view.protocol} dnat ip to {_ip(target.address)}:{target.port:d}",
        )
        known.append(f"ip saddr @aff-{digest} goto ep-{digest}")
        verdicts.append(f"{index} : goto ep-{digest}")
    chains[name] = (*known, f"numgen random mod {len(targets)} vmap {{ {', '.join(verdicts)} }}")
    return name


def render_transaction(change: Transaction) -> str:
    """nft commands of one change (nft(8)): definitions before uses, uses gone before definitions."""
    lines = [f"add set ip {TABLE} {name} {{ {definition} }}" for name, definition in change.add_sets]
    lines += [f"add chain ip {TABLE} {name}" for name in change.add_chains]
    lines += [f"flush chain ip {TABLE} {name}" for name, _ in change.fill_chains if name not in change.add_chains]
    lines += [f"add rule ip {TABLE} {name} {rule}" for name, rules in change.fill_chains for rule in rules]
    lines += [
        f"delete element ip {TABLE} {where} {{ {_element(key, value)} }}"
        for (where, key), value in change.delete_elements
    ]
    lines += [
        f"add element ip {TABLE} {where} {{ {_element(key, value)} }}" for (where, key), value in change.add_elements
    ]
    lines += [f"flush chain ip {TABLE} {name}" for name in change.delete_chains]
    lines += [f"delete chain ip {TABLE} {name}" for name in change.delete_chains]
    lines += [f"delete set ip {TABLE} {name}" for name in change.delete_sets]
    return "".join(line + "\n" for line in lines)


def _element(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key


def _digest(view: PortView, *more: str) -> str:
    text = "\0".join((view.service, view.name, view.protocol, str(view.port), *more))
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _ip(text: str) -> str:
    return str(ipaddress.IPv4Address(text))
