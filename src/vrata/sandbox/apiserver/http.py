"""Paths, verbs and representations of the Kubernetes API over HTTP (ASGI).

Reads paths and queries, checks the token, decodes bodies, and hands on to `objects`, `deletion` and `reading`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
import structlog
import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vrata.sandbox.apiserver import discovery, errors, logs, openapi, protobuf
from vrata.sandbox.apiserver.access import Access
from vrata.sandbox.apiserver.convert import from_storage
from vrata.sandbox.apiserver.deletion import CRDS, Deleter, read_options
from vrata.sandbox.apiserver.errors import ApiError, Obj
from vrata.sandbox.apiserver.objects import NAMESPACES, Objects, Options, apply_patch
from vrata.sandbox.apiserver.rbac import User, Wish, as_create, wish_of
from vrata.sandbox.apiserver.reading import Query, Reader, View
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.scale import read_scale, write_scale
from vrata.sandbox.apiserver.store import Record, encode

log = structlog.get_logger()
BODY_MAX: Final = 3 * 1024 * 1024  # as the API server's limit for one request
_OPEN_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
_APPLY: Final = "application/apply-patch+yaml"
PATCHES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    _APPLY,
)
BODIES: Final = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    *PATCHES,
)
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(slots=True)
class Target:
    """What a path points at."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class App:
    """The ASGI application."""

    def __init__(self, objects: Objects, deleter: Deleter, reader: Reader, access: Access) -> None:
        self._objects = objects
        self._deleter = deleter
        self._reader = reader
        self._access = access
        self._store = objects.store
        self._registry = objects.registry
        self._documents: dict[tuple[int, str], bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = self._json(error.status(), error.code, error.headers)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("request.failed", method=request.method, path=request.url.path)
            fault = errors.internal(f"{type(error).__name__}: {error}")
            response = self._json(fault.status(), fault.code)
        await response(scope, receive, send)

    def _json(self, body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Response:
        raw = body if isinstance(body, bytes) else encode(body)
        return Response(raw, code, headers, "application/json")

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.rstrip("/") or "/"
        user = None
        if "authorization" in request.headers or not path.startswith(_OPEN_PATHS):
            user = self._access.user(request.headers, self._objects.now())
        if request.method in ("GET", "HEAD"):
            found = self._static(path, request)
            if found is not None:
                if user:
                    self._access.check(user, Wish("get", path=path))
                return found
        target = self._route(path)
        if request.method not in _METHODS:
            raise errors.method_not_allowed()
        if user is None:
            raise errors.unauthorized()
        wish = self._wish(request, target)
        self._access.check(user, wish)
        return await self._serve(request, target, user, wish)

    def _wish(self, request: Request, target: Target) -> Wish:
        resource = target.resource
        plural = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
        # A Namespace is in itself: a Role there may name it.
        namespace = target.name if resource.storage == NAMESPACES else target.namespace
        return wish_of(request.method, resource.group, plural, namespace, target.name, request.query_params)

    # ── discovery and the like ──────────────────────────────────────────────────────────────────────────────

    def _static(self, path: str, request: Request) -> Response | None:
        accept = request.headers.get("accept", "")
        parts = path.strip("/").split("/")
        match parts:
            case ["version"]:
                return self._json(discovery.version())
            case ["healthz" | "livez" | "readyz", *_]:
                return Response("ok", media_type="text/plain")
            case ["api" | "apis" as root] if "g=apidiscovery.k8s.io" in accept and "v=v2;" in f"{accept};".replace(
                ",", ";"
            ):
                body = encode(discovery.aggregated(self._registry, core=root == "api"))
                kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                return Response(body, headers={"content-type": kind, "vary": "Accept"})
            case ["api"]:
                return self._json(discovery.api_versions(request.headers.get("host", "")))
            case ["apis"]:
                return self._json(discovery.group_list(self._registry))
            case ["api", "v1"]:
                return self._json(discovery.resource_list(self._registry, "", "v1"))
            case ["apis", group] if group in self._registry.groups():
                body_obj = discovery.api_group(group, self._registry.groups()[group])
                return self._json({"kind": "APIGroup", "apiVersion": "v1"} | body_obj)
            case ["apis", group, version] if version in self._registry.groups().get(group, ()):
                return self._json(discovery.resource_list(self._registry, group, f"{group}/{version}"))
            case ["openapi", "v2"]:
                binary = "protobuf" in accept
                kind = openapi.V2_MEDIA if binary else "application/json"
                return Response(openapi.v2_document(protobuf=binary), media_type=kind)
            case ["openapi", "v3"]:
                return self._json(openapi.index(self._registry))
            case ["openapi", "v3", *rest]:
                return self._openapi(rest)
            case [""]:
                paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]
                return self._json({"paths": paths})
        return None

    def _openapi(self, rest: list[str]) -> Response:
        group, version = ("", rest[-1]) if rest[0] == "api" else (rest[1] if len(rest) > 1 else "", rest[-1])
        if version not in self._registry.groups().get(group, ()):
            raise errors.no_such_path()
        key = (self._registry.version, f"{group}/{version}")
        if key not in self._documents:
            self._documents = {k: v for k, v in self._documents.items() if k[0] == self._registry.version}
            self._documents[key] = encode(openapi.group_document(self._registry, group, version))
        return self._json(self._documents[key])

    # ── routing ─────────────────────────────────────────────────────────────────────────────────────────────

    def _route(self, path: str) -> Target:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "v1"]:
            group, version, rest = "", "v1", parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise errors.no_such_path()
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = self._registry.find(group, version, rest[0]) if rest else None
        if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
            raise errors.no_such_path()
        target = Target(resource, namespace, *rest[1:])
        if target.subresource and target.subresource not in resource.subresources:
            raise errors.no_such_path()
        if resource.namespaced and target.name and not namespace:
            raise errors.no_such_path()
        return target

    async def _serve(  # noqa: PLR0912 -- a table of verbs
        self, request: Request, target: Target, user: User, wish: Wish
    ) -> Response:
        query = dict(request.query_params)
        if request.method == "GET":
            return await self._read(request, target, query)
        if target.resource.verbs == ("create",) and request.method != "POST":
            raise errors.method_not_allowed()
        body = await self._body(request)
        if target.subresource in ("binding", "eviction") and request.method == "POST":
            return self._pod_action(target, body)
        if target.subresource == "token":
            return self._issue_token(request, target, body)
        if target.subresource == "log":
            raise errors.method_not_allowed()
        if request.method == "DELETE":
            return self._delete(target, body, query, request)
        options = self._options(request, query, user)
        if target.subresource == "scale":
            return self._write_scale(request, target, body, options)
        view = self._view(request, query)
        code = 200
        match request.method:
            case "POST" if not target.name:
                obj, code = self._post(target, body, options, user), 201
            case "PUT" if target.name:
                obj = self._objects.update(
                    target.resource, target.namespace, target.name, body, target.subresource, options
                )
            case "PATCH" if target.name:
                media = self._patch_media(request, query)
                key = (target.namespace if target.resource.namespaced else "", target.name)
                if media == _APPLY and self._store.get(target.resource.storage, *key) is None:
                    self._access.check(user, as_create(wish))
                obj, created = self._objects.patch(
                    target.resource, target.namespace, target.name, media, body, target.subresource, options
                )
                code = 201 if created else 200
            case _:
                raise errors.method_not_allowed()
        response = self._represent(request, self._reader.show(target.resource, obj, view), code)
        for warning in options.warnings:
            text = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.append("Warning", f'299 - "{text}"')
        return response

    def _post(self, target: Target, body: Any, options: Options, user: User) -> Obj:
        if target.resource.kind == "SelfSubjectAccessReview":
            review = self._objects.read(target.resource, body, options)
            return review | {"status": self._access.review(user, review.get("spec") or {})}
        namespace = target.namespace
        if target.resource.namespaced and not namespace:
            raise errors.method_not_allowed()
        return self._objects.create(target.resource, namespace, body, options)

    def _options(self, request: Request, query: dict[str, str], user: User) -> Options:
        agent = request.headers.get("user-agent", "unknown").split("/")[0] or "unknown"
        applying = request.headers.get("content-type", "").startswith("application/apply-patch")
        manager = query.get("fieldManager") or ("" if applying else agent)
        dry = query.get("dryRun", "")
        if dry not in ("", "All"):
            raise errors.bad_request(f'dryRun: Unsupported value: "{dry}": supported values: "All"')
        validation = query.get("fieldValidation") or "Warn"
        if validation not in ("Strict", "Warn", "Ignore"):
            raise errors.bad_request(f'fieldValidation: Unsupported value: "{validation}"')
        check = partial(self._access.check_written, user)
        return Options(manager, dry == "All", validation, query.get("force") == "true", check=check)

    def _patch_media(self, request: Request, query: dict[str, str]) -> str:
        media = request.headers.get("content-type", "").split(";")[0].strip()
        if media not in PATCHES:
            raise errors.unsupported_media_type(PATCHES)
        if "force" in query and not media.startswith("application/apply-patch"):
            cause = errors.forbidden_field("force", "may not be specified for non-apply patch")
            raise errors.object_invalid("PatchOptions", "meta.k8s.io", "", [cause])
        return media

    async def _body(self, request: Request) -> Any:
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > BODY_MAX:
                raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_MAX}")
        if not raw:
            return None
        media = request.headers.get("content-type", "application/json").split(";")[0].strip()
        if media == "application/vnd.kubernetes.protobuf":
            return protobuf.decode(bytes(raw))
        if media not in BODIES:
            raise errors.unsupported_media_type(BODIES)
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if "yaml" not in media:
                raise errors.bad_request(f"the object provided is unrecognized (must be JSON): {error}") from error
        try:
            return yaml.load(bytes(raw), Loader=_Loader)  # noqa: S506 -- derived from the safe loader
        except yaml.YAMLError as error:
            raise errors.bad_request(f"error decoding YAML: {error}") from error

    # ── representations ─────────────────────────────────────────────────────────────────────────────────────

    def _view(self, request: Request, query: dict[str, str]) -> View:
        for option in request.headers.get("accept", "").split(","):
            media, *parameters = [part.strip() for part in option.split(";")]
            if media not in ("application/json", "*/*", "application/yaml"):
                continue
            named = dict(part.partition("=")[::2] for part in parameters)
            if named.get("g") == "meta.k8s.io" and named.get("v", "v1") == "v1":
                return View(named.get("as", ""), query.get("includeObject", "Metadata"))
            if not named.get("as"):
                return View()
        return View()

    def _represent(self, request: Request, body: Any, code: int = 200) -> Response:
        accept = request.headers.get("accept", "")
        if accept.startswith("application/yaml"):
            value = msgspec.json.decode(body) if isinstance(body, bytes) else body
            return Response(yaml.safe_dump(value, sort_keys=False), code, media_type="application/yaml")
        return self._json(body, code)

    async def _read(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        resource, view = target.resource, self._view(request, query)
        if "get" not in resource.verbs:
            raise errors.method_not_allowed()
        if not target.name:
            asked = Query(resource, target.namespace, query, view)
            if query.get("watch") in ("true", "1"):
                headers = {"content-type": "application/json"}
                return StreamingResponse(self._reader.watch(asked), headers=headers)
            return self._represent(request, self._reader.page(asked))
        record = self._objects.find(resource, target.namespace, target.name)
        if target.subresource == "log":
            return StreamingResponse(await logs.open_log(self._store, record.load(), query), media_type="text/plain")
        if target.subresource == "scale":
            return self._represent(request, read_scale(resource, record.load()))
        return self._represent(request, self._reader.get(resource, record, view))

    # ── the rarer verbs ─────────────────────────────────────────────────────────────────────────────────────

    def _delete(self, target: Target, body: Any, query: dict[str, str], request: Request) -> Response:
        options = read_options(body, query)
        if target.name:
            record = self._objects.find(target.resource, target.namespace, target.name)
            if target.resource.storage == CRDS:
                self._deleter.guard_crd(record)
                record = self._objects.find(target.resource, target.namespace, target.name)
            return self._represent(request, self._deleter.delete(target.resource, record, options))
        asked = Query(target.resource, target.namespace, query, View())
        matches = asked.selector()
        found: list[Record] = list(self._store.scan(target.resource.storage, target.namespace))
        for record in found:
            if matches is None or matches(from_storage(target.resource, record.load())):
                self._deleter.delete(target.resource, record, options)
        return self._json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _write_scale(self, request: Request, target: Target, body: Any, options: Options) -> Response:
        resource = target.resource
        record = self._objects.find(resource, target.namespace, target.name)
        obj = from_storage(resource, record.load())
        scale = body
        if request.method == "PATCH":
            media = self._patch_media(request, {})
            merging = (
                "application/merge-patch+json"
                if media.startswith(("application/apply", "application/strategic"))
                else media
            )
            scale = apply_patch(resource, read_scale(resource, obj), merging, body)
        if not isinstance(scale, dict):
            raise errors.bad_request("the body is not a Scale")
        new = self._objects.replace(resource, record, write_scale(resource, obj, scale), "scale", options, None)
        return self._represent(request, read_scale(resource, new))

    def _issue_token(self, request: Request, target: Target, body: Any) -> Response:
        if request.method != "POST":
            raise errors.method_not_allowed()
        account = self._objects.find(target.resource, target.namespace, target.name).load()
        asked = body if isinstance(body, dict) else {}
        status = self._access.issue(account, asked.get("spec") or {}, self._objects.now())
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}}
        return self._json(asked | head | {"status": status}, 201)

    def _pod_action(self, target: Target, body: Any) -> Response:
        record = self._objects.find(target.resource, target.namespace, target.name)
        pod = record.load()
        if target.subresource == "eviction":
            options = (body or {}).get("deleteOptions") or {}
            self._deleter.delete(target.resource, record, options)
            return self._json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
        node = ((body or {}).get("target") or {}).get("name")
        if not node:
            raise errors.object_invalid("Binding", "", target.name, [errors.required("target.name")])
        if pod["spec"].get("nodeName"):
            why = f'pod {target.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
            raise errors.conflict("pods/binding", "", target.name, why)
        pod["spec"]["nodeName"] = node
        conditions = [c for c in pod["status"].get("conditions") or [] if c["type"] != "PodScheduled"]
        now = self._objects.timestamp()
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now})
        pod["status"]["conditions"] = conditions
        self._store.put("pods", pod)
        return self._json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: timestamps stay text."""


_Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
