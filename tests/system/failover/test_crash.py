"""kill -9 of the agents at every instant of every operation, one after the other; started again, they make it good.

An instant is the moment before one effect on the world (`tests.support.mortal`): a step of the plan has several. What
there is afterwards is compared, rule by rule and file by file, with what the same operation leaves when nobody dies.
The two hosts' agents die in the same operation, at neighbouring instants.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.support.fabric import wait_until
from tests.support.pauses import pause_s
from tests.system.host.lab import FLOATING, HOSTS, INSTANCES, VIP, Lab, balancer, lab

from vrata.base.clock import monotonic_s
from vrata.base.wire import DesiredInstance
from vrata.host.store import HostStore
from vrata.net import ip
from vrata.net.command import CommandFailed, run

DAEMONS = frozenset({"haproxy", "keepalived", "conntrackd"})
MOST_INSTANTS = 200
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Operation:
    """A change of what both hosts shall carry, and how to see that a host has carried it out."""

    name: str
    desired: Callable[[str, int], tuple[DesiredInstance, ...]]  # (host, generation)
    address: str = VIP


async def footprint(it: Lab, host: str) -> dict[str, str]:
    """Everything there is of the host's instance, but not which of the pair is active; empty if there is nothing."""
    found = {f"file {path.name}": "" for path in it.state_dir(host).iterdir() if path.name != "instances"}
    found |= {f"link {name}": "" for name in await links_of(it, host)}
    directory, netns = it.instance_dir(host), it.netns(host)
    if directory.is_dir():
        kept = ("haproxy.cfg", "keepalived.conf", "rules.json", "record.json", "fault")
        found |= {f"file {path.name}": "" for path in directory.rglob("*")}
        found |= {f"file {name}": (directory / name).read_text() for name in kept if (directory / name).is_file()}
    if netns in ip.list_namespaces():
        found["namespace"] = netns
        names = (ip.executable_of(pid) for pid in ip.processes_in(netns))
        found["processes"] = " ".join(sorted(name for name in names if name in DAEMONS))
        rules = (await run("nft", "-s", "list", "ruleset", netns=netns)).splitlines()
        found["rules"] = "\n".join(line for line in rules if "elements = {" not in line)  # those packets added
        found["policies"] = await run("ip", "rule", "show", netns=netns)
        routes = (await run("ip", "route", "show", "table", "all", netns=netns)).splitlines()
        found["routes"] = "\n".join(line for line in routes if "proto kernel" not in line)
        for link in await ip.query("address", "show", netns=netns):
            on_loopback = link["ifname"] == "lo"
            addresses = (one["local"] for one in link["addr_info"] if one["scope"] != "link")
            fixed = sorted(one for one in addresses if on_loopback or one not in (VIP, FLOATING))
            found[f"leg {link['ifname']}"] = f"{link['address']} {link['mtu']} {fixed}"
    return found


async def links_of(it: Lab, host: str) -> list[str]:
    """Interfaces in the host's own namespace, with the bridge each is plugged into."""
    links = await ip.query("link", "show", netns=it.hosts[host].netns)
    return [f"{link['ifname']} in {link.get('master')}" for link in links]


