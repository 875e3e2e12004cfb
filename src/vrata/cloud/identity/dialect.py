"""How Keystone words an error."""

from http import HTTPStatus

from vrata.cloud.http import ApiError, Dialect


def _body(error: ApiError) -> object:
    title = error.kind or HTTPStatus(error.status).phrase
    return {"error": {"code": error.status, "message": error.message, "title": title}}


DIALECT = Dialect(
    "identity",
    _body,
    "Expecting to find valid JSON in the request body. The server could not comply with the request since it is "
    "either malformed or otherwise incorrect. The client is assumed to be in error.",
)
