"""From a desired instance to what its daemons and its kernel read: HAProxy, keepalived, routes, nftables, conntrackd.

Pure, and the host's own validation of what came over the wire: InvalidInput names field, value and remedy. What
HAProxy can not do at all (UDP) is refused here and not approximated.
"""

import ipaddress
import re
from typing import TypeVar

import msgspec

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, HealthMonitor, InstanceKind, Leg, Listener, Pool
from vrata.haproxy.model import (
    Backend,
    Balance,
    Check,
    CheckKind,
    Config,
    Confined,
    Frontend,
    Mode,
    Peer,
    Persistence,
    SendProxy,
    Server,
)
from vrata.host.firewall import compile_rules4
from vrata.host.forwarding import kernel_listeners
from vrata.host.handover import anchor
from vrata.host.l7 import l7_rule
from vrata.host.model import EMPTY_DIRECTORY
from vrata.host.pair_guard import CONNTRACK_PORT, PEERS_PORT
from vrata.host.tls import TlsFiles
from vrata.net.routes import MAIN_TABLE, Route
from vrata.vrrp.model import Router, VirtualAddress

PING_PORT = 1026  # on the loopback of the namespace: `vrata.host.ping_checks` answers HAProxy there
_FIRST_TABLE = 1000
_SPARE_FILES = 1000
_LEG = re.compile(r"[a-z][a-z0-9-]{0,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
V = TypeVar("V")
_BALANCE = {
    "ROUND_ROBIN": Balance.ROUNDROBIN,
    "LEAST_CONNECTIONS": Balance.LEASTCONN,
    "SOURCE_IP": Balance.SOURCE,
    "SOURCE_IP_PORT": Balance.SOURCE_PORT,
}
_MODES = {
    "HTTP": Mode.HTTP,
    "TCP": Mode.TCP,
    "HTTPS": Mode.TCP,
    "TERMINATED_HTTPS": Mode.HTTP,
    "PROMETHEUS": Mode.HTTP,
}
_SEND_PROXY = {"PROXY": SendProxy.V1, "PROXYV2": SendProxy.V2, "TCP": None, "HTTP": None, "HTTPS": None}
_CHECKS = {
    "TCP": CheckKind.TCP,
    "HTTP": CheckKind.HTTP,
    "HTTPS": CheckKind.HTTPS,
    "TLS-HELLO": CheckKind.TLS_HELLO,
    "PING": CheckKind.AGENT,
}
_PERSISTENCE = {
    "SOURCE_IP": Persistence.SOURCE,
    "HTTP_COOKIE": Persistence.INSERT_COOKIE,
    "APP_COOKIE": Persistence.APP_COOKIE,
}


def validate_instance(desired: DesiredInstance) -> None:
    """Refuse what could not be built, before anything is touched."""
    if not desired.legs:
        raise InvalidInput("legs", desired.legs, "give the instance at least one leg")
    names = [leg.name for leg in desired.legs]
    if len(set(names)) != len(names):
        raise InvalidInput("legs", names, "give every leg its own name")
    for leg in desired.legs:
        if not _LEG.fullmatch(leg.name) or leg.name == "lo":
            raise InvalidInput("leg.name", leg.name, "use up to 15 lower-case letters, digits and -")
        if not _MAC.fullmatch(leg.mac_address):
            raise InvalidInput("leg.mac_address", leg.mac_address, "use six pairs of hexadecimal digits")
        if not 576 <= leg.mtu <= 65_535:
            raise InvalidInput("leg.mtu", leg.mtu, "use a number from 576 to 65535")
        for cidr in (*leg.fixed, *leg.virtual):
            _interface("leg.fixed or leg.virtual", cidr)
        if leg.gateway is not None:
            _ip("leg.gateway", leg.gateway)
    if desired.vrrp.source not in {str(_interface("leg.fixed", cidr).ip) for cidr in desired.legs[0].fixed}:
        raise InvalidInput("vrrp.source", desired.vrrp.source, "use a fixed address of the first leg")


def render_haproxy(
    desired: DesiredInstance, directory: str, open_files: int | None = None, user_id: int | None = None
) -> Config:
    """The balancer's HAProxy; one backend for each pair of listener and pool, since time-outs are the listener's.

    `directory` is the instance's. `open_files` bounds `max_connections`: HAProxy does not start above it. `user_id`:
    whom its workers run as; None: as this host's root.
    """
    addresses = tuple(str(_interface("leg.virtual", cidr).ip) for leg in desired.legs for cidr in leg.virtual)
    pools = {pool.id: pool for pool in desired.pools}
    files = TlsFiles(f"{directory}/tls")
    frontends: list[Frontend] = []
    backends: list[Backend] = []
    for listener in desired.listeners:
        if listener in kernel_listeners(desired):  # `vrata.host.forwarding` carries it
            continue
        mode = _choice("listener.protocol", listener.protocol, _MODES)
        used = {}
        for pool_id in listener_pools(listener):
            if pool_id not in pools:
                field = "default_pool_id" if pool_id == listener.default_pool_id else "redirect_pool_id"
                raise InvalidInput(field, pool_id, "use a pool of this load balancer")
            used[pool_id] = _backend(listener, pools[pool_id], mode, files)
        backends += used.values()
        frontends.append(_frontend(listener, mode, addresses, used, files))
    shared = any(b.persistence in (Persistence.SOURCE, Persistence.APP_COOKIE) for b in backends)
    peers = _peers(desired) if shared and desired.vrrp.peers else ()
    return Config(
        stats_socket=f"{directory}/stats.sock",
        hard_stop_after_ms=desired.reload_timeout_s * 1000,
        max_connections=_ceiling(desired.max_connections, open_files),
        threads=desired.threads,
        confined=Confined(user_id, f"{directory}/{EMPTY_DIRECTORY}") if user_id is not None else None,
        tls_dir=files.directory,
        files=files.all(),
        frontends=tuple(frontends),
        backends=tuple(backends),
        peers=peers,
        local_peer=desired.id if peers else None,
    )


def _ceiling(wanted: int | None, open_files: int | None) -> int | None:
    """A connection takes two descriptors; some are left for sockets, checks and peers."""
    if wanted is None or open_files is None:
        return wanted
    return max(1, min(wanted, (open_files - _SPARE_FILES) // 2))


def listener_pools(listener: Listener) -> tuple[str, ...]:
    """Ids of the pools that a listener sends something to, each once."""
    ids = [listener.default_pool_id, *(policy.redirect_pool_id for policy in listener.l7policies)]
    return tuple(dict.fromkeys(pool_id for pool_id in ids if pool_id is not None))


def backend_name(pool_id: str, listener_id: str) -> str:
    """Name of the backend that carries a pool for a listener."""
    return f"{pool_id}:{listener_id}"


def _frontend(
    listener: Listener, mode: Mode, addresses: tuple[str, ...], used: dict[str, Backend], files: TlsFiles
) -> Frontend:
    default = listener.default_pool_id
    return Frontend(
        name=listener.id,
        mode=mode,
        addresses=addresses,
        port=listener.protocol_port,
        backend=used[default].name if default is not None else None,
        max_connections=None if listener.connection_limit == -1 else listener.connection_limit,
        client_timeout_ms=listener.timeout_client_data,
        inspect_delay_ms=listener.timeout_tcp_inspect,
        allowed_cidrs=listener.allowed_cidrs,
        insert_headers=listener.insert_headers,
        tls=files.bind(listener) if listener.protocol == "TERMINATED_HTTPS" else None,
        l7rules=tuple(l7_rule(policy, lambda pool: used[pool].name) for policy in listener.l7policies),
        source_port=any(backend.balance is Balance.SOURCE_PORT for backend in used.values()),
        exporter=listener.protocol == "PROMETHEUS",
    )


def _backend(listener: Listener, pool: Pool, mode: Mode, files: TlsFiles) -> Backend:
    if mode is Mode.TCP and pool.persistence_type in ("HTTP_COOKIE", "APP_COOKIE"):
        raise InvalidInput("session_persistence.type", pool.persistence_type, "use SOURCE_IP unless all speaks HTTP")
    return Backend(
        name=backend_name(pool.id, listener.id),
        mode=mode,
        balance=_choice("lb_algorithm", pool.lb_algorithm, _BALANCE),
        servers=tuple(
            Server(
                name=member.id,
                address=member.address,
                port=member.protocol_port,
                weight=member.weight,
                backup=member.backup,
                check_address=member.monitor_address if pool.healthmonitor else None,
                check_port=member.monitor_port if pool.healthmonitor else None,
            )
            for member in pool.members
        ),
        check=_check(pool.healthmonitor) if pool.healthmonitor else None,
        tls=files.server(pool),
        send_proxy=_choice("pool.protocol", pool.protocol, _SEND_PROXY),
        persistence=_choice("session_persistence.type", pool.persistence_type, _PERSISTENCE)
        if pool.persistence_type is not None
        else None,
        cookie_name=pool.cookie_name,
        connect_timeout_ms=listener.timeout_member_connect,
        server_timeout_ms=listener.timeout_member_data,
    )


def _check(monitor: HealthMonitor) -> Check:
    return Check(
        kind=_choice("healthmonitor.type", monitor.type, _CHECKS),
        interval_ms=monitor.delay * 1000,
        timeout_ms=monitor.timeout * 1000,
        rise=monitor.max_retries,
        fall=monitor.max_retries_down,
        method=monitor.http_method,
        path=monitor.url_path,
        version=f"{monitor.http_version:.1f}",
        host=monitor.domain_name,
        expected_codes=monitor.expected_codes,
        agent_port=PING_PORT,
    )


def _peers(desired: DesiredInstance) -> tuple[Peer, ...]:
    others = zip(desired.vrrp.peer_instances, desired.vrrp.peers, strict=False)
    return (
        Peer(desired.id, desired.vrrp.source, PEERS_PORT),
        *(Peer(name, address, PEERS_PORT) for name, address in others),
    )


def render_router(desired: DesiredInstance, notify_fifo: str, fault_file: str, alive_script: str | None) -> Router:
    """The instance's half of its VRRP pair, all virtual addresses of all legs in it."""
    return Router(
        name=desired.id,
        interface=desired.legs[0].name,
        router_id=desired.vrrp.router_id,
        priority=desired.vrrp.priority,
        advert_interval_ms=desired.vrrp.advert_interval_ms,
        source=desired.vrrp.source,
        peers=(*desired.vrrp.peers, *desired.vrrp.ghosts),
        virtual=tuple(
            VirtualAddress(str(_interface("leg.virtual", cidr).ip), leg.name)
            for leg in desired.legs
            for cidr in leg.virtual
        ),
        notify_fifo=notify_fifo,
        fault_file=fault_file,
        alive_script=alive_script if desired.kind is InstanceKind.BALANCER else None,
    )


def anchored(desired: DesiredInstance) -> DesiredInstance:
    """The same instance with a link-local address on every leg that has no fixed IPv4 one.

    The kernel takes all IPv4 routes from an interface with its last address: without this an instance that hands its
    virtual addresses over would have no way out when it becomes active again.
    """
    legs = tuple(
        leg
        if any(":" not in cidr for cidr in leg.fixed)
        else msgspec.structs.replace(leg, fixed=(*leg.fixed, f"{anchor(leg.mac_address)}/32"))
        for leg in desired.legs
    )
    return msgspec.structs.replace(desired, legs=legs)


def render_routes(desired: DesiredInstance) -> tuple[tuple[Route, ...], tuple[tuple[str, int], ...]]:
    """Routes and policy rules (source, table), as `vrata.base.wire.Leg` demands.

    Virtual addresses are host addresses, so the networks they lie in get routes of their own, which stay whoever is
    active: in the main table on the leg of the default route, in the leg's own table on every further one.
    """
    routes: list[Route] = []
    rules: list[tuple[str, int]] = []
    default_leg = next((leg for leg in desired.legs if leg.gateway), None)
    for position, leg in enumerate(desired.legs):
        networks = _virtual_networks(leg)
        table = MAIN_TABLE if leg.gateway is None or leg is default_leg else _FIRST_TABLE + position
        if table != MAIN_TABLE:
            networks += _fixed(leg)
            rules += [(str(_interface("leg.virtual", cidr).ip), table) for cidr in leg.virtual]
        routes += [Route(network, leg.name, table=table) for network in networks]
        if leg.gateway is not None:
            gateway = _ip("leg.gateway", leg.gateway)
            routes.append(Route("::/0" if ":" in gateway else "0.0.0.0/0", leg.name, gateway, table))
        routes += [
            Route(str(_interface("leg.routes", to).network), leg.name, _ip("leg.routes", via), table)
            for to, via in leg.routes
        ]
    return tuple(routes), tuple(rules)


def route_line(route: Route) -> str:
    """For `ip -batch`; safe to repeat."""
    to = "default" if route.to.endswith("/0") else route.to
    via = f" via {route.via} dev {route.dev} onlink" if route.via else f" dev {route.dev}"
    return f"route replace {to}{via}" + ("" if route.table == MAIN_TABLE else f" table {route.table}")


def _fixed(leg: Leg) -> list[str]:
    return [str(_interface("leg.fixed", cidr).network) for cidr in leg.fixed]


def _virtual_networks(leg: Leg) -> list[str]:
    """Networks of the virtual addresses that no fixed address brings along already."""
    present = set(_fixed(leg))
    networks = {str(_interface("leg.virtual", cidr).network) for cidr in leg.virtual}
    single = {n for n in networks if ipaddress.ip_network(n).num_addresses == 1}
    return sorted(networks - present - single)


NAT_TABLE = "ip vrata"


def render_nat(desired: DesiredInstance) -> str:
    """A gateway's nftables table, replaced in one transaction: floating addresses one to one, the rest behind one.

    From outside only replies and translated packets pass. A tenant who reaches another one's floating address comes
    back through the gateway, with a translated source, or the reply would take the short way and match nothing.
    """
    if len(desired.legs) < 2:
        raise InvalidInput("legs", [leg.name for leg in desired.legs], "give a gateway a tenant and an external leg")
    inside, outside = desired.legs[0].name, desired.legs[-1].name
    pairs = [(_ip("floating", nat.floating), _ip("fixed", nat.fixed)) for nat in desired.floating]
    if any(":" in address for pair in pairs for address in pair):
        raise InvalidInput("floating", pairs, "use IPv4 addresses")
    guarded = [(fixed, nat.firewall) for (_, fixed), nat in zip(pairs, desired.floating, strict=True) if nat.firewall]
    to_fixed = ", ".join(f"{floating} : {fixed}" for floating, fixed in pairs)
    to_floating = ", ".join(f"{fixed} : {floating}" for floating, fixed in pairs)
    lines = ["table ip vrata", "delete table ip vrata", "table ip vrata {"]
    for name, elements in (("to_fixed", to_fixed), ("to_floating", to_floating)):
        lines.append(f"  map {name} {{ type ipv4_addr : ipv4_addr;")
        lines += [f"    elements = {{ {elements} }}"] if elements else []
        lines.append("  }")
    lines += [
        "  chain prerouting {",
        "    type nat hook prerouting priority dstnat; policy accept;",
        "    dnat to ip daddr map @to_fixed",
        "  }",
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        f'    oifname "{outside}" snat to ip saddr map @to_floating',
        f'    iifname "{inside}" oifname "{inside}" ct status dnat snat to ip saddr map @to_floating',
    ]
    if desired.snat:
        address = _ip("snat.address", desired.snat.address)
        cidrs = ", ".join(str(_interface("snat.source_cidrs", cidr).network) for cidr in desired.snat.source_cidrs)
        if cidrs:
            lines.append(f'    oifname "{outside}" ip saddr {{ {cidrs} }} snat to {address}')
            lines.append(
                f'    iifname "{inside}" oifname "{inside}" ct status dnat ip saddr {{ {cidrs} }} snat to {address}'
            )
    lines += [
        "  }",
    ]
    for number, (_, firewall) in enumerate(guarded):
        lines += [
            f"  chain target{number} {{",
            *(f"    {rule}" for rule in compile_rules4(firewall)),
            "    drop",
            "  }",
        ]
    verdicts = ", ".join(f"{fixed} : goto target{number}" for number, (fixed, _) in enumerate(guarded))
    lines += [
        "  chain forward {",
        "    type filter hook forward priority filter; policy drop;",
        "    ct state established,related accept",
        *([f"    ct status dnat ip daddr vmap {{ {verdicts} }}"] if guarded else []),
        f'    iifname "{inside}" accept',
        f'    iifname "{outside}" ct status dnat accept',
        "  }",
        "  chain input {",
        "    type filter hook input priority filter; policy accept;",
        f'    iifname "{outside}" ct state established,related accept',
        f'    iifname "{outside}" icmp type echo-request accept',
        f'    iifname "{outside}" drop',
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def render_conntrackd(desired: DesiredInstance, directory: str) -> str | None:
    """conntrackd.conf(5): FTFW to the one peer over the first leg, entries straight into the kernel. None: no peer."""
    gateway = desired.kind is InstanceKind.GATEWAY
    if not (gateway or kernel_listeners(desired)) or len(desired.vrrp.peers) != 1:
        return None
    # HAProxy's connections end with it; only what the kernel itself passes on can be taken over.
    carried = ("TCP", "UDP", "ICMP") if gateway else sorted({one.protocol for one in kernel_listeners(desired)})
    protocols = "\n".join(f"            {name}" for name in carried)
    source, peer = _ip("vrrp.source", desired.vrrp.source), _ip("vrrp.peers", desired.vrrp.peers[0])
    family = "IPv6" if ":" in source else "IPv4"
    return f"""Sync {{
    Mode FTFW {{
        DisableExternalCache yes
        StartupResync yes
    }}
    UDP {{
        {family}_address {source}
        {family}_Destination_Address {peer}
        Port {CONNTRACK_PORT}
        Interface {desired.legs[0].name}
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize 32768
    HashLimit 131072
    LogFile off
    Syslog off
    LockFile {directory}/conntrackd.lock
    UNIX {{
        Path {directory}/conntrackd.sock
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
{protocols}
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            {family}_address {source}
            {family}_address {peer}
        }}
    }}
}}
"""


def _choice(field: str, value: str, choices: dict[str, V]) -> V:
    if value not in choices:
        raise InvalidInput(field, value, f"use one of {', '.join(choices)}")
    return choices[value]


def _interface(field: str, value: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        return ipaddress.ip_interface(value)
    except ValueError:
        raise InvalidInput(field, value, "use an address with its prefix length, such as 192.0.2.5/24") from None


def _ip(field: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
