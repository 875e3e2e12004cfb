"""The node proxy's tables in the kernel: written in transactions, and looked at, for others can write there, too."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from vrata.base.errors import VrataError
from vrata.net import ip, nft
from vrata.net.command import CommandFailed, run
from vrata.nodeport.model import FAMILIES, TABLE, ChainName, Family, Rules, Surroundings
from vrata.nodeport.plan import plan_change
from vrata.nodeport.render import LAYOUT, render_skeleton, render_transaction, skeleton_chains, skeleton_sets

# Between the node's own network and its pods. A node without IPv6 lacks the second one.
FORWARDING = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}


def restore_forwarding() -> dict[str, str]:
    """Have packets forwarded; which parameters said otherwise, and what."""
    return ip.restore_sysctls(FORWARDING)


@dataclass(frozen=True)
class Present:
    """What a look found: chains with the number of their rules, and the names of sets and maps."""

    chains: dict[ChainName, int]
    sets: frozenset[ChainName]

    @property
    def is_of_this_layout(self) -> bool:
        """Whether this program's definitions are there, in both families."""
        return all((family, LAYOUT) in self.sets for family in FAMILIES)


async def look() -> Present:
    """Our tables without elements; of a table that is not there nothing."""
    chains: dict[ChainName, int] = {}
    sets: set[ChainName] = set()
    for family in FAMILIES:
        try:
            listed = json.loads(await run("nft", "-j", "-t", "list", "table", family, TABLE))["nftables"]
        except CommandFailed as error:
            if "No such file" not in error.stderr:
                raise
            continue
        except (ValueError, KeyError) as error:
            raise VrataError(f"nft -j said what is not understood: {error}", remedy="update nftables") from error
        for entry in listed:
            if chain := entry.get("chain"):
                chains.setdefault((family, chain["name"]), 0)
            elif rule := entry.get("rule"):
                chains[family, rule["chain"]] = chains.get((family, rule["chain"]), 0) + 1
            elif found := entry.get("set") or entry.get("map"):
                sets.add((family, found["name"]))
    return Present(chains, frozenset(sets))


def expected(rules: Iterable[Rules], around: Surroundings) -> Present:
    """What a look must find."""
    chains: dict[ChainName, int] = {}
    sets: set[ChainName] = set()
    for family in FAMILIES:
        chains |= {(family, name): len(found) for name, (_, found) in skeleton_chains(family, around).items()}
        sets |= {(family, name) for name in skeleton_sets(family)}
    for one in rules:
        chains |= {name: len(found) for name, found in (*one.shared.items(), *one.chains.items())}
        sets |= one.sets.keys() | one.maps.keys()
    return Present(chains, frozenset(sets))


def is_whole(present: Present, wanted: Present) -> bool:
    """Whether everything is there; what is there besides does no harm."""
    return wanted.chains.items() <= present.chains.items() and wanted.sets <= present.sets


async def replace(rules: Iterable[Rules], around: Surroundings) -> None:
    """Everything in one transaction, whatever was there before. Recent clients of Services with affinity are kept."""
    wanted, present = list(rules), await look()
    anew = not present.is_of_this_layout
    text = [render_skeleton(around, anew=anew)]
    known: frozenset[ChainName] = frozenset()
    for one in wanted:
        text.append(render_transaction(plan_change(Rules(), one, known)))
        known |= one.shared.keys() | one.maps.keys()
    await nft.apply("".join(text))
    if not anew:
        await _tidy(present, expected(wanted, around))


async def _tidy(present: Present, wanted: Present) -> None:
    """Delete the chains and sets of Services that are gone."""
    chains = [name for name in present.chains if name not in wanted.chains]
    sets = sorted(present.sets - wanted.sets)
    lines = [f"flush chain {_at(name)}" for name in chains] + [f"delete chain {_at(name)}" for name in chains]
    lines += [f"delete {'set' if name[1].startswith('aff-') else 'map'} {_at(name)}" for name in sets]
    if lines:
        await nft.apply("".join(f"{line}\n" for line in lines))


def _at(name: tuple[Family, str]) -> str:
    return f"{name[0]} {TABLE} {name[1]}"
