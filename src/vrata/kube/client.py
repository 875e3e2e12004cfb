"""Typed calls to a Kubernetes API server: get, list, watch, create, patch, delete (Kubernetes API concepts).

Objects are decoded into the msgspec struct that the caller names, usually a projection of `vrata.kube.objects`; a
projection is never sent back: writes are patches of just the fields meant.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import aiohttp
import msgspec

from vrata.base.errors import VrataError
from vrata.kube.config import KubeConfig
from vrata.kube.objects import ObjectMeta

T = TypeVar("T")

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
WATCH_TIMEOUT_S = 300  # asked of the server, so that a silent connection is renewed
WATCH_GRACE_S = 30.0
PAGE = 500
LINE_MAX = 2**22  # an object is at most 1.5 MiB in etcd, somewhat more as JSON
FIELD_MANAGER = "vrata"
_JSON = "application/json"
_METADATA = _JSON + ";as={};g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Resource:
    """A kind as the API's paths name it."""

    group: str  # "" for the core group
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`v1`, `networking.k8s.io/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, an object or a subresource; no namespace means all of them."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


class ApiError(VrataError):
    """An answer with an error `Status`: HTTP code, reason (`NotFound`, `Conflict`…) and the server's message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message or f"HTTP status {code}", retriable=code not in (400, 403, 405, 422))
        self.code = code
        self.reason = reason


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


@dataclass(frozen=True)
class Unreadable:
    """An object that is not what its type says: what could be read of its metadata, and why the rest could not.

    A part of the metadata that is of another type is left empty. `error` names the field, as a path from `$`.
    """

    metadata: ObjectMeta
    error: str


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


@dataclass(frozen=True)
class Collection(Generic[T]):
    """What a list answered, and the resource version to watch from."""

    objects: list[T]
    unreadable: list[Unreadable]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent(Generic[T]):
    """ADDED, MODIFIED or DELETED with the object; BOOKMARK with none and the resource version to continue from."""

    type: str
    object: T | Unreadable | None
    bookmark: str


def decode_object(raw: bytes, decoder: msgspec.json.Decoder[T]) -> T | Unreadable:
    """Decode one object of a list or a watch. DecodeError if `raw` is not JSON: then the stream itself is broken."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        return Unreadable(_readable_metadata(raw), str(error))
    except RecursionError:
        return Unreadable(ObjectMeta(name=""), "it is nested too deeply")


def _readable_metadata(raw: bytes) -> ObjectMeta:
    whole = msgspec.json.decode(raw)
    found = whole.get("metadata") if isinstance(whole, dict) else None
    words = ("name", "namespace", "uid", "resourceVersion")
    name, namespace, uid, version = (
        value if isinstance(found, dict) and isinstance(value := found.get(word), str) else "" for word in words
    )
    return ObjectMeta(name=name, namespace=namespace, uid=uid, resource_version=version)


class Kube:
    """A connection pool to one API server; use as an async context manager."""

    def __init__(self, config: KubeConfig) -> None:
        self.config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.config.tls or False),
            read_bufsize=LINE_MAX // 2,  # a line may be twice the buffer
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, type_: type[T], name: str, namespace: str | None = None) -> T | None:
        """Read one object; `None` if there is none."""
        try:
            body = await self._call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return msgspec.json.decode(body, type=type_)

    async def server_version(self) -> str:
        """The API server's `gitVersion`, such as `v1.36.3`."""
        return str(self._decode(await self._call("GET", "/version"))["gitVersion"])

    async def list(
        self,
        resource: Resource,
        type_: type[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> Collection[T]:
        """Read a collection page by page. An object that cannot be read does not keep the others out.

        `metadata_only`: what else the objects hold is not sent (Kubernetes API concepts, «Metadata-only fetches»).
        """
        accept = _METADATA.format("PartialObjectMetadataList") if metadata_only else _JSON
        pages, decoder = msgspec.json.Decoder(_Page), msgspec.json.Decoder(type_)
        objects: list[T] = []
        unreadable: list[Unreadable] = []
        params = {"limit": str(PAGE), "labelSelector": label_selector, "fieldSelector": field_selector}
        while True:
            page = pages.decode(await self._call("GET", resource.path(namespace), params=params, accept=accept))
            for raw in page.items or ():
                found = decode_object(raw, decoder)
                if isinstance(found, Unreadable):
                    unreadable.append(found)
                else:
                    objects.append(found)
            if not page.metadata.continue_:
                return Collection(objects, unreadable, page.metadata.resource_version)
            params["continue"] = page.metadata.continue_
            await asyncio.sleep(0)

    async def watch(
        self,
        resource: Resource,
        type_: type[T],
        resource_version: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Yield changes after a resource version until the server ends the watch; ApiError 410 when it is too old."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=WATCH_TIMEOUT_S + WATCH_GRACE_S
        )
        events = msgspec.json.Decoder(_RawEvent)
        decoder = msgspec.json.Decoder(type_)
        accept = _METADATA.format("PartialObjectMetadata") if metadata_only else _JSON
        path = resource.path(namespace)
        async with await self._send("GET", path, params=params, timeout=timeout, accept=accept) as answer:
            if answer.status != 200:
                raise _error(answer.status, await answer.read())
            async for line in answer.content:
                event = events.decode(line)
                if event.type == "ERROR":
                    raise _error(0, bytes(event.object))
                if event.type == "BOOKMARK":
                    bookmark = msgspec.json.decode(event.object, type=_Bookmark)
                    yield WatchEvent(event.type, None, bookmark.metadata.resource_version)
                else:
                    found: T | Unreadable = decode_object(event.object, decoder)
                    yield WatchEvent(event.type, found, "")

    async def create(self, resource: Resource, body: object, namespace: str | None = None) -> dict[str, Any]:
        """Create an object; ApiError 409 (AlreadyExists) if there is one of its name."""
        params = {"fieldManager": FIELD_MANAGER}
        return self._decode(await self._call("POST", resource.path(namespace), params=params, body=body))

    async def replace(
        self, resource: Resource, name: str, body: object, namespace: str | None = None, subresource: str | None = None
    ) -> dict[str, Any]:
        """Replace an object (PUT); only for objects that were built whole here."""
        path, params = resource.path(namespace, name, subresource), {"fieldManager": FIELD_MANAGER}
        return self._decode(await self._call("PUT", path, params=params, body=body))

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: object,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        strategy: str = "merge",
    ) -> dict[str, Any]:
        """Patch named fields; `strategy` is merge (RFC 7386), json (RFC 6902), strategic, or apply (forced)."""
        kinds = {
            "merge": "merge-patch+json",
            "json": "json-patch+json",
            "strategic": "strategic-merge-patch+json",
            "apply": "apply-patch+yaml",
        }
        params = {"fieldManager": FIELD_MANAGER, **({"force": "true"} if strategy == "apply" else {})}
        path = resource.path(namespace, name, subresource)
        return self._decode(
            await self._call("PATCH", path, params=params, body=body, content_type=f"application/{kinds[strategy]}")
        )

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, options: object | None = None
    ) -> bool:
        """Ask for the deletion of an object; False if there was none."""
        try:
            await self._call("DELETE", resource.path(namespace, name), body=options)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        data = None if body is None else msgspec.json.encode(body)
        async with await self._send(
            method, path, params=params, data=data, content_type=content_type, accept=accept, timeout=timeout
        ) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise _error(answer.status, content)
            return content

    async def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,
        params: dict[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> aiohttp.ClientResponse:
        """Send with the token of the moment; one renewal if the server no longer knows it."""
        assert self._session, "use Kube as an async context manager"
        for renew in (False, True):
            token = await self.config.credentials.bearer(renew=renew)
            headers = {"Accept": accept, "Content-Type": content_type}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            answer = await self._session.request(
                method,
                self.config.server + path,
                params={key: value for key, value in (params or {}).items() if value},
                data=data,
                headers=headers,
                timeout=timeout,
                proxy=self.config.proxy,
                server_hostname=self.config.tls_server_name,
            )
            if answer.status != 401 or renew:
                return answer
            answer.release()
        raise AssertionError("unreachable: the second round returns")

    @staticmethod
    def _decode(body: bytes) -> dict[str, Any]:
        return msgspec.json.decode(body, type=dict[str, Any])


def _error(code: int, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, msgspec.ValidationError):
        status = _Status(message=body.decode(errors="replace")[:500])
    return ApiError(code or status.code, status.reason, status.message)
