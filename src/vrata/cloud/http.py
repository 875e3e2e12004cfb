"""The frame every API of the cloud shares: a call in, an answer or an error out, exactly one transaction between.

A handler is a plain function of a `Call`; it runs in a store thread. An `ApiError` carries status and sentence;
the API's `Dialect` gives it the body its clients expect (Keystone, Neutron's NeutronError, Octavia's WSME fault).
Never here: what a resource means.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vrata.base import clock, ids
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store, Tx

log = structlog.get_logger()

BODY_MAX = 8 * 1024 * 1024
_UNAVAILABLE = "The database does not answer. Please try again."


class ApiError(Exception):
    """A refusal: HTTP status, the sentence for the user, and the type name where the API has one."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: resolved from a token, roles with what they imply."""

    user_id: str = ""
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    roles: frozenset[str] = frozenset()
    token_digest: str = ""
    application_credential_id: str | None = None
    restricted: bool = False  # by an application credential that may not manage credentials

    @property
    def admin(self) -> bool:
        """May do everything, in every project."""
        return "admin" in self.roles

    def may_read(self) -> bool:
        """Holds some role that reads its project."""
        return bool(self.roles & {"admin", "member", "reader", "service"})

    def may_write(self) -> bool:
        """Holds a role that changes its project."""
        return bool(self.roles & {"admin", "member"})


@dataclass(slots=True)
class Call:
    """One request, read and authenticated, inside its transaction."""

    tx: Tx
    caller: Caller
    settings: Settings
    method: str
    path: dict[str, str]
    query: list[tuple[str, str]]
    body: Any
    base_url: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """A boolean of the query string."""
        return dict(self.query).get(name, "").lower() in {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body (encoded as JSON; bytes as they are; None: empty) and headers."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """How one API words an error; `api` is its service type."""

    api: str
    body: Callable[[ApiError], Any]
    bad_json: str


Handler = Callable[[Call], Answer]
Authenticate = Callable[[Tx, str, datetime], Caller]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, its method, who serves it; `write` opens a transaction that may change things."""

    method: str
    path: str
    handler: Handler
    write: bool = False
    public: bool = False  # no token needed
    raw: bool = False  # the body is bytes, not JSON


def now() -> datetime:
    """Naive UTC, as the columns hold it."""
    return clock.now().astimezone(UTC).replace(tzinfo=None)


def encode(answer: Answer) -> Response:
    """The answer as a response; an empty one has no content type."""
    headers = {"x-openstack-request-id": f"req-{ids.new_uuid()}", **answer.headers}
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, headers)
    return Response(_json.encode(answer.body), answer.status, headers, "application/json")


_json = msgspec.json.Encoder(enc_hook=lambda value: value.isoformat() if isinstance(value, datetime) else str(value))


def base_url(request: Request, settings: Settings) -> str:
    """Where this client reaches the service: what it said, unless a public URL is set."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = request.headers.get("host", "localhost")
    return f"{request.headers.get('x-forwarded-proto', request.url.scheme)}://{host}"


async def read_body(request: Request, dialect: Dialect, *, raw_body: bool = False) -> Any:
    """The JSON body, or (`raw_body`) its bytes; None if there is none."""
    raw = await request.body()
    if len(raw) > BODY_MAX:
        raise ApiError(413, f"The request body is larger than {BODY_MAX} bytes.")
    if not raw:
        return None
    if raw_body:
        return raw
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, dialect.bad_json) from error


def unavailable(_request: Request, _error: Exception) -> Response:
    """What is said where no dialect is spoken while the database does not answer."""
    return Response(_UNAVAILABLE + "\n", 503, media_type="text/plain")


def failure(error: Exception, dialect: Dialect, request: Request) -> Response:
    """The response for an exception; one that is not a refusal is logged and hidden."""
    if isinstance(error, sa.exc.OperationalError):  # it restarts, is full, or is out of reach
        log.warning("database_failed", method=request.method, path=request.url.path, error=str(error.orig))
        error = ApiError(503, _UNAVAILABLE)
    if not isinstance(error, ApiError):
        log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
        error = ApiError(500, "An unexpected error prevented the server from fulfilling your request.")
    headers = {"www-authenticate": f'Keystone uri="{request.url.scheme}"'} if error.status == 401 else {}
    return encode(Answer(error.status, dialect.body(error), headers))


@dataclass(frozen=True)
class Frame:
    """What every endpoint needs to run."""

    store: Store
    settings: Settings
    authenticate: Authenticate
    answered: Callable[[str, str, int, float], None]  # API, method, status, seconds


def routes(endpoints: list[Endpoint], prefixes: tuple[str, ...], dialect: Dialect, frame: Frame) -> list[BaseRoute]:
    """Starlette routes for the endpoints under every prefix, one route a path."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint

    def route(prefix: str, path: str, methods: dict[str, Endpoint]) -> Route:
        async def serve(request: Request) -> Response:
            begun = clock.monotonic_s()
            method = "GET" if request.method == "HEAD" and "HEAD" not in methods else request.method
            try:
                if method not in methods:
                    raise ApiError(405, "The method is not allowed for this resource.")
                answer = encode(await _call(request, methods[method], dialect, frame))
            except Exception as error:  # noqa: BLE001 - the frame answers for every handler
                answer = failure(error, dialect, request)
            frame.answered(dialect.api, request.method, answer.status_code, clock.monotonic_s() - begun)
            return answer

        return Route(prefix + path, serve, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])

    return [route(prefix, path, methods) for prefix in prefixes for path, methods in by_path.items()]


async def _call(request: Request, endpoint: Endpoint, dialect: Dialect, frame: Frame) -> Answer:
    body = await read_body(request, dialect, raw_body=endpoint.raw)
    token = request.headers.get("x-auth-token", "")
    query = list(request.query_params.multi_items())
    settings, store = frame.settings, frame.store
    url = base_url(request, settings)

    def work(tx: Tx) -> Answer:
        caller = Caller() if endpoint.public else frame.authenticate(tx, token, now())
        call = Call(
            tx, caller, settings, endpoint.method, dict(request.path_params), query, body, url,
            url + request.url.path, dict(request.headers),
        )  # fmt: skip
        return endpoint.handler(call)

    run: Callable[[Callable[[Tx], Answer]], Awaitable[Answer]] = store.write if endpoint.write else store.read
    return await run(work)
