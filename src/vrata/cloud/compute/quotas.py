"""Compute's quotas and limits: none, for nothing is started; shown, for clients ask (Nova v2.1, «Quota sets», «Limits»)."""

import sqlalchemy as sa

from vrata.cloud.compute import tables as t
from vrata.cloud.compute.access import answer, microversion, project
from vrata.cloud.compute.queries import refuse_unknown
from vrata.cloud.http import Answer, ApiError, Call

NAMES = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members")
# What is Neutron's and Glance's business in newer microversions: shown before the one that is named here.
OLDER = {
    (2, 36): ("fixed_ips", "floating_ips", "security_groups", "security_group_rules"),
    (2, 57): ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes"),
}
LIMITS = ("maxTotalInstances", "maxTotalCores", "maxTotalRAMSize", "maxTotalKeypairs", "maxServerMeta", "maxServerGroups",
          "maxServerGroupMembers")  # fmt: skip
OLDER_LIMITS = {
    (2, 36): ("maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"),
    (2, 39): ("maxImageMeta",),
    (2, 57): ("maxPersonality", "maxPersonalitySize"),
}


def _names(call: Call, names: tuple[str, ...], older: dict[tuple[int, int], tuple[str, ...]]) -> list[str]:
    asked = microversion(call)
    return [*names, *(name for until, more in older.items() if asked < until for name in more)]


def show(call: Call) -> Answer:
    """Of a project: the caller's own, or any for an administrator."""
    return answer(call, {"quota_set": {"id": _asked(call), **dict.fromkeys(_names(call, NAMES, OLDER), -1)}})


def detail(call: Call) -> Answer:
    """The same with what is in use, which nobody counts."""
    every = {name: {"limit": -1, "in_use": 0, "reserved": 0} for name in _names(call, NAMES, OLDER)}
    return answer(call, {"quota_set": {"id": _asked(call), **every}})


def limits(call: Call) -> Answer:
    """None, and what a project has."""
    refuse_unknown(call.query, {"tenant_id", "reserved"})
    call.path["id"] = dict(call.query).get("tenant_id") or project(call)
    query = sa.select(t.servers.c.flavor).where(t.servers.c.project_id == _asked(call))
    flavors = call.tx.column(query)
    used = {
        "totalInstancesUsed": len(flavors),
        "totalCoresUsed": sum(one["vcpus"] for one in flavors),
        "totalRAMUsed": sum(one["ram"] for one in flavors),
        "totalServerGroupsUsed": 0,
    }
    if microversion(call) < (2, 36):
        used |= {"totalFloatingIpsUsed": 0, "totalSecurityGroupsUsed": 0}
    absolute = dict.fromkeys(_names(call, LIMITS, OLDER_LIMITS), -1)
    return answer(call, {"limits": {"rate": [], "absolute": absolute | used}})


def _asked(call: Call) -> str:
    asked = call.path["id"]
    if asked != project(call) and not call.caller.admin:
        raise ApiError(403, "Policy doesn't allow this operation to be performed.")
    return asked
