"""Who we are to the cloud: configuration, Keystone, catalog, TLS. openstacksdk's and keystoneauth's work, in threads.

The token is renewed when it nears its end, in time for calls under way; and when the cloud no longer knows it.
"""

import asyncio
import re
import ssl
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from vrata.base import clock
from vrata.base.errors import InvalidInput, VrataError
from vrata.provider.login import Login

RENEW_BEFORE = timedelta(seconds=120)
RENEW_BEFORE_SHARE = 0.1  # of a shorter life
NOT_WORTH_RETRYING = frozenset({400, 403, 404, 405, 413, 501})

log = structlog.get_logger(__name__)


class CloudError(VrataError):
    """The cloud refused a call, with HTTP status and its own sentence; 503 if it could not be reached.

    `retry_after_s` is how long it asked to be left alone, if it did.
    """

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message or f"HTTP status {status}", retriable=status not in NOT_WORTH_RETRYING)
        self.status = status
        self.retry_after_s = retry_after_s


class NoService(CloudError):
    """The catalog has no service of this type."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message)


@dataclass(frozen=True)
class Access:
    """What one call needs."""

    token: str
    endpoint: str  # without a trailing slash or version
    tls: ssl.SSLContext


# What a catalog may append: a version, and to that of Nova once a project.
_VERSION = re.compile(r"/v[0-9](\.[0-9]{1,2})?(/[0-9a-f]{32})?$")


class Session:
    """A login that lasts; made of an entry of clouds.yaml, a login, or both."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = asyncio.Lock()
        self._in_thread = threading.Lock()  # a cancelled call gives up the other lock, but its thread goes on
        self._session: Any = None  # keystoneauth1.session.Session
        self._region: Any = None  # openstack.config.cloud_region.CloudRegion
        self._catalog: Any = None  # keystoneauth1.access.service_catalog.ServiceCatalog
        self._tls: ssl.SSLContext | None = None
        self._endpoints: dict[str, str] = {}
        self._token = ""
        self._renew_at: datetime | None = None

    async def close(self) -> None:
        """End what is open to Keystone."""
        if self._session is not None:
            await asyncio.to_thread(self._session.session.close)

    async def access(self, service: str, *, refused: str = "") -> Access:
        """Token and endpoint for a service of the catalog; `refused` is a token that the cloud did not know."""
        if not self._is_fresh(service, refused):
            async with self._lock:
                if not self._is_fresh(service, refused):
                    await asyncio.to_thread(self._authenticate, service, refused)
        assert self._tls
        return Access(self._token, self._endpoints[service], self._tls)

    @property
    def region(self) -> str:
        """The region that was logged in to; empty before that, or if the cloud has none."""
        return str(self._region.region_name or "") if self._region else ""

    def _is_fresh(self, service: str, refused: str) -> bool:
        due = self._renew_at is not None and clock.now() >= self._renew_at
        return bool(self._token) and self._token != refused and service in self._endpoints and not due

    def _authenticate(self, service: str, refused: str) -> None:
        with self._in_thread:
            if not self._is_fresh(service, refused):
                self._log_in(service, refused)

    def _log_in(self, service: str, refused: str) -> None:
        from keystoneauth1 import exceptions as keystone

        if self._tls is None:
            session, region = self._configure()
            self._session, self._region, self._tls = session, region, _tls(region)
        try:
            self._renew(refused)
            if service not in self._endpoints:
                self._endpoints[service] = self._find(service)
        except keystone.EndpointNotFound as error:
            region = f" in region {self._region.region_name}" if self._region.region_name else ""
            said = f"the catalog has no {service!r} service{region}; ask the cloud's operator for it"
            raise NoService(said) from error
        except keystone.ClientException as error:
            raise CloudError(getattr(error, "http_status", None) or 503, f"Keystone: {error}") from error

    def _renew(self, refused: str) -> None:
        """Have a token that lasts a while; one that still works outlives a Keystone that is away for a moment."""
        from keystoneauth1 import exceptions as keystone

        auth = self._session.auth
        due = self._renew_at is not None and clock.now() >= self._renew_at
        try:
            if due or (refused and refused == self._token):
                auth.invalidate()
            found = auth.get_access(self._session)
        except keystone.ConnectFailure as error:
            if not self._token or refused == self._token:
                raise
            log.warning("token not renewed yet", error=str(error))
            self._renew_at = clock.now() + RENEW_BEFORE * RENEW_BEFORE_SHARE
            return
        life = found.expires - clock.now()
        self._token, self._catalog = str(found.auth_token), found.service_catalog
        self._renew_at = found.expires - min(RENEW_BEFORE, life * RENEW_BEFORE_SHARE)

    def _find(self, service: str) -> str:
        endpoint = self._region.get_endpoint(service) or self._catalog.url_for(
            service_type=service, interface=self._region.get_interface(), region_name=self._region.region_name
        )
        return _VERSION.sub("", str(endpoint).rstrip("/"))

    def _configure(self) -> tuple[Any, Any]:
        import openstack.config
        from openstack import exceptions

        login = self._login
        files = [login.clouds_file] if login.clouds_file else None
        try:
            if login.use_clouds:
                found = openstack.config.OpenStackConfig(config_files=files)
                region = found.get_one(cloud=login.cloud, **login.arguments)
            else:
                found = openstack.config.OpenStackConfig(load_yaml_config=False, load_envvars=False)
                region = found.get_one(**login.arguments)
            return region.get_session(), region
        except exceptions.ConfigException as error:
            raise InvalidInput("--os-cloud", login.cloud, f"name an entry of clouds.yaml ({error})") from error


def login_by_name(cloud: str | None, clouds_file: Path | None) -> Login:
    """An entry of clouds.yaml (None: what the environment says)."""
    return Login(use_clouds=True, cloud=cloud, clouds_file=str(clouds_file) if clouds_file else None)


def _tls(region: Any) -> ssl.SSLContext:
    """Trust and client certificate as the configuration names them; InvalidInput for a file that is none."""
    verify, certificate = region.get_requests_verify_args()
    try:
        trusted = Path(verify) if isinstance(verify, str) else None
        is_folder = trusted is not None and trusted.is_dir()
        tls = ssl.create_default_context(cafile=None if is_folder else trusted, capath=trusted if is_folder else None)
    except OSError as error:
        raise InvalidInput("ca-file", verify, f"name a file of PEM certificates ({error})") from error
    if not verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if certificate:
        files = (certificate,) if isinstance(certificate, str) else certificate
        try:
            tls.load_cert_chain(*files)
        except OSError as error:
            raise InvalidInput("cert-file", files[0], f"name a PEM certificate and its key ({error})") from error
    return tls
