"""What a row of the route maps says: `slot`, or `slot[+canary's slot][|fallback's slot]/policy[/new path]`. Pure.

The policy is a name only, a digest of its content: a row of the map `policies` that never changes, so that a route has
all of its old settings or all of its new ones, and nothing between.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache

from vrata.ingress.endpoints import HASH, OPAQUE, SLOW, TCP, TLS, words_of
from vrata.ingress.model import REDIRECT, BackendKey, Place, Policy, Route, Scheme, Slot

# The host's paths are patterns: its routes are in the map of those.
PATTERNS = Place("~")
ROW_BYTES = 12_000  # of what one row may bring (`vrata.haproxy.runtime`)
PLAIN = "p-0"  # nothing but a new path


class Kind(StrEnum):
    """How a slot chooses among its pods, and how long connecting may take; the first letter of its name.

    In turn; by what the policy hashes; the one that the client's cookie names, else as before; of TCP in turn. The first three
    again for pods that speak TLS, whose handshake HAProxy counts as connecting; and again for those that may take longer still.
    """

    ROUND_ROBIN = "b"
    HASH = "h"
    COOKIE = "c"
    TCP = "t"
    TLS_ROUND_ROBIN = "B"
    TLS_HASH = "H"
    TLS_COOKIE = "C"
    SLOW_ROUND_ROBIN = "r"
    SLOW_HASH = "s"
    SLOW_COOKIE = "u"


PLAIN_KINDS = (Kind.ROUND_ROBIN, Kind.HASH, Kind.COOKIE)
TLS_KINDS = (Kind.TLS_ROUND_ROBIN, Kind.TLS_HASH, Kind.TLS_COOKIE)
SLOW_KINDS = (Kind.SLOW_ROUND_ROBIN, Kind.SLOW_HASH, Kind.SLOW_COOKIE)
COOKIE_KINDS = frozenset({Kind.COOKIE, Kind.TLS_COOKIE, Kind.SLOW_COOKIE})
# Slots that are nothing but the defaults of their kind, which is what HAProxy 3.4 can add while it runs.
LIVE = frozenset(Kind) - COOKIE_KINDS
_SLOT = re.compile(rf"[{''.join(Kind)}]-[0-9]{{6}}", re.ASCII)


def kind_of(backend: BackendKey) -> Kind:
    """The kind of slot that a backend takes."""
    words = words_of(backend)
    if TCP in words:
        return Kind.TCP
    in_turn, hashed, by_cookie = (SLOW_KINDS if SLOW in words else TLS_KINDS) if TLS in words else PLAIN_KINDS
    return by_cookie if OPAQUE in words else hashed if HASH in words else in_turn


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


@lru_cache(64)  # paths of an Ingress have the same one, which may be long
def policy_name(policy: Policy) -> str:
    """The key of its row."""
    return f"p-{hashlib.blake2s(policy.encode(), digest_size=8).hexdigest()}" if policy else PLAIN


def rows_of_policy(policy: Policy) -> dict[str, Policy]:
    """Its rows: one, or its parts by number and one that counts them, for a row has to fit into one of HAProxy's buffers."""
    name = policy_name(policy)
    if len(policy) <= ROW_BYTES:
        return {name: policy} if policy else {}
    parts, start = list[str](), 0
    while start < len(policy):
        end = start + ROW_BYTES
        while " " in policy[end - 1 : end + 1]:  # HAProxy drops blanks at the ends of a row; a word is `name=value`
            end -= 1
        parts.append(policy[start:end])
        start = end
    found = {f"{name}/{number}": Policy(part) for number, part in enumerate(parts, 1)}
    quiet = " quiet=1" if "quiet=1" in policy.split(" ") else ""  # the configuration looks for this
    return {**found, name: Policy(f"parts={len(parts)}{quiet}")}


def place(route: Route, scheme: Scheme, slots: Mapping[BackendKey, Slot]) -> Place:
    """Where a row leads."""
    if route.through or (route.https_only and scheme is Scheme.HTTP) or (route.http_only and scheme is Scheme.HTTPS):
        return REDIRECT  # over TLS that was ended here: 421, for this host's is not
    if route.miss:
        return route.miss
    text: str = slots[route.backend]
    text += f"+{slots[route.canary]}" if route.canary else ""
    text += f"|{slots[route.fallback]}" if route.fallback else ""
    plain = not (route.policy or route.rewrite or route.fallback)
    return Place(text if plain else f"{text}/{policy_name(route.policy)}{route.rewrite}")
