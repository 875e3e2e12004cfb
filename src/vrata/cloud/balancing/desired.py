"""The desired set of a host: rows of the database become `DesiredInstance`s of the wire.

Each instance is built and encoded on its own. One that cannot be built is named in the set with the reason: its host
keeps it as it is and reports the reason, and every other instance goes out. What was built is kept by generation, one
generation an instance, because everything in it changes only with its owner's generation. Children under deletion and
disabled ones are left out: the host never hears of them.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from vrata.base import ids, wire
from vrata.base.wire import DesiredInstance, InstanceKind
from vrata.cloud.balancing import carry, plan
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.flavors import RELOAD_TIMEOUT_S, flavor_of
from vrata.cloud.balancing.tls import TlsBuilder
from vrata.cloud.keymanager.material import Reader
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.network import ports
from vrata.cloud.network import tables as n
from vrata.cloud.network.firewall import firewall_of, firewall_of_port
from vrata.cloud.network.plan import usable, with_prefix
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row, Tx

log = structlog.get_logger(__name__)
# Made at import: msgspec 0.22.0 crashes (SIGSEGV) when two threads meet a type for the first time at once.
_READER = msgspec.json.Decoder(DesiredInstance)


@dataclass(frozen=True, slots=True)
class Built:
    """One instance of one generation, encoded; `error`: why there is none."""

    generation: int
    encoded: msgspec.Raw | None
    error: str | None = None


class Builder:
    """Builds desired sets; remembers the instances of each host whose generation has not changed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._vault = Vault(settings.secret_keys)
        self._built: dict[str, dict[str, Built]] = {}  # by host and instance

    def desired(self, tx: Tx, host: str) -> bytes:
        """The encoded `wire.DesiredSet`; the revision is read first, so it is never newer than the content."""
        about = tx.get(t.hosts, host)
        rows = tx.all(sa.select(t.instances).where(t.instances.c.host == host).order_by(t.instances.c.id))
        owners: dict[str, Row] = {}
        for kind, table in ((InstanceKind.BALANCER, t.load_balancers), (InstanceKind.GATEWAY, n.routers)):
            wanted = [row["owner_id"] for row in rows if row["kind"] == kind]
            if wanted:
                owners |= {row["id"]: row for row in tx.all(sa.select(table).where(table.c.id.in_(wanted)))}
        before, now = self._built.get(host, {}), {}
        for row in rows:
            owner = owners.get(row["owner_id"])
            if owner is None or row["leaving"]:
                continue
            known = before.get(row["id"])
            fresh = known is not None and known.generation == owner["generation"] and known.error is None
            now[row["id"]] = known if known is not None and fresh else self._build(tx, row, owner)
        self._built[host] = now
        left = tx.column(sa.select(t.departures.c.instance_id).where(t.departures.c.host == host))
        return msgspec.json.encode(
            {
                "revision": about["revision"] if about else 0,
                "database": tx.value(sa.select(t.databases.c.id)),
                "leaving": [*(row["id"] for row in rows if row["leaving"]), *left],
                "adopt": about["adopt"] if about else "",
                "instances": [one.encoded for one in now.values() if one.error is None],
                "broken": {instance_id: one.error for instance_id, one in now.items() if one.error is not None},
            }
        )

    def _build(self, tx: Tx, row: Row, owner: Row) -> Built:
        make = self._balancer if row["kind"] == InstanceKind.BALANCER else self._gateway
        try:
            encoded = msgspec.json.encode(make(tx, row, owner))
            _READER.decode(encoded)  # what its host cannot read must not reach it
        except sa.exc.SQLAlchemyError:
            raise  # the database, not the instance
        except Exception as error:
            log.error("instance_not_built", instance=row["id"], owner=owner["id"], exc_info=error)
            why = f"the cloud cannot build generation {owner['generation']} of it ({type(error).__name__}: {error})"
            return Built(owner["generation"], None, why)
        return Built(owner["generation"], msgspec.Raw(encoded))

    def _vrrp(self, tx: Tx, row: Row, advert_interval_ms: int | None = None) -> wire.Vrrp:
        others = [one for one in carry.instances_of(tx, row["owner_id"]) if one["id"] != row["id"]]
        peers = [one for one in others if not one["leaving"]]
        at = [(one, port) for one in others if (port := tx.get(n.ports, one["vrrp_port_id"]))]
        silent = set(tx.column(sa.select(t.hosts.c.name).where(~t.hosts.c.alive)))
        return wire.Vrrp(
            router_id=plan.router_id(row["owner_id"]),
            priority=row["priority"],
            advert_interval_ms=advert_interval_ms or self.settings.advert_interval_ms,
            source=row["vrrp_address"],
            peers=tuple(one["vrrp_address"] for one in peers),
            peer_instances=tuple(one["id"] for one in peers),
            peer_macs=tuple(port["mac_address"] for one, port in at if not one["leaving"]),
            neighbours=tuple(
                wire.Neighbour(address=one["vrrp_address"], mac_address=port["mac_address"]) for one, port in at
            ),
            joins=any(one["observed_generation"] for one in others),
            ghosts=tuple(one["vrrp_address"] for one in others if one["leaving"] and one["host"] in silent),
        )

    def _balancer(self, tx: Tx, row: Row, balancer: Row) -> DesiredInstance:
        subnet = _need(tx, n.subnets, balancer["vip_subnet_id"])
        network = _need(tx, n.networks, balancer["vip_network_id"])
        port = _need(tx, n.ports, row["vrrp_port_id"])
        more = [(vip, _need(tx, n.subnets, vip["subnet_id"])) for vip in balancer["additional_vips"] or ()]
        legs = [
            wire.Leg(
                name="tenant",
                physical_network=network["provider_physical_network"] or "",
                mac_address=port["mac_address"],
                fixed=(with_prefix(row["vrrp_address"], subnet["cidr"]),),
                virtual=(
                    with_prefix(balancer["vip_address"], subnet["cidr"]),
                    *(with_prefix(vip["ip_address"], place["cidr"]) for vip, place in more),
                ),
                gateway=subnet["gateway_ip"],
                firewall=firewall_of(tx, balancer["vip_sg_ids"]) if balancer["vip_sg_ids"] else None,
                routes=(
                    *_routes_through(subnet["host_routes"], subnet),
                    *_other_family(subnet, [place for _, place in more]),
                ),
                mtu=network["mtu"],
            ),
            *_external_leg(tx, row["id"], balancer["vip_port_id"]),
        ]
        flavor = flavor_of(tx, balancer)
        listeners, pools = _tree(tx, balancer, TlsBuilder(Reader(tx, self._vault)))
        if flavor.tcp_data_path == "nftables":
            listeners = in_kernel(listeners, pools)
        return DesiredInstance(
            id=row["id"],
            kind=InstanceKind.BALANCER,
            owner_id=balancer["id"],
            generation=balancer["generation"],
            legs=tuple(legs),
            vrrp=self._vrrp(tx, row, flavor.advert_interval_ms),
            threads=flavor.haproxy_threads or 1,
            max_connections=flavor.max_connections,
            reload_timeout_s=flavor.reload_timeout_s or RELOAD_TIMEOUT_S,
            yields=int((row["yield_at"] or 0) * 1000),
            listeners=listeners,
            pools=pools,
        )

    def _gateway(self, tx: Tx, row: Row, router: Row) -> DesiredInstance:
        inside = carry.interfaces(tx, router["id"])
        own = carry.ports_by_network(tx, row["id"])
        fixed = ports.fixed_ips(tx, [one["id"] for one in own.values()])
        legs = []
        for at, one in enumerate(inside):
            port = own[one["network_id"]]
            address = fixed[port["id"]][0]["ip_address"]
            legs.append(
                wire.Leg(
                    name="tenant" if at == 0 else f"tenant{at}",
                    physical_network=one["network"]["provider_physical_network"] or "",
                    mac_address=port["mac_address"],
                    fixed=(with_prefix(address, one["subnet"]["cidr"]),),
                    virtual=(with_prefix(one["ip_address"], one["subnet"]["cidr"]),),
                    routes=_routes_through(router["routes"], one["subnet"]),
                    mtu=one["network"]["mtu"],
                )
            )
        outside = _need(tx, n.networks, router["external_network_id"])
        place = carry.way_out(tx, router)
        if place is None:
            raise LookupError(f"router {router['id']} has no IPv4 address on network {outside['id']}")
        subnet = _need(tx, n.subnets, place["subnet_id"])
        floating = _translations(tx, router["id"])
        legs.append(
            wire.Leg(
                name="external",
                physical_network=outside["provider_physical_network"] or "",
                mac_address=ids.mac_address(row["id"], "external"),
                virtual=(with_prefix(place["ip_address"], subnet["cidr"]), *(f"{one.floating}/32" for one in floating)),
                gateway=subnet["gateway_ip"],
                mtu=outside["mtu"],
            )
        )
        snat = wire.SourceNat(address=place["ip_address"], source_cidrs=tuple(one["subnet"]["cidr"] for one in inside))
        return DesiredInstance(
            id=row["id"],
            kind=InstanceKind.GATEWAY,
            owner_id=router["id"],
            generation=router["generation"],
            legs=tuple(legs),
            vrrp=self._vrrp(tx, row),
            yields=int((row["yield_at"] or 0) * 1000),
            floating=floating,
            snat=snat if router["enable_snat"] else None,
        )


