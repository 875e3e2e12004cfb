"""Carries out planned calls in the cloud, one after the other."""

import structlog

from vrata.provider.call import Call, Json
from vrata.provider.cloud import Cloud, CloudError

NO_ROOM = 409

log = structlog.get_logger(__name__)


async def apply_call(cloud: Cloud, call: Call) -> Json:
    """Do one call and return the answer; CloudError if the cloud refuses. Deleting what is gone already is done."""
    log.info("cloud", method=call.method, path=call.path, reason=call.reason)
    bodies = [call.body, *call.instead]
    for number, body in enumerate(bodies, 1):
        try:
            return await cloud.request(call.method, call.service, call.path, params=dict(call.params), body=body)
        except CloudError as error:
            if call.method == "DELETE" and error.status == 404:
                return {}
            if error.status != NO_ROOM or number == len(bodies):
                raise
    raise AssertionError("unreachable: the last body returns or raises")
