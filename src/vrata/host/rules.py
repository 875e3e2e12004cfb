"""An nftables table as a value, and the transaction that makes one out of another, touching only what differs (nft(8)).

What stays the same keeps its state: counters go on, learnt elements stay, and a chain that differs is emptied and filled
in the transaction that changes it. Everything may be repeated: objects are declared before they are deleted. Does no I/O.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vrata.base.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Chain:
    """`hook` is the text of a base chain, empty for a chain that others go to."""

    rules: tuple[str, ...] = ()
    hook: str = ""


@dataclass(frozen=True)
class Table:
    """`objects`: name -> (kind, specification), e.g. ("map", "type ipv4_addr : mark;"); chains by their names."""

    name: str  # with its family: "inet vrata_forward"
    objects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.objects or self.chains)


def render_change(before: Table | None, after: Table) -> str:
    """The transaction from `before` (None: not known, begin anew) to `after`; empty if there is nothing to do."""
    lines: list[str] = []
    name = after.name
    if before is None or (before and not after):
        lines += [f"table {name}", f"delete table {name}"]
        before = Table(name)
    if not after:
        return _text(lines)
    if not before:
        lines.append(f"add table {name}")
    lines += [
        f"add {kind} {name} {key} {{ {spec} }}"
        for key, (kind, spec) in after.objects.items()
        if before.objects.get(key) != (kind, spec)
    ]
    changed = {key: c for key, c in after.chains.items() if before.chains.get(key) != c}
    gone = [key for key in before.chains if key not in after.chains]
    lines += [f"add chain {name} {key}{f' {{ {c.hook} }}' if c.hook else ''}" for key, c in changed.items()]
    lines += [f"add chain {name} {key}" for key in gone]
    lines += [f"flush chain {name} {key}" for key in (*changed, *gone)]
    lines += [f"add rule {name} {key} {rule}" for key, c in changed.items() for rule in c.rules]
    lines += [f"delete chain {name} {key}" for key in gone]
    for key, (kind, spec) in before.objects.items():
        if key not in after.objects:
            lines += [f"add {kind} {name} {key} {{ {spec} }}", f"delete {kind} {name} {key}"]
    return _text(lines)


def digest(tables: Iterable[Table]) -> str:
    """A short name for what these tables are."""
    return hashlib.blake2s(repr(list(tables)).encode(), digest_size=16).hexdigest()


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""


def cidrs_of(field_name: str, values: Iterable[str], version: int) -> list[str]:
    """The networks of one IP version among these, without those that lie in another: nft refuses overlaps."""
    found: list[Network] = []
    for value in values:
        try:
            found.append(ipaddress.ip_network(value, strict=False))
        except ValueError:
            raise InvalidInput(field_name, value, "use a network such as 192.0.2.0/24") from None
    if version == 4:
        return [str(n) for n in ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv4Network))]
    return [str(n) for n in ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv6Network))]


def braces(values: Iterable[str]) -> str:
    """An anonymous set."""
    return "{ " + ", ".join(values) + " }"
