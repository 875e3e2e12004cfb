"""The webhook's own certificate: made and renewed by its replicas, kept in a Secret, trusted by its configuration.

Kubernetes documentation, «Dynamic Admission Control»: the API server trusts the authority in `caBundle`, and asks for the
name SERVICE.NAMESPACE.svc. An authority signs one certificate, and its key is forgotten. Of replicas that renew at the
same time one wins, by the Secret's resourceVersion. The bundle keeps the authority before, for replicas that still serve it.
"""

import asyncio
import base64
import binascii
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vrata.base import clock, pki
from vrata.base.errors import InvalidInput, VrataError
from vrata.kube.client import ApiError, Kube, Resource
from vrata.kube.objects import Secret
from vrata.kube.resources import SECRETS

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
LIFETIME, RENEWED_BEFORE = timedelta(days=365), timedelta(days=120)
LOOK_S, RETRY_S = 60.0, 2.0
NOT_FOUND, CONFLICT = 404, 409
CONFIGURATIONS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
    namespaced=False,
)  # fmt: skip

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, and the authorities to trust, newest first; PEM."""

    authorities: str
    certificate: str
    key: str


def issue(names: Iterable[str], before: str = "") -> Pair:
    """A certificate for these names by an authority of its own. `before`: the authorities that were trusted until now."""
    authority = pki.new_authority(f"vrata-webhook-ca-{secrets.token_hex(4)}")
    made = pki.new_server(authority, names, LIFETIME)
    newest = x509.load_pem_x509_certificates(before.encode())[:1] if before else []
    trusted = authority.certificate + b"".join(one.public_bytes(Encoding.PEM) for one in newest)
    return Pair(trusted.decode(), made.certificate.decode(), made.key.decode())


def read_pair(secret: Secret) -> Pair | None:
    """What the Secret has; None if a part is missing or cannot be read."""
    try:
        parts = [base64.b64decode(secret.data[one], validate=True).decode() for one in (AUTHORITY, CERTIFICATE, KEY)]
        x509.load_pem_x509_certificates(parts[0].encode())
        x509.load_pem_x509_certificate(parts[1].encode())
    except (KeyError, binascii.Error, ValueError):
        return None
    return Pair(*parts)


def is_due(pair: Pair, names: Iterable[str], now: datetime) -> bool:
    """Whether it is to be renewed: it ends soon, or has not all the names."""
    certificate = pair.certificate.encode()
    return pki.validity(certificate)[1] - RENEWED_BEFORE < now or not set(names) <= pki.names_of(certificate)


def plan_trust(configuration: dict[str, Any], authorities: str) -> list[dict[str, Any]]:
    """The JSON patch after which each webhook of the configuration is asked with these authorities; empty if all are."""
    bundle = base64.b64encode(authorities.encode()).decode()
    steps: list[dict[str, Any]] = []
    for place, webhook in enumerate(configuration.get("webhooks") or ()):
        if webhook["clientConfig"].get("caBundle") != bundle:
            at = f"/webhooks/{place}"
            steps.append({"op": "test", "path": f"{at}/name", "value": webhook["name"]})
            steps.append({"op": "add", "path": f"{at}/clientConfig/caBundle", "value": bundle})
    return steps


def service_names(configuration: dict[str, Any]) -> list[str]:
    """Names by which the API server asks the webhooks of a configuration; InvalidInput if one names no Service."""
    names: dict[str, None] = {}
    for webhook in configuration.get("webhooks") or ():
        service = webhook["clientConfig"].get("service")
        if not service:
            raise InvalidInput("--webhook-configuration", webhook["name"], "name a Service in its clientConfig")
        names[f"{service['name']}.{service['namespace']}.svc"] = None
    return list(names)


class Keeper:
    """Keeps one Secret and one configuration in step."""

    def __init__(self, kube: Kube, secret: str, configuration: str) -> None:
        self._kube, self._configuration = kube, configuration
        self._namespace, _, self._secret = secret.partition("/")

    async def bring(self) -> Pair:
        """The pair to serve, when the Secret has it and the configuration trusts it. VrataError if one is not there."""
        found = await self._kube.get(CONFIGURATIONS, dict[str, Any], self._configuration)
        if found is None:
            remedy = "it is made by the chart; correct --webhook-configuration"
            raise VrataError(f"no ValidatingWebhookConfiguration {self._configuration!r}", remedy=remedy)
        pair = await self._pair(service_names(found))
        if steps := plan_trust(found, pair.authorities):
            await self._kube.patch(CONFIGURATIONS, self._configuration, steps, strategy="json")
            log.info("authority written", configuration=self._configuration)
        return pair

    async def _pair(self, names: list[str]) -> Pair:
        secret = await self._kube.get(SECRETS, Secret, self._secret, self._namespace)
        if secret is None:
            remedy = "create it, empty, or correct --tls-secret"
            raise VrataError(f"no Secret {self._namespace}/{self._secret}", remedy=remedy)
        pair, now = read_pair(secret), clock.now()
        if pair and not is_due(pair, names, now):
            return pair
        made = issue(names, pair.authorities if pair else "")
        parts = {AUTHORITY: made.authorities, CERTIFICATE: made.certificate, KEY: made.key}
        data = {name: base64.b64encode(text.encode()).decode() for name, text in parts.items()}
        body = {"metadata": {"resourceVersion": secret.metadata.resource_version}, "data": data}
        await self._kube.patch(SECRETS, self._secret, body, self._namespace)
        log.info("certificate made", secret=f"{self._namespace}/{self._secret}", names=names)
        return made

    async def first(self) -> Pair:
        """`bring` as soon as it succeeds: the configuration may be made after the Deployment."""
        while True:
            try:
                return await self.bring()
            except (VrataError, aiohttp.ClientError, OSError, TimeoutError) as error:
                if isinstance(error, InvalidInput):
                    raise
                if not (isinstance(error, ApiError) and error.code == CONFLICT):
                    log.warning("no certificate yet", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def until_replaced(self, served: Pair) -> None:
        """Look every minute; return when the Secret has another certificate than the one that is served."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if await self.bring() != served:
                    return
            except (VrataError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("certificate not looked after", error=str(error))
