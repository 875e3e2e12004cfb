"""The frame every API of the cloud shares: a call in, an answer or an error out, exactly one transaction between.

A handler is a plain function of a `Call`; it runs in a store thread. An `ApiError` carries status and sentence;
the API's `Dialect` gives it the body its clients expect (Keystone, Neutron's NeutronError, Octavia's WSME fault).
Never here: what a resource means.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vrata.base import clock, ids
from vrata.base.asgi import TooLong, read_limited
from vrata.cloud.audit import Audit, Trace
from vrata.cloud.settings import Settings
from vrata.cloud.slow import Busy, Slow, SlowWork
from vrata.cloud.store import Store, Tx

log = structlog.get_logger()

T = TypeVar("T")

BODY_MAX = 1024 * 1024  # bytes; OpenStack services take 112 KiB
UNPROVED_MAX = 64 * 1024  # bytes, of a caller whose token has not been looked at
LONG = 8 * 1024  # bytes: longer bodies of writes are decoded and checked before their transaction, in turns
QUERY_MAX = 1000  # parameters
_NUL = re.compile(rb"\0|(?<!\\)(?:\\\\)*\\u0000")  # as it is, or escaped (RFC 8259, section 7)
_IDLE_IN_TRANSACTION = "25P03"  # PostgreSQL, appendix A
_UNAVAILABLE = "The database does not answer. Please try again."


class ApiError(Exception):
    """A refusal: HTTP status, the sentence for the user, and the type name where the API has one."""

    def __init__(self, status: int, message: str, kind: str = "", *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.retry_after_s = retry_after_s


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
    prepared: Any = None  # what the endpoint's `prepare` came to
    parsed: Callable[[], Any] = lambda: None  # what the endpoint's `parse` makes of the body; raises its refusal

    def flag(self, name: str) -> bool:
        """A boolean of the query string."""
        return dict(self.query).get(name, "").lower() in {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body (encoded as JSON; bytes as they are; None: empty) and headers.

    `later` makes a body that needs no database, after the transaction.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    later: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Dialect:
    """How one API words an error; `api` is its service type."""

    api: str
    body: Callable[[ApiError], Any]
    bad_json: str


Handler = Callable[[Call], Answer]
# Looks at a call in a transaction that changes nothing; what it returns costs processor time, and runs without any.
Prepare = Callable[[Call], Callable[[], Any] | None]
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
    prepare: Prepare | None = None  # before the transaction of the handler
    prepare_for: bytes = b""  # only if the body holds this
    parse: Callable[[Settings, Any], Any] | None = None  # of the decoded body; must not need the database


def now() -> datetime:
    """Naive UTC, as the columns hold it."""
    return clock.now().astimezone(UTC).replace(tzinfo=None)


def encode(answer: Answer, request_id: str) -> Response:
    """The answer as a response; an empty one has no content type."""
    headers = {"x-openstack-request-id": request_id, **answer.headers}
    if "location" in headers:  # what a client chose may be in it; nothing is escaped so far
        headers["location"] = quote(headers["location"], safe=_URL)
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, headers)
    return Response(_json.encode(answer.body), answer.status, headers, "application/json")


_URL = ":/?#[]@!$&'()*+,;="  # RFC 3986, section 2.2
_json = msgspec.json.Encoder(enc_hook=lambda value: value.isoformat() if isinstance(value, datetime) else str(value))


def base_url(request: Request, settings: Settings) -> str:
    """Where this client reaches the service: what it said, unless a public URL is set."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = request.headers.get("host", "localhost")
    return f"{request.headers.get('x-forwarded-proto', request.url.scheme)}://{host}"


async def read_body(request: Request, prove: Callable[[], Awaitable[object]] | None = None) -> bytes:
    """The body's bytes. What is too long is refused while it arrives; more than UNPROVED_MAX only after `prove`."""
    try:
        return await read_limited(request, BODY_MAX if prove else UNPROVED_MAX, UNPROVED_MAX, prove)
    except TooLong as error:
        raise ApiError(413, str(error)) from error
    except ClientDisconnect as error:
        raise ApiError(400, "The request ended before its body did.") from error