def _routes_through(routes: list[Row] | None, subnet: Row) -> tuple[tuple[str, str], ...]:
    """Those whose next hop is on the subnet: a router's extra routes, a subnet's host routes."""
    return tuple(
        (route["destination"], route["nexthop"]) for route in routes or () if usable(route["nexthop"], subnet["cidr"])
    )


def _other_family(subnet: Row, places: list[Row]) -> tuple[tuple[str, str], ...]:
    """The default route of the address family that the VIP's own subnet does not have."""
    for place in places:
        if place["ip_version"] != subnet["ip_version"] and place["gateway_ip"]:
            return (("0.0.0.0/0" if place["ip_version"] == 4 else "::/0", place["gateway_ip"]),)
    return ()


def _need(tx: Tx, table: sa.Table, row_id: str) -> Row:
    row = tx.get(table, row_id)
    if row is None:
        raise LookupError(f"{table.name} {row_id} is missing")
    return row


def _external_leg(tx: Tx, instance_id: str, vip_port_id: str) -> list[wire.Leg]:
    """The leg that holds the floating IPs of the VIP; none without one."""
    rows = tx.all(
        sa.select(n.floating_ips).where(n.floating_ips.c.port_id == vip_port_id).order_by(n.floating_ips.c.id)
    )
    if not rows:
        return []
    network = _need(tx, n.networks, rows[0]["floating_network_id"])
    virtual, gateway = [], None
    for row in rows:
        place = ports.fixed_ips(tx, [row["floating_port_id"]])[row["floating_port_id"]][0]
        subnet = _need(tx, n.subnets, place["subnet_id"])
        virtual.append(with_prefix(row["floating_ip_address"], subnet["cidr"]))
        gateway = gateway or subnet["gateway_ip"]
    return [
        wire.Leg(
            name="external",
            physical_network=network["provider_physical_network"] or "",
            mac_address=ids.mac_address(instance_id, "external"),
            virtual=tuple(virtual),
            gateway=gateway,
            mtu=network["mtu"],
        )
    ]


