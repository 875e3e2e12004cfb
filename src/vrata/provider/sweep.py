"""Finds what a deleted cluster left in the cloud, by the names and descriptions that everything of it has: pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from vrata.provider.adopt import MADE
from vrata.provider.call import Call, balancing, network
from vrata.provider.desired import FLOATING_FOR
from vrata.provider.groups import Group, Port, plan_no_group
from vrata.provider.rows import Rows

REASON = "its cluster is gone"


@dataclass(frozen=True)
class Leftover:
    """One thing, and the calls that remove it; none: it is others', too."""

    what: str
    name: str
    detail: str
    calls: tuple[Call, ...]


def plan_sweep(cluster: str, rows: Rows, groups: Iterable[Group], ports: Iterable[Port]) -> list[Leftover]:
    """Load balancers first, so that addresses and groups are free when their turn comes."""
    prefix, end = f"{MADE}{cluster}_", f" from cluster {cluster}"
    found = []
    for row in rows.balancers.values():
        # Neither a namespace nor a Service has an underscore in its name; a cluster may.
        if row["name"].startswith(prefix) and row["name"].removeprefix(prefix).count("_") == 1:
            others = [tag for tag in row.get("tags") or () if tag.startswith(MADE) and not tag.startswith(prefix)]
            call = balancing("DELETE", f"/loadbalancers/{row['id']}", REASON, cascade="true")
            detail = f"also used by {', '.join(others)}" if others else row["vip_address"]
            found.append(Leftover("load balancer", row["name"], detail, () if others else (call,)))
    for row in rows.floating:
        said = row.get("description") or ""
        if said.startswith(FLOATING_FOR) and said.endswith(end):
            call = network("DELETE", f"/floatingips/{row['id']}", REASON)
            service = said.removeprefix(FLOATING_FOR).removesuffix(end)
            found.append(Leftover("floating IP", row["floating_ip_address"], service, (call,)))
    left = list(ports)
    for group in groups:
        if group.name.startswith("lb-sg-") and group.description.endswith(end):
            guarded = sum(group.id in port.groups for port in left)
            calls = tuple(plan_no_group(group, left))
            found.append(Leftover("security group", group.name, f"on {guarded} ports", calls))
    return found
