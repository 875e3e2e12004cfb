"""Get, list and watch: what is stored, selected and shown as objects, metadata only, or a Table."""

import asyncio
import base64
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from vrata.sandbox.apiserver import errors
from vrata.sandbox.apiserver.convert import from_storage, is_stored_form
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.selectors import Selector, parse_fields, parse_labels, selector
from vrata.sandbox.apiserver.store import Event, Key, Record, Store, decode, encode
from vrata.sandbox.apiserver.table import render_table

BOOKMARK_S: Final = 60.0
WATCH_MIN_S: Final = 1800  # a watch without timeoutSeconds ends after this, up to twice of it, as the API server's
BACKLOG_MAX: Final = 20_000  # events that one slow watcher may be behind before it has to start again


@dataclass(slots=True)
class View:
    """How a client wants objects: `as_` is empty, Table, or PartialObjectMetadata(List)."""

    as_: str = ""
    include: str = "Metadata"  # of a Table


@dataclass(slots=True)
class Query:
    """One list or watch."""

    resource: Resource
    namespace: str
    params: dict[str, str]
    view: View

    def selector(self) -> Selector | None:
        """The predicate of both selectors over objects as this version shows them."""
        return selector(
            parse_labels(self.params.get("labelSelector", "")),
            parse_fields(self.params.get("fieldSelector", ""), self.resource.selectable),
        )


