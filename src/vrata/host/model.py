"""What the host agent knows: where an instance lives, what is seen of it, what shall be done. Values only."""

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from vrata.base.errors import InvalidInput
from vrata.base.ids import kernel_name
from vrata.base.wire import DesiredInstance, Leg, Wire
from vrata.haproxy.model import TlsFile
from vrata.haproxy.plan import Change
from vrata.host.forwarding import Flow
from vrata.net.routes import Route

RULE_PRIORITY = 1000  # of the policy rules of an instance
EMPTY_DIRECTORY = "root"  # of each instance: what HAProxy's workers see of the host
# Far from the ids of people, of packages and of systemd's services.
FIRST_USER_ID = 1_400_000_000
USER_IDS = 1 << 27


@dataclass(frozen=True)
class Settings:
    """What one agent is told when it starts. `bridges`: physical network -> bridge of this host."""

    name: str
    state_dir: str
    bridges: tuple[tuple[str, str], ...]
    open_files: int | None = None  # what one process may open; None: not known

    def bridge(self, physical_network: str) -> str:
        """The bridge that carries a physical network."""
        for network, bridge in self.bridges:
            if network == physical_network:
                return bridge
        raise InvalidInput("physical_network", physical_network, f"start the host with --bridge {physical_network}=…")


class Record(Wire, frozen=True, kw_only=True):
    """Names of everything an instance has in the kernel, written to disk before any of it is created.

    `user_id`: whom its HAProxy's workers run as; None in records of versions that ran them as root.
    """

    id: str
    netns: str
    links: dict[str, str] = msgspec.field(default_factory=dict)  # interface inside -> interface on the host
    user_id: int | None = None


def free_user_id(instance_id: str, taken: Container[int]) -> int:
    """A user that no other instance of the host has; the same each time while nobody else has it."""
    number = int.from_bytes(hashlib.blake2s(instance_id.encode(), digest_size=8).digest(), "big")
    return next(one for step in range(USER_IDS) if (one := FIRST_USER_ID + (number + step) % USER_IDS) not in taken)


def record_of(settings: Settings, desired: DesiredInstance, user_id: int | None = None) -> Record:
    """The names an instance must have."""
    return Record(
        id=desired.id,
        netns=kernel_name("i", settings.name, settings.state_dir, desired.id),
        links={leg.name: link_name(settings, desired.id, leg.name) for leg in desired.legs},
        user_id=user_id,
    )


def directory_name(instance_id: str) -> str:
    """Name of an instance's directory: short, since sockets in it have paths of at most 97 characters."""
    return hashlib.blake2s(instance_id.encode()).hexdigest()[:12]


def link_name(settings: Settings, instance_id: str, leg: str) -> str:
    """Name of the host's end of a leg."""
    return kernel_name("v", settings.name, settings.state_dir, instance_id, leg)


class RulesState(Wire, frozen=True, kw_only=True):
    """Which packet rules are loaded: for these members being down. `digest` empty: a transaction was not finished."""

    down: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class ObservedLink:
    """A leg as the kernel has it. `bridge`: what the host's end is plugged into."""

    name: str
    mac_address: str
    mtu: int
    addresses: frozenset[str]  # global ones, as CIDRs
    bridge: str | None
    is_up: bool = True  # both ends

    def holds(self, legs: tuple[Leg, ...]) -> bool:
        """Whether it has an address that only an active instance has."""
        virtual = {cidr.partition("/")[0] for leg in legs for cidr in leg.virtual}
        return any(cidr.partition("/")[0] in virtual for cidr in self.addresses)


class Part(StrEnum):
    """What an agent starts for an instance; the name of the program."""

    HAPROXY = "haproxy"
    KEEPALIVED = "keepalived"
    CONNTRACKD = "conntrackd"


@dataclass(frozen=True)
class Observed:
    """One instance as it is. `applied` is the last desired state that was carried out to its end."""

    record: Record | None
    namespace_exists: bool
    links: tuple[ObservedLink, ...]
    applied: DesiredInstance | None
    haproxy_runs: bool
    keepalived_runs: bool
    conntrackd_runs: bool
    marked_unfit: bool
    rules: RulesState | None = None  # None: none were ever loaded
    haproxy_outdated: bool = False  # another one has been installed since
    servers: frozenset[tuple[str, str]] = frozenset()  # (backend, server) that HAProxy has; empty: not known
    user_id: int | None = None  # whom its HAProxy's workers run as from the next start or reload on
    rules_changed: bool = False  # packet rules are not, or may not be, as they were loaded
    routes: frozenset[Route] | None = None  # None: not known, like the next two
    source_rules: frozenset[tuple[str, int]] | None = None  # (source address, table)
    sysctls: Mapping[str, str] | None = None  # of those that an instance may want
    paused: frozenset[Part] = frozenset()  # ended again and again: not to be started yet


