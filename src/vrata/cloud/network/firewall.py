"""Security groups as a host enforces them: rules with every remote group resolved to addresses (Neutron v2.0).

Also who must hear of a change: load balancers whose VIP port, and routers whose floating IPs' ports, stand behind a
group that changed, or behind one that lets in the members of a group that changed. Egress is not filtered.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from vrata.base import wire
from vrata.cloud.balancing import carry
from vrata.cloud.balancing.tables import load_balancers
from vrata.cloud.network import tables as t
from vrata.cloud.store import Row, Tx

# Neutron's names, and what stands for them in a packet.
_PROTOCOLS = {"icmpv6": "ipv6-icmp", "any": None, "ipip": "4", "igmp": "2", "egp": "8", "dccp": "33", "ipv6-encap": "41",
              "ipv6-route": "43", "ipv6-frag": "44", "rsvp": "46", "gre": "47", "esp": "50", "ah": "51",
              "ipv6-nonxt": "59", "ipv6-opts": "60", "ospf": "89", "vrrp": "112", "pgm": "113", "sctp": "132",
              "udplite": "136"}  # fmt: skip
_NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp"}


def firewall_of(tx: Tx, group_ids: Iterable[str]) -> wire.Firewall:
    """What these groups together let in; a rule whose remote group has no address of its family lets in nobody."""
    wanted = sorted(set(group_ids))
    rules = t.security_group_rules
    rows = tx.all(
        sa.select(rules)
        .where(rules.c.security_group_id.in_(wanted), rules.c.direction == "ingress")
        .order_by(rules.c.created_at, rules.c.id)
    )
    members = _addresses(tx, {row["remote_group_id"] for row in rows} - {None})
    found = (_rule(row, members) for row in rows)
    return wire.Firewall(rules=tuple(dict.fromkeys(rule for rule in found if rule is not None)))


def firewall_of_port(tx: Tx, port_id: str) -> wire.Firewall | None:
    """What may reach a port; None where its owner switched port security off."""
    port = tx.get(t.ports, port_id)
    if port is None or not port["port_security_enabled"]:
        return None
    return firewall_of(tx, port["security_groups"] or ())


def _rule(row: Row, members: dict[str, set[str]]) -> wire.FirewallRule | None:
    remotes: tuple[str, ...] = ()
    if row["remote_group_id"] is not None:
        six = row["ethertype"] == "IPv6"
        remotes = tuple(
            sorted(f"{a}/128" if six else f"{a}/32" for a in members[row["remote_group_id"]] if (":" in a) == six)
        )
        if not remotes:
            return None
    elif row["remote_ip_prefix"] is not None:
        remotes = (row["remote_ip_prefix"],)
    protocol = row["protocol"]
    if protocol is not None:
        protocol = _PROTOCOLS.get(protocol, _NUMBERS.get(protocol, protocol))
    if protocol == "icmp" and row["ethertype"] == "IPv6":
        protocol = "ipv6-icmp"  # Neutron takes «icmp» for both families
    return wire.FirewallRule(
        ethertype=row["ethertype"], protocol=protocol, port_range_min=row["port_range_min"],
        port_range_max=row["port_range_max"], remotes=remotes,
    )  # fmt: skip


def _addresses(tx: Tx, group_ids: set[str]) -> dict[str, set[str]]:
    """The addresses of every port of these groups, allowed pairs included as Neutron does."""
    out: dict[str, set[str]] = {group_id: set() for group_id in group_ids}
    if not group_ids:
        return out
    found = {row["id"]: row for row in ports_of(tx, group_ids)}
    places = tx.all(sa.select(t.addresses).where(t.addresses.c.port_id.in_(found)))
    for port in found.values():
        own = {place["ip_address"] for place in places if place["port_id"] == port["id"]}
        pairs = {str(pair["ip_address"]) for pair in port["allowed_address_pairs"] or ()}
        for group_id in group_ids & set(port["security_groups"] or ()):
            out[group_id] |= own | {pair for pair in pairs if "/" not in pair}
    return out


def ports_of(tx: Tx, group_ids: Iterable[str]) -> list[Row]:
    """Ports that are in any of these groups; the ids are in a JSON list, and no UUID is a part of another."""
    text = sa.cast(t.ports.c.security_groups, sa.Text)
    conditions = [text.like(f"%{group_id}%") for group_id in group_ids]
    return tx.all(sa.select(t.ports).where(sa.or_(*conditions))) if conditions else []


def balancers_of(tx: Tx, group_ids: Iterable[str]) -> list[str]:
    """Load balancers that asked for any of these groups themselves (Octavia's vip_sg_ids)."""
    text = sa.cast(load_balancers.c.vip_sg_ids, sa.Text)
    conditions = [text.like(f"%{group_id}%") for group_id in group_ids]
    query = sa.select(load_balancers.c.id).where(sa.or_(*conditions)).order_by(load_balancers.c.id)
    return tx.column(query) if conditions else []


def groups_changed(tx: Tx, group_ids: Iterable[str]) -> None:
    """The rules of these groups changed: whoever stands behind them is carried out anew, once in a transaction."""
    wanted = [group_id for group_id in group_ids if ("group changed", group_id) not in tx.memo]
    tx.memo |= {("group changed", group_id): True for group_id in wanted}
    if wanted:
        _raise(tx, set(balancers_of(tx, wanted)), ports_of(tx, wanted))


def members_changed(tx: Tx, group_ids: Iterable[str]) -> None:
    """Ports came to or left these groups: groups that let their members in let in somebody else now."""
    wanted = {group_id for group_id in group_ids if ("members changed", group_id) not in tx.memo}
    if not wanted:
        return
    tx.memo |= {("members changed", group_id): True for group_id in wanted}
    rules = t.security_group_rules
    query = sa.select(rules.c.security_group_id).where(
        rules.c.remote_group_id.in_(wanted), rules.c.direction == "ingress"
    )
    groups_changed(tx, sorted(set(tx.column(query))))


def port_changed(tx: Tx, port_id: str) -> None:
    """The port itself changed its groups or its port security."""
    _raise(tx, set(), [row for row in [tx.get(t.ports, port_id)] if row is not None])


def _raise(tx: Tx, balancers: set[str], ports: list[Row]) -> None:
    """New generations of these load balancers and of whatever carries addresses of these ports, in the order of locks."""
    b, f = load_balancers.c, t.floating_ips.c
    vips = {
        row["vip_port_id"]: row["id"]
        for row in tx.all(sa.select(b.id, b.vip_port_id).where(b.vip_port_id.in_([port["id"] for port in ports])))
    }
    rest = [port["id"] for port in ports if port["id"] not in vips]
    routers = set(tx.column(sa.select(f.router_id).where(f.port_id.in_(rest), f.router_id.is_not(None))))
    for table, ids in ((load_balancers, balancers | {*vips.values()}), (t.routers, routers)):
        tx.hold(table, ids)
        for owner_id in sorted(ids):
            carry.raise_generation(tx, table, owner_id)