class Crashes:
    """Runs operations with deaths in them and compares what they leave."""

    def __init__(self, it: Lab) -> None:
        self.it = it
        self.generation = 0
        self.undisturbed: dict[tuple[str, str], dict[str, str]] = {}

    async def every_instant(self, *operations: Operation) -> dict[str, int]:
        """All operations in a row again and again, with deaths later and later, until none is reached any more.

        How many instants each has (of the host that has more of them).
        """
        instants = dict.fromkeys((one.name for one in operations), 0)
        for operation in operations:
            await self.run(operation, {})
            for host in HOSTS:
                self.undisturbed[operation.name, host] = await footprint(self.it, host)
        open_ = {one.name for one in operations}
        for instant in range(1, MOST_INSTANTS, len(HOSTS)):
            for operation in operations:
                at = {host: instant + number for number, host in enumerate(HOSTS)} if operation.name in open_ else {}
                died = await self.run(operation, at)
                instants[operation.name] = max(instants[operation.name], *(at[host] for host in died), 0)
                if not died:
                    open_.discard(operation.name)
            if not open_:
                return instants
        raise AssertionError(f"no end of {open_}")

    async def run(self, operation: Operation, deaths: dict[str, int]) -> list[str]:
        """One operation, with an agent dying before its nth effect; which of them did."""
        self.generation += 1
        for host in HOSTS:
            self.it.death(host).write_text(self.armed(operation, host, deaths))
        for host in HOSTS:
            await self.it.cloud.want(host, *operation.desired(host, self.generation))
        for host in HOSTS:
            await self.converged(host, operation, deaths)
        if operation.desired(HOSTS[0], 1):
            await wait_until(self.it.one_active, lambda: f"{operation.name} {deaths}; {self.states()}", DEADLINE_S)
            await self.it.answers(self.it.client, operation.address, timeout_s=DEADLINE_S)
        return [host for host in deaths if self.last_words(host).startswith(self.armed(operation, host, deaths))]

    def states(self) -> str:
        """Who says what it is, and what was logged."""
        return f"{ {host: self.it.state(host) for host in HOSTS} }; {self.it.logs()}"

    def armed(self, operation: Operation, host: str, deaths: dict[str, int]) -> str:
        """What the host's agent is told of its death."""
        return f"{operation.name}-{self.generation} {deaths.get(host, 0)}"

    def done(self, host: str, operation: Operation) -> bool:
        """Whether the host says that it carries what it shall, and would know it without the cloud."""
        wanted = operation.desired(host, self.generation)
        kept = HostStore(self.it.state_dir(host)).load_desired()
        report = self.it.cloud.seen(host, INSTANCES[host])
        if kept is None or kept.instances != wanted:
            return False
        if not wanted:
            return report is None and not any((self.it.state_dir(host) / "instances").iterdir())
        return report is not None and report.observed_generation == self.generation and report.error is None

    def last_words(self, host: str) -> str:
        """What the host's agent did not do any more."""
        said = self.it.death(host).with_suffix(".died")
        return said.read_text() if said.exists() else ""

    async def converged(self, host: str, operation: Operation, deaths: dict[str, int]) -> None:
        """Wait until the host carries what it shall, with the footprint of one whose agent never died."""
        context = f"{operation.name} {deaths}: {self.last_words(host)}"
        await wait_until(lambda: self.done(host, operation), lambda: f"{context}; {self.it.logs()}", DEADLINE_S)
        wanted = self.undisturbed.get((operation.name, host))
        deadline = monotonic_s() + DEADLINE_S
        while wanted is not None:
            looked = monotonic_s()
            try:
                found = await footprint(self.it, host)
            except (CommandFailed, OSError) as error:  # it is being changed
                found = {"error": str(error)}
            if found == wanted:
                return
            now = monotonic_s()
            if now > deadline:
                pairs = ((key, wanted.get(key), found.get(key)) for key in sorted(wanted.keys() | found.keys()))
                raise AssertionError(f"{context}; differs: {[one for one in pairs if one[1] != one[2]]}")
            await asyncio.sleep(pause_s(now - looked, 0.05))


def plain(host: str, generation: int) -> tuple[DesiredInstance, ...]:
    return (balancer(host, generation=generation),)


def weighed(host: str, generation: int) -> tuple[DesiredInstance, ...]:
    return (balancer(host, generation=generation, weight=7, members=("m1", "m2")),)


def with_floating(host: str, generation: int) -> tuple[DesiredInstance, ...]:
    return (balancer(host, generation=generation, floating=True),)


def nothing(_host: str, _generation: int) -> tuple[DesiredInstance, ...]:
    return ()


async def test_creation_and_deletion_survive_a_kill_at_every_instant(short_path: Path) -> None:
    async with lab("crash", short_path, mortal=True) as it:
        crashes = Crashes(it)
        instants = await crashes.every_instant(Operation("create", plain), Operation("delete", nothing))
        print(f"\ninstants: {instants}")
        assert instants["create"] > 30
        assert instants["delete"] > 10


async def test_updates_survive_a_kill_at_every_instant(short_path: Path) -> None:
    async with lab("change", short_path, mortal=True) as it:
        instants = await Crashes(it).every_instant(
            Operation("attach", with_floating, FLOATING),
            Operation("detach", weighed),
            Operation("weigh", plain),
        )
        print(f"\ninstants: {instants}")
        assert min(instants.values()) > 5


async def test_a_handover_survives_a_kill_at_every_instant(short_path: Path) -> None:
    async with lab("yielding", short_path, mortal=True) as it:
        crashes = Crashes(it)
        await crashes.run(Operation("create", plain), {})

        def yields(host: str, generation: int) -> tuple[DesiredInstance, ...]:
            wanted = balancer(host, generation=generation)
            return (msgspec.structs.replace(wanted, yields=generation if host == giver else 0),)

        for instant in range(1, MOST_INSTANTS):
            giver = it.active()
            died = await crashes.run(Operation("yield", yields), {giver: instant})
            await wait_until(lambda giver=giver: it.one_active() and it.active() != giver, it.logs)  # type: ignore[misc]
            if not died:
                break
        print(f"\ninstants: {instant - 1}")
        assert instant > 5
