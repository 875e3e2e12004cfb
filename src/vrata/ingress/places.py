"""What a row of the route maps says: `slot`, or `slot[+canary's slot][|fallback's slot]/policy[/new path]`. Pure.

The policy is a name only, a digest of its content: a row of the map `policies` that never changes, so that a route has
all of its old settings or all of its new ones, and nothing between.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from vrata.ingress.endpoints import HASH, OPAQUE, TCP, words_of
from vrata.ingress.model import REDIRECT, BackendKey, Place, Policy, Route, Scheme, Slot

# The host's paths are patterns: its routes are in the map of those.
PATTERNS = Place("~")
PLAIN = "p-0"  # nothing but a new path


class Kind(StrEnum):
    """How a slot chooses among its pods; the first letter of its name.

    In turn; by what the policy hashes; the one that the client's cookie names, else as before; of TCP in turn.
    """

    ROUND_ROBIN = "b"
    HASH = "h"
    COOKIE = "c"
    TCP = "t"


# Slots that are nothing but the defaults of their kind, which is what HAProxy 3.4 can add while it runs.
LIVE = frozenset(Kind) - {Kind.COOKIE}
_SLOT = re.compile(rf"[{''.join(Kind)}]-[0-9]{{6}}", re.ASCII)


def kind_of(backend: BackendKey) -> Kind:
    """The kind of slot that a backend takes."""
    words = words_of(backend)
    kinds = ((TCP, Kind.TCP), (OPAQUE, Kind.COOKIE), (HASH, Kind.HASH))
    return next((kind for word, kind in kinds if word in words), Kind.ROUND_ROBIN)


def slot_name(number: int, kind: Kind = Kind.ROUND_ROBIN) -> Slot:
    """Names of slots sort by number."""
    return Slot(f"{kind}-{number:06d}")


def further_slots(slots: Iterable[Slot], kind: Kind, count: int) -> list[Slot]:
    """Names for so many more slots of a kind than there are."""
    first = max((int(slot[2:]) + 1 for slot in slots if slot[0] == kind), default=0)
    return [slot_name(number, kind) for number in range(first, first + count)]


def is_slot(name: str) -> bool:
    """Whether a backend of HAProxy is one."""
    return bool(_SLOT.fullmatch(name))


def policy_name(policy: Policy) -> str:
    """The key of its row."""
    return f"p-{hashlib.blake2s(policy.encode(), digest_size=8).hexdigest()}" if policy else PLAIN


def place(route: Route, scheme: Scheme, slots: Mapping[BackendKey, Slot]) -> Place:
    """Where a row leads."""
    if route.through or (route.https_only and scheme is Scheme.HTTP):
        return REDIRECT
    text: str = slots[route.backend]
    text += f"+{slots[route.canary]}" if route.canary else ""
    text += f"|{slots[route.fallback]}" if route.fallback else ""
    plain = not (route.policy or route.rewrite or route.fallback)
    return Place(text if plain else f"{text}/{policy_name(route.policy)}{route.rewrite}")
