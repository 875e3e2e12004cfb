"""Calls to an OpenStack cloud as any client makes them: clouds.yaml, Keystone, the catalog, JSON over HTTP.

Configuration, authentication and discovery are openstacksdk's and keystoneauth's (used from threads, seldom); the calls
themselves are aiohttp and msgspec, at a thirtieth of the CPU. Errors keep the cloud's own words.
"""

import asyncio
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from vrata.base.errors import InvalidInput, VrataError

REQUEST_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
PAGES_MAX = 1000
NOT_WORTH_RETRYING = frozenset({400, 403, 404, 405, 413, 501})

Json = dict[str, Any]


class CloudError(VrataError):
    """The cloud refused a call: HTTP status and its own sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message or f"HTTP status {status}", retriable=status not in NOT_WORTH_RETRYING)
        self.status = status


class Cloud:
    """A session with one cloud and project; use as an async context manager."""

    def __init__(self, name: str | None = None, clouds_file: Path | None = None) -> None:
        self._name = name
        self._clouds_file = clouds_file
        self._http: aiohttp.ClientSession | None = None
        self._session: Any = None  # keystoneauth1.session.Session
        self._region: Any = None  # openstack.config.cloud_region.CloudRegion
        self._lock = asyncio.Lock()
        self._endpoints: dict[str, str] = {}
        self._token = ""

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http:
            await self._http.close()

    async def connect(self, *services: str) -> None:
        """Authenticate and look the services up now, so that the first call does not wait for it."""
        for service in services:
            await self._access(service, renew=False)

    async def get(self, service: str, path: str, **params: str) -> Json:
        """GET a resource; CloudError 404 if there is none."""
        return await self.request("GET", service, path, params=params)

    async def find(self, service: str, path: str, key: str, **params: str) -> list[Json]:
        """All entries of a collection that match the filters, following `next` links."""
        entries: list[Json] = []
        for _ in range(PAGES_MAX):
            page = await self.request("GET", service, path, params=params)
            entries += page.get(key, [])
            links = [link["href"] for link in page.get(f"{key}_links", []) if link.get("rel") == "next"]
            if not links or not page.get(key):
                return entries
            params["marker"] = str(page[key][-1]["id"])
        raise CloudError(500, f"{service} {path}: more than {PAGES_MAX} pages")

    async def request(
        self, method: str, service: str, path: str, *, params: dict[str, str] | None = None, body: Json | None = None
    ) -> Json:
        """Call an API of the catalog, e.g. `("POST", "network", "/v2.0/ports", body=…)`; {} for an empty answer."""
        assert self._http, "use Cloud as an async context manager"
        for renew in (False, True):
            token, endpoint = await self._access(service, renew=renew)
            headers = {"X-Auth-Token": token, "Accept": "application/json"}
            data = None
            if body is not None:
                data, headers["Content-Type"] = msgspec.json.encode(body), "application/json"
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
            url = endpoint + path
            async with self._http.request(
                method, url, params=params, data=data, headers=headers, timeout=timeout
            ) as answer:
                content = await answer.read()
                if answer.status == 401 and not renew:
                    continue
                if answer.status >= 400:
                    raise CloudError(answer.status, _sentence(content))
                return msgspec.json.decode(content, type=Json) if content else {}
        raise AssertionError("unreachable: the second round returns or raises")

    async def _access(self, service: str, *, renew: bool) -> tuple[str, str]:
        """The token and the endpoint of a service, without a trailing slash or version."""
        async with self._lock:
            if renew or not self._token or service not in self._endpoints:
                await asyncio.to_thread(self._authenticate, service, renew)
            return self._token, self._endpoints[service]

    def _authenticate(self, service: str, renew: bool) -> None:
        from keystoneauth1 import exceptions as keystone

        try:
            if self._session is None:
                self._session, self._region = self._configure()
            if renew:
                self._session.invalidate()
            self._token = self._session.get_token()
            endpoint = self._session.get_endpoint(
                service_type=service, interface=self._region.get_interface(), region_name=self._region.region_name
            )
        except keystone.ClientException as error:
            raise CloudError(getattr(error, "http_status", None) or 503, f"Keystone: {error}") from error
        if not endpoint:
            raise CloudError(404, f"the catalog has no {service!r} service; ask the cloud's operator for it")
        root = str(endpoint).rstrip("/")
        for version in ("/v2.0", "/v2", "/v3"):
            root = root.removesuffix(version)
        self._endpoints[service] = root

    def _configure(self) -> tuple[Any, Any]:
        import openstack.config
        from openstack import exceptions

        files = [str(self._clouds_file)] if self._clouds_file else None
        try:
            region = openstack.config.OpenStackConfig(config_files=files).get_one(cloud=self._name)
        except exceptions.ConfigException as error:
            raise InvalidInput("--os-cloud", self._name, f"name an entry of clouds.yaml ({error})") from error
        return region.get_session(), region


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
