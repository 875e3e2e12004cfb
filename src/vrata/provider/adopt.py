"""Which of the cloud's load balancers is this Service's: pure.

The one that an annotation names, else one of its name that carries this cluster's mark, else one of its name that is proved
by the address it has had, or one that controllers of long ago named by the Service's uid: two clusters of one name in a
project must not take each other's. A load balancer may serve several Services; its tags name them, and its own name the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vrata.base.errors import InvalidInput
from vrata.kube.objects import Service
from vrata.provider.annotations import BALANCER_ID
from vrata.provider.model import Desired, Observed

MADE = "kube_service_"
OWNER_TAG = "vrata.dev/cluster="  # and the uid of the cluster's namespace kube-system


@dataclass(frozen=True)
class Found:
    """The Service's load balancer, and ids of namesakes that are somebody else's or not provably ours."""

    balancer: Observed | None
    namesakes: tuple[str, ...] = ()


def choose(desired: Desired, candidates: Sequence[Observed], addresses: Iterable[str]) -> Found:
    """`candidates`: of this name, or with the id asked for. `addresses`: that the Service is known to have had.

    InvalidInput if the annotation names one that is not there and never was ours.
    """
    named = next((one for one in candidates if one.id == desired.balancer_id), None)
    if named:
        return Found(named)
    if desired.balancer_id and not desired.known_address:
        raise InvalidInput(f"annotation {BALANCER_ID}", desired.balancer_id, "name a load balancer of this project")
    same = [one for one in candidates if one.name == desired.name or is_legacy(desired, one)]
    known = set(addresses)
    mine = [one for one in same if _is_mine(desired, one, known)]
    return Found(mine[0] if mine else None, tuple(one.id for one in same if one not in mine))


def is_legacy(desired: Desired, one: Observed) -> bool:
    """Whether its name is the Service's uid."""
    return bool(desired.legacy_name) and one.name == desired.legacy_name


def _is_mine(desired: Desired, one: Observed, known: set[str]) -> bool:
    if is_legacy(desired, one):
        return True
    if not desired.owner_tag or desired.owner_tag in one.tags:
        return True
    marked = any(tag.startswith(OWNER_TAG) for tag in one.tags)
    return not marked and one.vip_address in known


def is_renamed(desired: Desired, balancer: Observed) -> bool:
    """Whether it was made for this very Service under another name of the cluster, or by its uid."""
    if is_legacy(desired, balancer):
        return True
    suffix = "_".join(desired.name.rsplit("_", 2)[1:])  # neither namespaces nor names have an underscore
    made = balancer.name.startswith(MADE) and balancer.name.endswith(f"_{suffix}")
    theirs = any(tag.startswith(OWNER_TAG) and tag != desired.owner_tag for tag in balancer.tags)
    others = {tag for tag in balancer.tags if tag.startswith(MADE)}
    return made and not theirs and balancer.name != desired.name and others <= {balancer.name}


def is_guest(desired: Desired, balancer: Observed) -> bool:
    """Whether the load balancer was made for another Service, or by a person."""
    return balancer.name != desired.name and not is_renamed(desired, balancer)


def address_hints(desired: Desired, service: Service) -> set[str]:
    """Addresses that the Service has had, as the Service itself tells."""
    told = {entry.ip for entry in service.status.load_balancer.ingress if entry.ip}
    return told | ({desired.known_address} if desired.known_address else set())
