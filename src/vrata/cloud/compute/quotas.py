"""Compute's quotas: none, for nothing is started; shown, for clients ask (Nova v2.1, «Quota sets»)."""

from vrata.cloud.compute.access import answer, project
from vrata.cloud.http import Answer, ApiError, Call

NAMES = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members")


def show(call: Call) -> Answer:
    """Of a project: the caller's own, or any for an administrator."""
    return answer(call, {"quota_set": {"id": _asked(call), **dict.fromkeys(NAMES, -1)}})


def detail(call: Call) -> Answer:
    """The same with what is in use, which nobody counts."""
    every = {name: {"limit": -1, "in_use": 0, "reserved": 0} for name in NAMES}
    return answer(call, {"quota_set": {"id": _asked(call), **every}})


def _asked(call: Call) -> str:
    asked = call.path["id"]
    if asked != project(call) and not call.caller.admin:
        raise ApiError(403, "Policy doesn't allow this operation to be performed.")
    return asked