def decode(raw: bytes, dialect: Dialect) -> Any:
    """The JSON body; None if there is none. 400 for what is no JSON, and for a NUL, which no database takes in a text."""
    if not raw:
        return None
    if _NUL.search(raw):
        raise ApiError(400, "The body holds a NUL character (\\u0000); leave it out.")
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, dialect.bad_json) from error


def read_query(request: Request) -> list[tuple[str, str]]:
    """The query string's pairs; 400 for more than QUERY_MAX of them, or for what no database takes."""
    raw: bytes = request.scope["query_string"]
    if raw.count(b"&") >= QUERY_MAX:
        raise ApiError(400, f"The query string has more than {QUERY_MAX} parameters.")
    query = list(request.query_params.multi_items())
    texts = [*(text for pair in query for text in pair), *request.path_params.values()]
    if any("\0" in text for text in texts):
        raise ApiError(400, "The address holds a NUL character.")
    return query


def unavailable(_request: Request, _error: Exception) -> Response:
    """What is said where no dialect is spoken while the database does not answer."""
    return Response(_UNAVAILABLE + "\n", 503, media_type="text/plain")


def is_database_away(error: Exception) -> bool:
    """Whether the database restarts, is full, out of reach, or ended a transaction that waited for it to come back."""
    if isinstance(error, sa.exc.InternalError):
        return getattr(error.orig, "sqlstate", None) == _IDLE_IN_TRANSACTION
    return isinstance(error, sa.exc.OperationalError)


def failure(error: Exception, dialect: Dialect, request: Request, trace: Trace) -> Response:
    """The response for an exception; one that is not a refusal is logged and hidden."""
    if is_database_away(error):
        log.warning("database_failed", method=request.method, path=request.url.path, error=str(error))
        error = ApiError(503, _UNAVAILABLE)
    if isinstance(error, Busy):
        error = ApiError(
            429, "Too many requests of this kind are waiting. Please try again.", retry_after_s=error.retry_after_s
        )
    if not isinstance(error, ApiError):
        log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
        error = ApiError(500, "An unexpected error prevented the server from fulfilling your request.")
    if error.status != 400:  # that one quotes what was in the body, which may be a secret
        trace.reason = error.message
    headers = {"www-authenticate": f'Keystone uri="{request.url.scheme}"'} if error.status == 401 else {}
    if error.retry_after_s:
        headers["retry-after"] = str(error.retry_after_s)
    return encode(Answer(error.status, dialect.body(error), headers), trace.request_id)


@dataclass(frozen=True)
class Frame:
    """What every endpoint needs to run."""

    store: Store
    settings: Settings
    authenticate: Authenticate
    answered: Callable[[str, str, int, float], None]  # API, method, status, seconds
    audit: Audit
    hashing: SlowWork
    parsing: SlowWork
    slow_parsing: SlowWork
    reading: SlowWork  # of long bodies


async def serve(
    request: Request, dialect: Dialect, frame: Frame, work: Callable[[Trace], Awaitable[Answer]]
) -> Response:
    """What `work` answers or refuses, in the API's words, counted and written down."""
    begun = clock.monotonic_s()
    trace = Trace(f"req-{ids.new_uuid()}", request.client.host if request.client else "")
    try:
        answer = encode(await work(trace), trace.request_id)
    except Exception as error:  # noqa: BLE001 - the frame answers for every handler
        answer = failure(error, dialect, request, trace)
    seconds = clock.monotonic_s() - begun
    frame.answered(dialect.api, request.method, answer.status_code, seconds)
    frame.audit.answered(trace, dialect.api, request.method, request.url.path, answer.status_code, seconds)
    return answer