def _translations(tx: Tx, router_id: str) -> tuple[wire.FloatingNat, ...]:
    """The floating IPs that this router's gateway translates: those of ports that are no balancer's VIP."""
    rows = tx.all(
        sa.select(n.floating_ips.c.floating_ip_address, n.floating_ips.c.fixed_ip_address, n.floating_ips.c.port_id)
        .where(
            n.floating_ips.c.router_id == router_id,
            n.floating_ips.c.port_id.is_not(None),
            n.floating_ips.c.port_id.not_in(sa.select(t.load_balancers.c.vip_port_id)),
        )
        .order_by(n.floating_ips.c.floating_ip_address)
    )
    return tuple(
        wire.FloatingNat(
            floating=row["floating_ip_address"],
            fixed=row["fixed_ip_address"],
            firewall=firewall_of_port(tx, row["port_id"]),
        )
        for row in rows
    )


def _serving(tx: Tx, table: sa.Table, column: str, owners: list[str]) -> list[Row]:
    if not owners:
        return []
    return tx.all(
        sa.select(table)
        .where(table.c[column].in_(owners), table.c.admin_state_up, table.c.provisioning_status != "PENDING_DELETE")
        .order_by(table.c.created_at, table.c.id)
    )


def _tree(tx: Tx, balancer: Row, tls: TlsBuilder) -> tuple[tuple[wire.Listener, ...], tuple[wire.Pool, ...]]:
    """Listeners and pools as the host shall serve them."""
    if not balancer["admin_state_up"]:
        return (), ()
    pools = _serving(tx, t.pools, "load_balancer_id", [balancer["id"]])
    pool_ids = [pool["id"] for pool in pools]
    members: dict[str, list[Row]] = defaultdict(list)
    for member in _serving(tx, t.members, "pool_id", pool_ids):
        members[member["pool_id"]].append(member)
    monitors = {row["pool_id"]: row for row in _serving(tx, t.health_monitors, "pool_id", pool_ids)}
    listeners = _serving(tx, t.listeners, "load_balancer_id", [balancer["id"]])
    policies = _policies(tx, [row["id"] for row in listeners], pool_ids)
    return (
        tuple(_listener(row, pool_ids, policies[row["id"]], tls) for row in listeners),
        tuple(_pool(row, members[row["id"]], monitors.get(row["id"]), tls) for row in pools),
    )


