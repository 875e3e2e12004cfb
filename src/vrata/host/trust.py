"""Decides whether a host takes a desired set as it comes. Pure.

A database that is empty, restored from an older copy, or simply another one sends sets that lack what the host runs.
Traffic must not depend on the control plane, so such a set changes nothing: the host keeps every instance, says so in
its reports, and takes the set only when an administrator tells it to (`vrata hosts adopt`).
"""

from collections.abc import Collection, Mapping

import msgspec

from vrata.base.wire import DesiredInstance, DesiredSet, Refusal

ADOPT = "compare the cloud's database; `vrata hosts adopt HOST` takes what it says"


def refuse(
    last: DesiredSet | None, carried: Collection[str], received: DesiredSet, refusal: Refusal | None, new_id: str
) -> Refusal | None:
    """The refusal of a set that is not to be trusted, None for one that is.

    `last` is what the host took, `carried` the ids of what it runs, `refusal` the one that is in force, `new_id` the id of
    a new one. A database that lost changes stays refused when its revision has caught up: that does not bring them back.
    """
    if not carried or (refusal is not None and received.adopt == refusal.id):
        return None
    lost_changes = refusal is not None and refusal.lost_changes
    reason = None
    if last is not None and last.database and received.database:
        if received.database != last.database:
            reason = f"the set comes from database {received.database}, not from {last.database}; {ADOPT}"
        elif received.revision < last.revision:
            lost_changes = True
            reason = f"the set has revision {received.revision}, and {last.revision} was seen before; {ADOPT}"
        elif older := first_older(last, received):
            lost_changes = True
            reason = f"the set has {older}; {ADOPT}"
        elif refusal is not None and lost_changes:
            reason = refusal.reason
    named = {*(one.id for one in received.instances), *received.broken, *received.leaving}
    missing = [instance_id for instance_id in carried if instance_id not in named]
    if reason is None and 2 * len(missing) > len(carried):
        reason = f"the set lacks {len(missing)} of {len(carried)} instances that run here; {ADOPT}"
    if reason is None:
        return None
    return Refusal(id=refusal.id if refusal else new_id, reason=reason, lost_changes=lost_changes)


def first_older(last: DesiredSet, received: DesiredSet) -> str | None:
    """An instance whose generation went back, which no change does: a restored database whose revision has caught up."""
    known = {one.id: one.generation for one in last.instances}
    for one in received.instances:
        if one.generation < known.get(one.id, 0):
            return f"generation {one.generation} of instance {one.id}, and {known[one.id]} was seen before"
    return None


def with_broken(received: DesiredSet, known: Mapping[str, DesiredInstance]) -> DesiredSet:
    """The set, with what the cloud could not build as it was before."""
    kept = tuple(known[instance_id] for instance_id in received.broken if instance_id in known)
    return msgspec.structs.replace(received, instances=(*received.instances, *kept)) if kept else received