NOTHING = Observed(
    record=None,
    namespace_exists=False,
    links=(),
    applied=None,
    haproxy_runs=False,
    keepalived_runs=False,
    conntrackd_runs=False,
    marked_unfit=False,
)


@dataclass(frozen=True)
class Action:
    """One step, safe to repeat; `reason` says why it is taken."""

    reason: str


@dataclass(frozen=True)
class WriteRecord(Action):
    record: Record


@dataclass(frozen=True)
class CreateNamespace(Action):
    netns: str
    forwards: bool


@dataclass(frozen=True)
class PlugLeg(Action):
    leg: Leg
    host_link: str
    bridge: str
    replace: bool  # the interface itself is wrong, not only what it is plugged into or its addresses


@dataclass(frozen=True)
class UnplugLeg(Action):
    host_link: str


@dataclass(frozen=True)
class SetRoutes(Action):
    lines: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]  # (source address, table)
    local: tuple[str, ...] = ()  # host addresses (CIDRs) whose packets are taken in wherever the address is
    foreign: tuple[str, ...] = ()  # and those that were, and are not any more


@dataclass(frozen=True)
class SetSysctls(Action):
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LoadNat(Action):
    ruleset: str


@dataclass(frozen=True)
class LoadRules(Action):
    """Firewall, forwarding and handover in one transaction, then the flows that must find another member end."""

    instance_id: str
    ruleset: str
    forwards: bool  # packets between legs: only where the kernel carries listeners, and rules for them
    legs: tuple[str, ...]
    forget: tuple[Flow, ...]
    state: RulesState
    tracks: bool = False  # connections are tracked from now on


@dataclass(frozen=True)
class StartHaproxy(Action):
    """`early`: of a fresh pair, where keepalived may count down meanwhile; else it is no candidate before HAProxy serves."""

    config: str
    clear_strays: bool
    early: bool
    files: tuple[TlsFile, ...]


@dataclass(frozen=True)
class AwaitHaproxy(Action):
    """Wait until it serves, then call the instance fit."""


@dataclass(frozen=True)
class ReloadHaproxy(Action):
    config: str
    files: tuple[TlsFile, ...]


@dataclass(frozen=True)
class ChangeHaproxy(Action):
    """Change it while it runs; by a reload after all if it refuses."""

    config: str
    files: tuple[TlsFile, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class DeleteServers(Action):
    """Delete servers that were removed while connections held them."""

    servers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MarkFit(Action):
    """Let keepalived compete for the addresses."""


@dataclass(frozen=True)
class Goodbye:
    """A VRRP message and the peer it goes to."""

    source: str
    peer: str
    message: bytes


@dataclass(frozen=True)
class StartKeepalived(Action):
    config: str
    goodbyes: tuple[Goodbye, ...]  # said for a keepalived that was killed, before its addresses are released
    fixed: tuple[str, ...]  # addresses that stay; every other one is released first


@dataclass(frozen=True)
class ReloadKeepalived(Action):
    config: str


@dataclass(frozen=True)
class RestartKeepalived(Action):
    """For what a reload can not change; the peer serves meanwhile."""

    config: str
    fixed: tuple[str, ...]


@dataclass(frozen=True)
class StartConntrackd(Action):
    config: str


@dataclass(frozen=True)
class StopConntrackd(Action):
    pass


@dataclass(frozen=True)
class HandOver(Action):
    """Let the peer have the addresses, if they are here, and stand by; clients connect anew in their own time."""

    active: bool


@dataclass(frozen=True)
class MarkApplied(Action):
    desired: DesiredInstance


AnyAction = (
    WriteRecord
    | CreateNamespace
    | PlugLeg
    | UnplugLeg
    | SetRoutes
    | SetSysctls
    | LoadNat
    | LoadRules
    | StartHaproxy
    | AwaitHaproxy
    | ReloadHaproxy
    | ChangeHaproxy
    | DeleteServers
    | MarkFit
    | StartKeepalived
    | ReloadKeepalived
    | RestartKeepalived
    | StartConntrackd
    | StopConntrackd
    | HandOver
    | MarkApplied
)

# What starts a part that ended by itself. (RestartKeepalived ends one that runs.)
STARTS: Mapping[type[Action], Part] = {
    StartHaproxy: Part.HAPROXY,
    StartKeepalived: Part.KEEPALIVED,
    StartConntrackd: Part.CONNTRACKD,
}
# What ends one on purpose.
ENDS: Mapping[type[Action], Part] = {RestartKeepalived: Part.KEEPALIVED, StopConntrackd: Part.CONNTRACKD}