def _policies(tx: Tx, listener_ids: list[str], pool_ids: list[str]) -> dict[str, list[wire.L7Policy]]:
    """The policies of each listener in their order; one whose pool is not served, or without rules, never matches."""
    rows = sorted(_serving(tx, t.l7policies, "listener_id", listener_ids), key=lambda row: row["position"])
    rules: dict[str, list[wire.L7Rule]] = defaultdict(list)
    for rule in _serving(tx, t.l7rules, "l7policy_id", [row["id"] for row in rows]):
        rules[rule["l7policy_id"]].append(wire.L7Rule(**_given(rule, _RULE)))
    out: dict[str, list[wire.L7Policy]] = defaultdict(list)
    for row in rows:
        pool_id = row["redirect_pool_id"]
        if rules[row["id"]] and (pool_id is None or pool_id in pool_ids):
            out[row["listener_id"]].append(wire.L7Policy(**_given(row, _POLICY), rules=tuple(rules[row["id"]])))
    return out


_LISTENER = (
    "id", "protocol", "protocol_port", "connection_limit", "timeout_client_data", "timeout_member_connect",
    "timeout_member_data", "timeout_tcp_inspect",
)  # fmt: skip
_POLICY = ("id", "action", "redirect_pool_id", "redirect_url", "redirect_prefix", "redirect_http_code")
_RULE = ("id", "type", "compare_type", "value", "key", "invert")
_MEMBER = ("id", "address", "protocol_port", "weight", "backup", "monitor_address", "monitor_port")
_MONITOR = (
    "id", "type", "delay", "timeout", "max_retries", "max_retries_down", "http_method", "http_version", "url_path",
    "expected_codes", "domain_name",
)  # fmt: skip


def in_kernel(listeners: tuple[wire.Listener, ...], pools: tuple[wire.Pool, ...]) -> tuple[wire.Listener, ...]:
    """The same, with those marked that nftables can carry: plain TCP, before members it can judge."""
    able = {
        pool.id
        for pool in pools
        if pool.protocol == "TCP"
        and pool.tls is None
        and pool.persistence_type in {None, "SOURCE_IP"}
        and (pool.healthmonitor is None or pool.healthmonitor.type in {"TCP", "HTTP"})
    }
    return tuple(
        msgspec.structs.replace(one, kernel=True) if one.protocol == "TCP" and one.default_pool_id in able else one
        for one in listeners
    )


def _given(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names if row[name] is not None}


def _listener(row: Row, pool_ids: list[str], policies: list[wire.L7Policy], tls: TlsBuilder) -> wire.Listener:
    headers = row["insert_headers"] or {}
    return wire.Listener(
        **_given(row, _LISTENER),
        default_pool_id=row["default_pool_id"] if row["default_pool_id"] in pool_ids else None,
        allowed_cidrs=tuple(row["allowed_cidrs"] or ()),
        insert_headers=tuple(sorted(name for name, value in headers.items() if str(value).lower() == "true")),
        tls=tls.listener(row),
        l7policies=tuple(policies),
    )


def _pool(row: Row, members: list[Row], monitor: Row | None, tls: TlsBuilder) -> wire.Pool:
    persistence = row["session_persistence"] or {}
    return wire.Pool(
        id=row["id"],
        protocol=row["protocol"],
        lb_algorithm=row["lb_algorithm"],
        persistence_type=persistence.get("type"),
        cookie_name=persistence.get("cookie_name"),
        persistence_timeout=persistence.get("persistence_timeout"),
        persistence_granularity=persistence.get("persistence_granularity"),
        tls=tls.pool(row),
        members=tuple(wire.Member(**_given(one, _MEMBER)) for one in members),
        healthmonitor=None if monitor is None else wire.HealthMonitor(**_given(monitor, _MONITOR)),
    )
