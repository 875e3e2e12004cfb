"""What a row of the route maps says: `slot`, or `slot[+canary's slot]/policy[/new path]`. Pure.

The policy is a name only, a digest of its content: a row of the map `policies` that never changes, so that a route has
all of its old settings or all of its new ones, and nothing between.
"""

import hashlib
from collections.abc import Mapping

from vrata.ingress.model import REDIRECT, BackendKey, Place, Policy, Route, Scheme, Slot

# The host's paths are patterns: its routes are in the map of those.
PATTERNS = Place("~")
PLAIN = "p-0"  # nothing but a new path


def policy_name(policy: Policy) -> str:
    """The key of its row."""
    return f"p-{hashlib.blake2s(policy.encode(), digest_size=8).hexdigest()}" if policy else PLAIN


def place(route: Route, scheme: Scheme, slots: Mapping[BackendKey, Slot]) -> Place:
    """Where a row leads."""
    if route.https_only and scheme is Scheme.HTTP:
        return REDIRECT
    text = "+".join(slots[backend] for backend in route.backends())
    return Place(f"{text}/{policy_name(route.policy)}{route.rewrite}" if route.policy or route.rewrite else text)
