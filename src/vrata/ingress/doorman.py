"""Answers HAProxy whether a password is right, over a socket in its directory.

HAProxy 2.6 checks hashes only of lists that a reload brings. It asks here once for each password and remembers a yes
(`policy.lua`): who has been let in stays in while this process is away.
"""

import asyncio
import base64
import socket
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vrata.base.asgi import serve_http
from vrata.ingress.render import DOORMAN
from vrata.ingress.users import Users, is_right

AT_ONCE, WAITING = 2, 32  # a hash takes its time on purpose; in all, and waiting for each list of users

Find = Callable[[str, str], Users | None]


def doorman(find: Find) -> Starlette:
    """`GET /{namespace}/{name}/{version}` with the client's Authorization; `find(key, version)` has the users."""
    turn = asyncio.Semaphore(AT_ONCE)
    # Of one list, and of one namespace, passwords are checked one by one: guesses keep nobody else waiting.
    turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    waiting: Counter[str] = Counter()

    async def answer(request: Request) -> Response:
        path = request.path_params
        key = f"{path['namespace']}/{path['name']}"
        users = find(key, path["version"])
        given = _given(request.headers.get("authorization", ""))
        if users is None or waiting[key] >= WAITING:
            return Response(status_code=503)
        if given is None:
            return Response(status_code=401)
        waiting[key] += 1
        try:
            async with turns[key], turns[path["namespace"]], turn:
                if await request.is_disconnected():  # HAProxy has waited long enough
                    return Response(status_code=503)
                right = await asyncio.to_thread(is_right, users, *given)
        finally:
            waiting[key] -= 1
        return Response(status_code=204 if right else 401)

    return Starlette(routes=[Route("/{namespace}/{name}/{version}", answer)])


def _given(header: str) -> tuple[str, str] | None:
    """User and password of Basic credentials (RFC 7617)."""
    scheme, _, text = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no text
        return None
    return (user, password) if scheme.lower() == "basic" and colon else None


async def run(find: Find, directory: Path) -> None:
    """Answer until cancelled."""
    path = directory / DOORMAN
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(128)
        await serve_http(doorman(find), [listener], lifespan="off")