def metadata_only(obj: Obj) -> Obj:
    """PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


class Reader:
    """The reading half of the API."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self.stopping = asyncio.Event()
        self._watchers: set[asyncio.Event] = set()

    def stop(self) -> None:
        """End every watch, so that the server can go."""
        self.stopping.set()
        for wake in self._watchers:
            wake.set()

    def show(self, resource: Resource, obj: Obj, view: View) -> Obj:
        """One object in the wanted view."""
        if view.as_ == "Table":
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return render_table(resource, [obj], self._now(), view.include, meta)
        return metadata_only(obj) if view.as_.startswith("PartialObjectMetadata") else obj

    def get(self, resource: Resource, record: Record, view: View) -> bytes:
        """One stored object, encoded."""
        if not view.as_ and is_stored_form(resource):
            return record.raw
        return encode(self.show(resource, from_storage(resource, record.load()), view))

    # ── list ────────────────────────────────────────────────────────────────────────────────────────────────

    def page(self, query: Query) -> bytes:
        """A list, or a page of it; all pages carry the first one's resourceVersion: a watch from it misses nothing."""
        params = query.params
        limit = int(params["limit"]) if params.get("limit", "").isdigit() else 0
        rv, after = self._store.rv, None
        if params.get("continue"):
            rv, after = self._resume(params["continue"])
        elif params.get("resourceVersion", "").isdigit() and int(params["resourceVersion"]) > self._store.rv:
            raise self._too_large(params["resourceVersion"])
        records, more = self._select(query, after, limit)
        meta: Obj = {"resourceVersion": str(rv)}
        if more:
            mark = json.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": list(records[-1][0].key)})
            meta["continue"] = base64.urlsafe_b64encode(mark.encode()).decode().rstrip("=")
            if not params.get("labelSelector") and not params.get("fieldSelector"):
                meta["remainingItemCount"] = more
        return self._encode_list(query, records, meta)

    def _too_large(self, wanted: str) -> errors.ApiError:
        said = f"Too large resource version: {wanted}, current: {self._store.rv}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        return errors.ApiError(504, "Timeout", said, {"causes": causes, "retryAfterSeconds": 1})

    def _resume(self, token: str) -> tuple[int, Key]:
        try:
            mark = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            rv, (namespace, name) = int(mark["rv"]), mark["start"]
        except (ValueError, KeyError, TypeError) as error:
            raise errors.bad_request(
                "continue key is not valid: it must come from an earlier list of this server"
            ) from error
        if rv < self._store.horizon or rv > self._store.rv:
            raise errors.gone(
                "The provided continue parameter is too old to display a consistent list result. You must start a new "
                "list without the continue parameter."
            )
        return rv, (str(namespace), str(name))

    def _select(self, query: Query, after: Key | None, limit: int) -> tuple[list[tuple[Record, Obj | None]], int]:
        """The matching records (decoded if that was needed) and how many more there are."""
        matches = query.selector()
        found: list[tuple[Record, Obj | None]] = []
        more = 0
        for record in self._store.scan(query.resource.storage, query.namespace, after):
            obj = None
            if matches is not None:
                obj = from_storage(query.resource, record.load())
                if not matches(obj):
                    continue
            if limit and len(found) == limit:
                more += 1
                if matches is not None:
                    break
                continue
            found.append((record, obj))
        return found, more

    def _encode_list(self, query: Query, records: list[tuple[Record, Obj | None]], meta: Obj) -> bytes:
        resource, view = query.resource, query.view
        if not view.as_ and is_stored_form(resource):
            head = encode({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": meta})
            return head[:-1] + b',"items":[' + b",".join(record.raw for record, _ in records) + b"]}"
        objects = [obj or from_storage(resource, record.load()) for record, obj in records]
        if view.as_ == "Table":
            return encode(render_table(resource, objects, self._now(), view.include, meta))
        kind, version = resource.list_kind, resource.api_version
        if view.as_:
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            objects = [metadata_only(obj) for obj in objects]
        return encode({"kind": kind, "apiVersion": version, "metadata": meta, "items": objects})

    # ── watch ───────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, query: Query) -> AsyncIterator[bytes]:
        """Start a watch (errors are raised here, before the answer begins) and return its lines."""
        params = query.params
        matches = query.selector()
        text = params.get("resourceVersion", "")
        if text and not text.isdigit():
            raise errors.bad_request(f'invalid resource version "{text}"')
        initial = params.get("sendInitialEvents") == "true"
        if initial and params.get("resourceVersionMatch") != "NotOlderThan":
            cause = errors.forbidden_field(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
            raise errors.object_invalid("ListOptions", "meta.k8s.io", "", [cause])
        lines: deque[bytes] = deque()
        wants_state = initial or (text in ("", "0") and params.get("sendInitialEvents") != "false")
        if wants_state:
            for record, obj in self._select(query, None, 0)[0]:
                shown = obj or from_storage(query.resource, record.load())
                lines.append(self._line(query, "ADDED", record.raw, shown))
            if initial:
                lines.append(self._bookmark(query, end=True))
        else:
            for event in self._store.events_since(query.resource.storage, int(text or 0)):
                self._push(query, matches, event, lines)
        return self._stream(query, matches, lines, self._store.rv)

    def _line(self, query: Query, kind: str, raw: bytes, obj: Obj | None) -> bytes:
        if query.view.as_ or not is_stored_form(query.resource):
            shown = obj if obj is not None else from_storage(query.resource, decode(raw))
            raw = encode(self.show(query.resource, shown, query.view))
        return b'{"type":"' + kind.encode() + b'","object":' + raw + b"}\n"

    def _bookmark(self, query: Query, *, end: bool = False) -> bytes:
        meta: Obj = {"resourceVersion": str(self._store.rv), "creationTimestamp": None}
        if end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        resource = query.resource
        obj: Obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        if query.view.as_ == "Table":
            obj = render_table(resource, [], self._now(), "None", {"resourceVersion": str(self._store.rv)})
            obj["rows"] = [{"cells": [""] * len(obj["columnDefinitions"]), "object": metadata_only({"metadata": meta})}]
        elif query.view.as_:
            obj = metadata_only(obj)
        return b'{"type":"BOOKMARK","object":' + encode(obj) + b"}\n"

    def _push(self, query: Query, matches: Selector | None, event: Event, lines: deque[bytes]) -> None:
        """Translate a change into what this watcher sees of it: entering and leaving a selection count as such."""
        if query.namespace and event.namespace != query.namespace:
            return
        if matches is None:
            lines.append(self._line(query, event.type, event.raw, None))
            return
        obj = from_storage(query.resource, decode(event.raw))
        now = event.type != "DELETED" and matches(obj)
        if event.type == "ADDED":
            before = False
        else:
            previous = event.previous
            before = previous is None or matches(from_storage(query.resource, decode(previous)))
        if now:
            lines.append(self._line(query, "MODIFIED" if before else "ADDED", event.raw, obj))
        elif before:
            lines.append(self._line(query, "DELETED", event.raw, obj))

    async def _stream(
        self, query: Query, matches: Selector | None, lines: deque[bytes], rv: int
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        given = query.params.get("timeoutSeconds", "")
        lasting = int(given) if given.isdigit() and int(given) else WATCH_MIN_S * (1 + random.random())
        deadline = loop.time() + lasting
        bookmarks = query.params.get("allowWatchBookmarks") == "true"
        wake = asyncio.Event()
        pending: deque[Event] = deque()

        def notice(event: Event) -> None:
            pending.append(event)
            wake.set()

        unsubscribe = self._store.subscribe(query.resource.storage, notice)
        self._watchers.add(wake)
        try:
            # The answer's first bytes were made up to `rv`, before the headers went out; catch up from there.
            for event in self._store.events_since(query.resource.storage, rv):
                self._push(query, matches, event, lines)
            rv = self._store.rv
            yield b"".join(lines)
            lines.clear()
            while not self.stopping.is_set() and len(pending) < BACKLOG_MAX:
                left = deadline - loop.time()
                if left <= 0:
                    return
                try:
                    async with asyncio.timeout(min(left, BOOKMARK_S)):
                        await wake.wait()
                except TimeoutError:
                    if bookmarks and left > BOOKMARK_S:
                        yield self._bookmark(query)
                    continue
                wake.clear()
                while pending:
                    event = pending.popleft()
                    if event.rv > rv:
                        self._push(query, matches, event, lines)
                if lines:
                    yield b"".join(lines)
                    lines.clear()
        finally:
            unsubscribe()
            self._watchers.discard(wake)
