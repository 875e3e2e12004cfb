"""Carries out planned calls in the cloud: what it refuses for itself does not hold up what is independent of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from vrata.provider.call import BALANCING, Call, Json
from vrata.provider.cloud import Cloud, CloudError

NO_ROOM = 409
_BUSY = re.compile("immutable|Invalid state PENDING")  # what Octavia says of load balancers that it is changing
_OF_THE_CALL = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Applied:
    """What came of a plan: the answers, and the first refusal of a call for itself."""

    answers: tuple[Json, ...] = ()
    refused: CloudError | None = None
    made_room: Call | None = None  # this one's `room` was carried out in its place
    put_back: Call | None = None  # this one was refused, and its `otherwise` was not


def is_busy(error: CloudError) -> bool:
    """Whether the cloud is at work on that load balancer: no fault, but a reason to come again."""
    return error.status == HTTPStatus.CONFLICT and _BUSY.search(str(error)) is not None


async def apply_plan(cloud: Cloud, calls: Iterable[Call], later: Iterable[Call]) -> Applied:
    """All `calls`; if the write to the load balancer is refused, the first one of `later` that is not.

    A load balancer takes one write at a time. Calls for the address depend on each other, so a refusal ends them. CloudError
    if nothing could be written, and for what is no answer to the call itself (an outage, a login that ended).
    """
    planned = list(calls)
    address = [call for call in planned if call.service != BALANCING]
    balancing = [call for call in planned if call.service == BALANCING]
    answers: list[Json] = []
    refused: CloudError | None = None
    try:
        answers += [await _apply_in_place(cloud, call) for call in address]
    except CloudError as error:
        if not is_of_the_call(error):
            raise
        refused = error
    for call in [*balancing, *later] if balancing else []:
        try:
            answers.append(await apply_call(cloud, call))
            return Applied(tuple(answers), refused)
        except CloudError as error:
            if not is_of_the_call(error):
                raise
            if call.room and error.status == NO_ROOM:
                return Applied((*answers, await apply_call(cloud, call.room)), refused, made_room=call)
            if call.otherwise:
                answers.append(await apply_call(cloud, call.otherwise))
                return Applied(tuple(answers), refused or error, put_back=call)
            refused = refused or error
    if refused:
        raise refused
    return Applied(tuple(answers))


async def _apply_in_place(cloud: Cloud, call: Call) -> Json:
    """Room is made only once the cloud has nothing else against the call; what made room comes back if it has after all."""
    try:
        return await apply_call(cloud, call)
    except CloudError as error:
        if not call.room or error.status != NO_ROOM:
            raise
    await apply_call(cloud, call.room)
    try:
        return await apply_call(cloud, call)
    except CloudError:
        if call.otherwise:
            await apply_call(cloud, call.otherwise)
        raise


def is_of_the_call(error: CloudError) -> bool:
    """Whether it is the answer to one call: others may succeed."""
    return error.status in _OF_THE_CALL and not is_busy(error)


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