def routes(endpoints: list[Endpoint], prefixes: tuple[str, ...], dialect: Dialect, frame: Frame) -> list[BaseRoute]:
    """Starlette routes for the endpoints under every prefix, one route a path."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint

    def route(prefix: str, path: str, methods: dict[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" and "HEAD" not in methods else request.method

            async def work(trace: Trace) -> Answer:
                if method not in methods:
                    raise ApiError(405, "The method is not allowed for this resource.")
                return await _call(request, methods[method], dialect, frame, trace)

            return await serve(request, dialect, frame, work)

        return Route(prefix + path, answer, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])

    return [route(prefix, path, methods) for prefix in prefixes for path, methods in by_path.items()]


def absent(prefix: str, dialect: Dialect, frame: Frame) -> Route:
    """What every other path of an API answers: 404 in its words, so that a client knows what it is that is not there."""

    async def answer(request: Request) -> Response:
        async def work(_trace: Trace) -> Answer:
            path = request.url.path.removeprefix(prefix)
            raise ApiError(404, f"The {dialect.api} API of this cloud has no {path[:200]}.")

        return await serve(request, dialect, frame, work)

    return Route(prefix + "/{rest:path}", answer, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])


async def _call(request: Request, endpoint: Endpoint, dialect: Dialect, frame: Frame, trace: Trace) -> Answer:
    query = read_query(request)
    token = request.headers.get("x-auth-token", "")
    settings, store = frame.settings, frame.store
    url = base_url(request, settings)
    prepared: Any = None

    def authenticate(tx: Tx) -> Caller:
        caller = Caller() if endpoint.public else frame.authenticate(tx, token, now())
        trace.user_id, trace.project_id, trace.roles = caller.user_id, caller.project_id, tuple(sorted(caller.roles))
        return caller

    raw = await read_body(request, None if endpoint.public else lambda: store.read(authenticate))

    def read() -> Read:
        body = (raw or None) if endpoint.raw else decode(raw, dialect)
        return body, _outcome(partial(endpoint.parse, settings, body) if endpoint.parse else lambda: None)

    def call(tx: Tx, have: Callable[[], Read] = read) -> Call:
        # A short body is decoded here, and not before: what waits for its turn costs no more than its bytes.
        caller = authenticate(tx)
        body, parsed = have()
        return Call(
            tx, caller, settings, endpoint.method, dict(request.path_params), query, body, url,
            url + request.url.path, dict(request.headers), prepared, parsed,
        )  # fmt: skip

    async def run(have: Callable[[], Read] = read) -> Answer:
        within = store.write if endpoint.write else store.read
        return await within(lambda tx: endpoint.handler(call(tx, have)))

    prepare = endpoint.prepare
    if prepare is not None and endpoint.prepare_for in raw:
        slow = await store.read(lambda tx: prepare(call(tx)))
        if slow is not None:
            pool = frame.hashing if dialect.api == "identity" else frame.parsing
            owner = trace.project_id or trace.user_id
            prepared = await pool.run(owner, slow)
            if isinstance(prepared, Slow):
                prepared = await frame.slow_parsing.run(owner, prepared.work)
    if not endpoint.write or len(raw) <= LONG:
        return _whole(await run())
    if not endpoint.public:
        await store.read(authenticate)  # says whose turn it is
    async with frame.reading.turn(trace.project_id or trace.user_id):
        answer = await run(await frame.reading.in_thread(lambda: _outcome(read)))
        return await frame.reading.in_thread(lambda: _whole(answer))


def _whole(answer: Answer) -> Answer:
    return answer if answer.later is None else Answer(answer.status, answer.later(), answer.headers)


Read = tuple[Any, Callable[[], Any]]  # the decoded body, and what `parse` makes of it


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    """Do the work now; what comes back returns its result, or raises its refusal."""
    try:
        result = work()
    except ApiError as error:
        refusal = error

        def refuse() -> T:
            raise refusal

        return refuse
    return lambda: result
