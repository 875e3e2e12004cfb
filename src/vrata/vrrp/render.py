"""Writes keepalived's configuration from the model (keepalived.conf(5), 2.2). Does no I/O.

Rules found by experiment with keepalived 2.2.7:

- only the first address of the interface is advertised, all others are `virtual_ipaddress_excluded`: a peer whose list
  differs drops the adverts, so that a list changed on one side first would make both sides active;
- every address is a host address (/32, /128): no connected route comes or goes with it, and no fixed address becomes
  its secondary;
- no `vrrp_rt_priority`: with it a reload sets RLIMIT_RTTIME to 0 and the kernel kills keepalived at its next tick, with
  the addresses lost until it has started again. `vrrp.process` gives it real-time priority from outside instead.
"""

import ipaddress
import re

from vrata.base.errors import InvalidInput
from vrata.vrrp.model import Router, VirtualAddress

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FILE = re.compile(r"/[A-Za-z0-9_./@+-]{1,200}")
NOT_FIT = "-300"


def render_router(router: Router) -> str:
    """The whole configuration file; InvalidInput for a value outside its grammar."""
    name, interface = _name("router", router.name), _name("leg.name", router.interface)
    source = _address("vrrp.source", router.source)
    # Without any peer keepalived would multicast, and meet strangers with the same router id.
    peers = router.peers or ("::1" if ":" in source else "127.0.0.1",)
    advertised = advertised_addresses(router)
    others = [v for v in router.virtual if v not in advertised]
    priority = _number("vrrp.priority", router.priority, 1, 254)
    lines = [
        "global_defs {",
        f"  router_id {name}",
        "  vrrp_version 3",
        "  script_user root",
        "  enable_script_security",
        "  vrrp_garp_master_repeat 3",
        "  vrrp_garp_master_delay 1",
        # After a partition the one that stays active says nothing of its own; clients would go on asking the other.
        "  vrrp_garp_master_refresh 2",
        f"  vrrp_notify_fifo {_file('notify_fifo', router.notify_fifo)}",
        "}",
        "track_file serving {",
        f"  file {_file('fault_file', router.fault_file)}",
        "  weight 0",
        "}",
    ]
    if router.alive_script:
        lines += [
            "vrrp_script alive {",
            # Not /bin/sh: keepalived 2.3 refuses, as insecure, a script whose program is reached by a link.
            f'  script "/usr/bin/dash {_file("alive_script", router.alive_script)}"',
            "  interval 1",
            "  timeout 1",
            "  fall 1",
            "  rise 1",
            "}",
        ]
    lines += [
        f"vrrp_instance {name} {{",
        # BACKUP everywhere: whoever returns waits for a running active one, and never takes the addresses back.
        "  state BACKUP",
        "  nopreempt",
        f"  interface {interface}",
        f"  virtual_router_id {_number('vrrp.router_id', router.router_id, 1, 255)}",
        f"  priority {priority}",
        f"  advert_int {_number('vrrp.advert_interval_ms', router.advert_interval_ms, 10, 40_950) / 1000:g}",
        f"  unicast_src_ip {source}",
        "  unicast_peer {",
        *(f"    {_address('vrrp.peers', peer)}" for peer in peers),
        "  }",
        "  track_file {",
        "    serving",
        "  }",
    ]
    if router.alive_script:
        lines += ["  track_script {", "    alive", "  }"]
    lines += _addresses("virtual_ipaddress", advertised) + _addresses("virtual_ipaddress_excluded", others)
    return "\n".join([*lines, "}"]) + "\n"


def advertised_addresses(router: Router) -> list[VirtualAddress]:
    """The one address whose presence in the adverts both sides agree on (none if the first leg has none)."""
    return [v for v in router.virtual if v.interface == router.interface and _same_family(v.address, router.source)][:1]


def _addresses(block: str, virtual: list[VirtualAddress]) -> list[str]:
    if not virtual:
        return []
    lines = [f"    {_host_address(v.address)} dev {_name('leg.name', v.interface)}" for v in virtual]
    return [f"  {block} {{", *lines, "  }"]


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


def _host_address(value: str) -> str:
    address = _address("leg.virtual", value)
    return f"{address}/128" if ":" in address else f"{address}/32"


def _address(field: str, value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidInput(field, value, "use an IPv4 or IPv6 address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise InvalidInput(field, value, "use an address without a zone")
    return str(address)


def _number(field: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidInput(field, value, f"use a number from {least} to {most}")
    return value


def _name(field: str, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise InvalidInput(field, value, "use letters, digits and _ . -")
    return value


def _file(field: str, value: str) -> str:
    if not _FILE.fullmatch(value):
        raise InvalidInput(field, value, "use a plain absolute path")
    return value
