"""An admission webhook: says what is wrong with an Ingress before it is taken in (admission.k8s.io/v1, AdmissionReview).

The same reading as the controller's, so what is let in here is served there, and an Ingress that nobody of ours serves is
none of its business. A host that another namespace has is refused, also to an older Ingress, whose age would take it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vrata.base.asgi import TooLong, read_limited
from vrata.ingress.claims import is_ours, read_ingress
from vrata.ingress.rows import ANY
from vrata.ingress.table import Table
from vrata.kube.objects import Ingress, IngressClass

Json = dict[str, Any]
Classes = Mapping[str, IngressClass]
MOST_BYTES = 4 * 1024 * 1024
UNPROCESSABLE = 422


def review(body: Json, classes: Classes, served: Table, *, passthrough: bool = False) -> Json:
    """The answer to one question, by what is served already; ValueError for what is no question.

    `passthrough`: as the controller was started.
    """
    try:
        asked = body["request"]
        uid, entry = str(asked["uid"]), asked.get("object")
    except (KeyError, TypeError, AttributeError):
        raise ValueError("send an AdmissionReview with a request") from None
    answer: Json = {"uid": uid, "allowed": True}
    if entry and asked.get("operation") in ("CREATE", "UPDATE"):
        denied, warnings = _judge(entry, classes, served, passthrough=passthrough)
        if denied:
            message = "; ".join(denied)
            answer |= {"allowed": False, "status": {"code": UNPROCESSABLE, "reason": "Invalid", "message": message}}
        elif warnings:
            answer["warnings"] = warnings
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _judge(entry: Json, classes: Classes, served: Table, *, passthrough: bool) -> tuple[list[str], list[str]]:
    """What keeps an Ingress out, and what is only said."""
    try:
        ingress = msgspec.convert(entry, Ingress)
    except msgspec.ValidationError as error:
        return [str(error)], []
    mine, problem = is_ours(ingress, classes)
    if not mine:
        return [], [problem.message] if problem else []
    claims = read_ingress(ingress, passthrough=passthrough)
    key, namespace = ingress.metadata.key, ingress.metadata.namespace
    taken = [host for host in sorted(claims.named) if served.namespace_of(host) not in ("", namespace)]
    # What is refused already may be written again: its finalizers, say.
    wrong = claims.left_out or bool(set(taken) - served.names(key))
    wrong = wrong or any(one.reason.startswith("Invalid") for one in claims.problems)
    messages = [one.message for one in claims.problems]
    messages += [
        f"spec.rules: {'every host' if host == ANY else f'the host {host}'} belongs to another namespace; use another host"
        for host in taken
    ]
    return (messages, []) if wrong else ([], messages)


def webhook(classes: Callable[[], Classes], served: Table, *, passthrough: bool = False) -> Starlette:
    """`POST /validate`; `GET /healthz`."""

    async def validate(request: Request) -> Response:
        try:
            text = await read_limited(request, MOST_BYTES)
            return JSONResponse(review(msgspec.json.decode(text), classes(), served, passthrough=passthrough))
        except TooLong as error:
            return JSONResponse({"message": str(error)}, status_code=413)
        except (ValueError, msgspec.DecodeError) as error:
            return JSONResponse({"message": str(error)}, status_code=400)

    async def healthz(_request: Request) -> Response:
        return Response("ok\n")

    return Starlette(routes=[Route("/validate", validate, methods=["POST"]), Route("/healthz", healthz)])
