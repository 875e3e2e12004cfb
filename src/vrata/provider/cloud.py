"""Calls to an OpenStack cloud as any client makes them: JSON over HTTP with the catalog's endpoints.

Configuration, authentication and discovery are `vrata.provider.session`'s; the calls themselves are aiohttp and msgspec,
at a thirtieth of the CPU. So many at once and no more; what the cloud refuses for its load is sent again when it says
so, what never arrived once. Errors keep the cloud's own words.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter

from vrata.base import clock
from vrata.base.errors import VrataError
from vrata.provider.login import Login
from vrata.provider.metrics import Metrics, request_name
from vrata.provider.retry import may_send_again, retry_after_s, wait_before_retry_s
from vrata.provider.session import Access, CloudError, NoService, Session, login_by_name

__all__ = ["Cloud", "CloudError", "Json", "NoService"]

REQUEST_TIMEOUT_S = 60.0
# Nova tells a server's flavor by name from 2.47 (Pike, 2017); to other services it says nothing.
MICROVERSION = {"OpenStack-API-Version": "compute 2.47"}
CONNECT_TIMEOUT_S = 5.0
IN_FLIGHT_MAX = 32
PAGES_MAX = 1000

Json = dict[str, Any]


class Cloud:
    """A session with one cloud and project; use as an async context manager.

    Without a `login` it is the entry `name` of clouds.yaml. `guard` says whether we may change anything at this instant.
    """

    def __init__(
        self,
        name: str | None = None,
        clouds_file: Path | None = None,
        *,
        login: Login | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        metrics: Metrics | None = None,
        guard: Callable[[], bool] | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._login = login or login_by_name(name, clouds_file)
        self._guard = guard
        self._http: aiohttp.ClientSession | None = None
        self._session = Session(self._login)
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._quiet_until_s: dict[str, float] = {}  # by service: it has asked everybody to wait

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT_MAX)
        self._http = aiohttp.ClientSession(connector=connector)
        return self

    def _check(self, change: str) -> None:
        """Who stood still until now may have a successor."""
        if self._guard and not self._guard():
            raise VrataError(f"{change} not sent: another replica may be at work")

    async def __aexit__(self, *_: object) -> None:
        if self._http:
            await self._http.close()
        await self._session.close()

    async def connect(self, *services: str) -> None:
        """Authenticate and look the services up now, so that the first call does not wait for it."""
        for service in services:
            await self._session.access(service)

    @property
    def region(self) -> str:
        """The region that `connect` has logged in to."""
        return self._session.region

    async def get(self, service: str, path: str, **params: str) -> Json:
        """GET a resource; CloudError 404 if there is none."""
        return await self.request("GET", service, path, params=params)

    async def find(self, service: str, path: str, key: str, **params: str) -> list[Json]:
        """All entries of a collection that match the filters, following `next` links."""
        return [entry async for page in self.pages(service, path, key, **params) for entry in page]

    async def pages(self, service: str, path: str, key: str, **params: str) -> AsyncIterator[list[Json]]:
        """The same a page at a time, for what would be large as a whole."""
        for _ in range(PAGES_MAX):
            page = await self.request("GET", service, path, params=params)
            yield page.get(key, [])
            links = [link["href"] for link in page.get(f"{key}_links", []) if link.get("rel") == "next"]
            if not links or not page.get(key):
                return
            params["marker"] = str(page[key][-1]["id"])
        raise CloudError(500, f"{service} {path}: more than {PAGES_MAX} pages")

    async def request(
        self, method: str, service: str, path: str, *, params: dict[str, str] | None = None, body: Json | None = None
    ) -> Json:
        """Call an API of the catalog, e.g. `("POST", "network", "/v2.0/ports", body=…)`; {} for an empty answer."""
        data = None if body is None else msgspec.json.encode(body)
        refused, attempt = "", 0
        while True:
            attempt += 1
            await self._quiet(service)
            access = await self._session.access(service, refused=refused)
            try:
                async with self._room:
                    with self.metrics.requesting(request_name(method, path)):
                        return await self._send(method, access, path, params, data)
            except CloudError as error:
                if error.status == 401 and not refused:
                    refused = access.token
                    continue
                wait_s = wait_before_retry_s(error.status, error.retry_after_s, attempt, random.random())
                if wait_s is None:
                    raise
                self._quiet_until_s[service] = max(self._quiet_until_s.get(service, 0.0), clock.monotonic_s() + wait_s)
            except (aiohttp.ClientError, OSError) as error:
                if method != "GET":
                    self._check(f"{method} {path}")  # it may be why
                connected = not isinstance(error, aiohttp.ClientConnectorError)
                if isinstance(error, TimeoutError) or not may_send_again(method, connected=connected, attempt=attempt):
                    said = str(error) or type(error).__name__
                    raise CloudError(503, f"no answer from {service} at {access.endpoint}: {said}") from error

    async def _quiet(self, service: str) -> None:
        """Wait until the service may be called again."""
        while (wait_s := self._quiet_until_s.get(service, 0.0) - clock.monotonic_s()) > 0:
            await asyncio.sleep(wait_s)

    async def _send(
        self, method: str, access: Access, path: str, params: dict[str, str] | None, data: bytes | None
    ) -> Json:
        assert self._http, "use Cloud as an async context manager"
        headers = {"X-Auth-Token": access.token, "Accept": "application/json", **MICROVERSION}
        body = None
        if method != "GET":
            headers["Content-Type"] = "application/json"
            body = _Body(data or b"", lambda: self._check(f"{method} {path}"))
        async with self._http.request(
            method, access.endpoint + path, params=params, data=body, headers=headers, timeout=self._timeout,
            ssl=access.tls,
        ) as answer:  # fmt: skip
            content = await answer.read()
            if answer.status >= 400:
                asked_s = retry_after_s(answer.headers.get("Retry-After"), clock.now())
                raise CloudError(answer.status, _sentence(content), asked_s)
            return msgspec.json.decode(content, type=Json) if content else {}


class _Body(aiohttp.BytesPayload):
    """What is sent last, by a task of its own: the headers wait for it, so this is the last moment to look."""

    def __init__(self, content: bytes, check: Callable[[], None]) -> None:
        super().__init__(content)
        self._check = check

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._check()
        await super().write_with_length(writer, content_length)


def _sentence(content: bytes) -> str:
    """What an error body of Octavia, Neutron or Keystone says."""
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content.decode(errors="replace")[:300]
    if isinstance(body, dict):
        if "faultstring" in body:
            return str(body["faultstring"])
        for value in body.values():
            if isinstance(value, dict) and "message" in value:
                return str(value["message"])
    return str(body)[:300]
