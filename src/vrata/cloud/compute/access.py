"""How compute words refusals, and who may do what; versions and links (Nova API guide, «Faults», «Microversions»)."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from vrata.cloud.http import Answer, ApiError, Call, Dialect
from vrata.cloud.store import Row

LEAST, NEWEST = (2, 1), (2, 79)
PAGE = 1000  # rows of a list
_VERSION = re.compile(r"(?:compute )?(\d{1,2})\.(\d{1,4})")
_FAULTS = {400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}

DIALECT = Dialect(
    "compute",
    lambda error: {_FAULTS.get(error.status, "computeFault"): {"code": error.status, "message": error.message}},
    "Malformed request body",
)


def project(call: Call, *, write: bool = False) -> str:
    """The caller's project; 403 unless its role allows that much."""
    caller = call.caller
    if caller.project_id is None or not (caller.may_write() if write else caller.may_read()):
        raise ApiError(403, "Policy doesn't allow this operation to be performed.")
    return caller.project_id


def operator(call: Call) -> None:
    """403 for all but administrators: a server here is a machine that somebody has, not one that is started."""
    if not call.caller.admin:
        raise ApiError(403, "This cloud starts no machines: an administrator registers those that exist as servers.")


def microversion(call: Call) -> tuple[int, int]:
    """The version the caller asked for; 406 for one that is not served."""
    given = call.headers.get("openstack-api-version") or call.headers.get("x-openstack-nova-api-version") or ""
    if given.endswith("latest"):
        return NEWEST
    found = _VERSION.fullmatch(given)
    asked = (int(found[1]), int(found[2])) if found else LEAST
    if not LEAST <= asked <= NEWEST:
        raise ApiError(406, f"Version {given} is not supported by the API. Minimum is 2.1 and maximum is 2.79.")
    return asked


def answer(call: Call, body: Any, status: int = 200) -> Answer:
    """An answer in the version that was asked for."""
    said = ".".join(map(str, microversion(call)))
    headers = {"openstack-api-version": f"compute {said}", "x-openstack-nova-api-version": said}
    return Answer(status, body, headers | {"vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version"})


def next_link(call: Call, shown: Sequence[Row]) -> dict[str, str]:
    """Where the page after these rows is."""
    query = [*((key, value) for key, value in call.query if key != "marker"), ("marker", shown[-1]["id"])]
    return {"rel": "next", "href": f"{call.url}?{urlencode(query)}"}


def links(call: Call, path: str) -> list[dict[str, str]]:
    """Where a resource is."""
    return [
        {"rel": "self", "href": f"{call.base_url}/compute/v2.1/{path}"},
        {"rel": "bookmark", "href": f"{call.base_url}/compute/{path}"},
    ]
