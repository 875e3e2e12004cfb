"""An admission webhook: says what is wrong with an Ingress before it is taken in (admission.k8s.io/v1, AdmissionReview).

The same reading as the controller's, so what is let in here is served there, and an Ingress that nobody of ours serves is
none of its business.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vrata.ingress.claims import is_ours, read_ingress
from vrata.kube.objects import Ingress, IngressClass

Json = dict[str, Any]
Classes = Mapping[str, IngressClass]
MOST_BYTES = 4 * 1024 * 1024
UNPROCESSABLE = 422


def review(body: Json, classes: Classes) -> Json:
    """The answer to one question; ValueError for what is no question."""
    try:
        asked = body["request"]
        uid, entry = str(asked["uid"]), asked.get("object")
    except (KeyError, TypeError, AttributeError):
        raise ValueError("send an AdmissionReview with a request") from None
    answer: Json = {"uid": uid, "allowed": True}
    if entry and asked.get("operation") in ("CREATE", "UPDATE"):
        denied, warnings = _judge(entry, classes)
        if denied:
            message = "; ".join(denied)
            answer |= {"allowed": False, "status": {"code": UNPROCESSABLE, "reason": "Invalid", "message": message}}
        elif warnings:
            answer["warnings"] = warnings
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _judge(entry: Json, classes: Classes) -> tuple[list[str], list[str]]:
    """What keeps an Ingress out, and what is only said."""
    try:
        ingress = msgspec.convert(entry, Ingress)
    except msgspec.ValidationError as error:
        return [str(error)], []
    mine, problem = is_ours(ingress, classes)
    if not mine:
        return [], [problem.message] if problem else []
    claims = read_ingress(ingress)
    messages = [one.message for one in claims.problems]
    wrong = claims.left_out or any(one.reason.startswith("Invalid") for one in claims.problems)
    return (messages, []) if wrong else ([], messages)


def webhook(classes: Callable[[], Classes]) -> Starlette:
    """`POST /validate`; `GET /healthz`."""

    async def validate(request: Request) -> Response:
        text = await request.body()
        try:
            if len(text) > MOST_BYTES:
                raise ValueError(f"send at most {MOST_BYTES} bytes")
            return JSONResponse(review(msgspec.json.decode(text), classes()))
        except (ValueError, msgspec.DecodeError) as error:
            return JSONResponse({"message": str(error)}, status_code=400)

    async def healthz(_request: Request) -> Response:
        return Response("ok\n")

    return Starlette(routes=[Route("/validate", validate, methods=["POST"]), Route("/healthz", healthz)])
