"""What can be done about what the cloud refused, and whether trying again can help: pure."""

import re
from http import HTTPStatus

# What the services say (Octavia 403, Neutron 409 for a quota; Neutron's IpAddressGenerationFailure), and what to do.
_SAID = (
    (re.compile("quota", re.IGNORECASE), "delete what is not needed, or have the project's quota raised"),
    (
        re.compile(r"no more ip addresses|no available ip|address.*(exhausted|generation)", re.IGNORECASE),
        "free addresses, or name another subnet (annotation subnet-id, floating-subnet or floating-subnet-id)",
    ),
)
_PERMISSION = "give the user of the cloud's configuration the roles member and load-balancer_member in the project"
_REQUEST = "correct what the Service or the configuration asks for"
# Nothing but another request helps.
FINAL = frozenset({400, 405, 413, 501})


def remedy(status: int, said: str) -> str:
    """What to do about a refusal with this HTTP status and sentence."""
    for pattern, what in _SAID:
        if pattern.search(said):
            return f"{what}; it is tried again, less and less often"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{_PERMISSION}; it is tried again, less and less often"
    if status in FINAL:
        return f"{_REQUEST}; it is not tried again until that changes"
    return "it is tried again, less and less often"


def can_help(status: int, said: str) -> bool:
    """Whether the same request may succeed later: a quota is raised, an address freed, a role given."""
    return status not in FINAL or any(pattern.search(said) for pattern, _ in _SAID)
