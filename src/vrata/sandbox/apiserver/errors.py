"""Refusals in Kubernetes' own shape: `Status` objects with reason, details and causes.

Wording follows apimachinery's `api/errors` and `util/validation/field`, which clients match on. No I/O.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


class ApiError(Exception):
    """A request that is answered with a `Status` of failure."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Obj | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def status(self) -> Obj:
        """The `Status` object that goes to the client."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong; `message` begins with the kind of error, as in field.Error.ErrorBody."""

    reason: str
    field: str
    message: str


def _shown(value: object) -> str:
    return value if isinstance(value, _Raw) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class _Raw(str):
    __slots__ = ()


def invalid(field: str, value: object, detail: str) -> Cause:
    """`Invalid value: 7: detail`."""
    return Cause("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {detail}")


def required(field: str, detail: str = "") -> Cause:
    """`Required value`, with an optional detail."""
    return Cause("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def forbidden_field(field: str, detail: str) -> Cause:
    """`Forbidden: detail`."""
    return Cause("FieldValueForbidden", field, f"Forbidden: {detail}")


def duplicate(field: str, value: object) -> Cause:
    """`Duplicate value: "x"`."""
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def not_supported(field: str, value: object, options: Sequence[str]) -> Cause:
    """`Unsupported value: "x": supported values: "A", "B"`."""
    names = ", ".join(json.dumps(option) for option in options)
    return Cause("FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {names}")


def type_invalid(field: str, value: object, detail: str) -> Cause:
    """A value of the wrong type in a custom resource."""
    return Cause("FieldValueTypeInvalid", field, f"Invalid value: {_shown(value)}: {detail}")


def qualified(plural_or_kind: str, group: str) -> str:
    """`deployments.apps`, or `pods` for the core group."""
    return f"{plural_or_kind}.{group}" if group else plural_or_kind


def _details(name: str, group: str, kind: str, **more: object) -> Obj:
    details: Obj = {"name": name, "group": group, "kind": kind, **more}
    return {key: value for key, value in details.items() if value}


def object_invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with every cause; the message names the only one, or all in brackets."""
    parts = [f"{cause.field}: {cause.message}" for cause in causes]
    text = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    details = _details(
        name,
        group,
        kind,
        causes=[{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
    )
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404 for one object."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(name, group, plural))


def no_such_path() -> ApiError:
    """404 for a path that no resource serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409 on create."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(name, group, plural))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(plural: str, group: str, name: str, why: str = MODIFIED) -> ApiError:
    """409 on a stale resourceVersion or an unmet precondition."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, group, plural))


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str, causes: list[Obj] | None = None) -> ApiError:
    """403."""
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(name, group, plural, causes=causes))


def unauthorized() -> ApiError:
    """401."""
    return ApiError(401, "Unauthorized", "Unauthorized", headers={"WWW-Authenticate": "Bearer"})


def gone(message: str) -> ApiError:
    """410: the resource version asked for is older than what is kept."""
    return ApiError(410, "Expired", message)


def internal(message: str) -> ApiError:
    """500: the server could not do it; nothing was changed."""
    causes = [{"message": message}]
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": causes})


def method_not_allowed() -> ApiError:
    """405."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415."""
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", message)
