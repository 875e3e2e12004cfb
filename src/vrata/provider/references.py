"""TLS references of listeners: which of them the key manager must be asked about before they are written. Pure."""

import re

from vrata.base.errors import InvalidInput
from vrata.provider.model import Desired, Observed

_PATH = re.compile(r"https?://.*/(containers|secrets)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/?", re.IGNORECASE)


def new_references(desired: Desired, balancer: Observed | None) -> list[str]:
    """Those that no listener has yet; none while it can not be seen which ones they have."""
    if balancer and balancer.provisioning_status != "ACTIVE":
        return []
    known = {one.tls_ref for one in balancer.listeners} if balancer else set()
    wanted = {one.tls_ref for one in desired.listeners if one.tls_ref}
    return sorted(wanted - known)


def reference_path(reference: str, field: str) -> str:
    """Where the key manager has it (Barbican API v1); InvalidInput, with who named it, for what is none of its addresses."""
    found = _PATH.fullmatch(reference)
    if not found:
        remedy = (
            "name …/v1/containers/ID or …/v1/secrets/ID; for another store say container-store=external in cloud.conf"
        )
        raise InvalidInput(field, reference[:200], remedy)
    return f"/v1/{found[1].lower()}/{found[2].lower()}"
