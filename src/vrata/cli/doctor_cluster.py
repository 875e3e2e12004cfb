"""What `vrata doctor` finds in a cluster: API server, rights, IngressClass, Service in front, webhook. It changes nothing."""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from vrata.base import clock, pki
from vrata.base.errors import VrataError
from vrata.cli import doctor_checks as judge
from vrata.cli.doctor_checks import Check, Right
from vrata.ingress.model import CONTROLLER
from vrata.ingress.webhook_certificate import CONFIGURATIONS
from vrata.kube import config, manifests, resources
from vrata.kube.client import ApiError, Kube, Resource
from vrata.kube.objects import IngressClass, ObjectMeta, Projection, Service

PARTS = ("provider", "ingress")
LABELS = "app.kubernetes.io/name=vrata"
REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


class _Client(Projection, frozen=True):
    ca_bundle: str = ""


class _Webhook(Projection, frozen=True):
    name: str
    client_config: _Client = _Client()


class _Configuration(Projection, frozen=True):
    metadata: ObjectMeta
    webhooks: tuple[_Webhook, ...] = ()


def asked_rights(part: str, release: str) -> Iterator[dict[str, str]]:
    """What the roles of a part grant, as attributes of SelfSubjectAccessReviews: out of the manifest that installs it.

    Names of objects begin with the chart's name for the release, as `vrata.name` of the chart makes it.
    """
    ours = release if "vrata" in release else f"{release}-vrata"
    for role in yaml.safe_load_all(manifests.manifest(part, "registry.example/vrata")):
        if role["kind"] not in ("Role", "ClusterRole") or not role["metadata"]["name"].endswith(f"-{part}"):
            continue
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for name in rule["resources"]:
                    plural, _, subresource = name.partition("/")
                    for verb in rule["verbs"]:
                        for one in rule.get("resourceNames", [""]):
                            yield {
                                "verb": verb, "group": group, "resource": plural, "subresource": subresource,
                                "name": re.sub("^vrata-", f"{ours}-", one),
                                "namespace": role["metadata"].get("namespace", ""),
                            }  # fmt: skip


async def check_cluster(
    kubeconfig: Path | None, parts: tuple[str, ...], release: str, namespace: str = ""
) -> list[Check]:
    """Every check with the rights of this kubeconfig or pod."""
    try:
        connection = config.load(kubeconfig)
    except VrataError as error:
        return [judge.wrong("kubeconfig", error.message, error.remedy)]
    async with Kube(connection) as kube:
        try:
            found = [judge.judge_kubernetes(connection.server, await kube.server_version())]
        except (VrataError, aiohttp.ClientError, OSError, TimeoutError) as error:
            remedy = "look at the address in the kubeconfig, at the network, and at the API server"
            return [judge.wrong(f"API server {connection.server}", str(error) or type(error).__name__, remedy)]
        for part in parts:
            found += await _guarded(
                f"rights of {part}", _rights(kube, part, release, namespace or connection.namespace)
            )
        if "ingress" in parts:
            found += await _guarded("IngressClass", _classes(kube))
            found += await _guarded("Service in front", _front(kube))
            found += await _guarded("webhook", _webhooks(kube, clock.now()))
    return found


async def _guarded(name: str, checks: AsyncIterator[Check]) -> list[Check]:
    """A part that cannot be read is one line, and the others are checked."""
    try:
        return [one async for one in checks]
    except (VrataError, aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
        forbidden = isinstance(error, ApiError) and error.code == 403
        remedy = "ask with the kubeconfig of an administrator" if forbidden else "see the log of the API server"
        return [judge.warning(name, f"cannot be read: {error}", remedy)]


async def _rights(kube: Kube, part: str, release: str, namespace: str) -> AsyncIterator[Check]:
    rights = []
    for attributes in asked_rights(part, release):
        if attributes["namespace"]:
            attributes["namespace"] = namespace
        answer = await kube.create(REVIEWS, _review(attributes))
        words = [attributes["resource"], attributes["subresource"]]
        of = f" in namespace {namespace}" if attributes["namespace"] else ""
        named = f" {attributes['name']}" if attributes["name"] else ""
        resource = f"{'/'.join(word for word in words if word)}{named}{of}"
        rights.append(Right(part, attributes["verb"], resource, bool(answer["status"].get("allowed"))))
    for check in judge.judge_rights(part, rights):
        yield check


def _review(attributes: dict[str, str]) -> dict[str, Any]:
    given = {name: value for name, value in attributes.items() if value}
    return {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.kind, "spec": {"resourceAttributes": given}}


async def _classes(kube: Kube) -> AsyncIterator[Check]:
    found = await kube.list(resources.INGRESS_CLASSES, IngressClass)
    yield judge.judge_classes({one.metadata.name: one.spec.controller for one in found.objects}, CONTROLLER)


async def _front(kube: Kube) -> AsyncIterator[Check]:
    found = await kube.list(resources.SERVICES, Service, label_selector=LABELS)
    balancers = [one for one in found.objects if one.spec.type == "LoadBalancer"]
    shown = {
        one.metadata.key: [entry.ip or entry.hostname for entry in one.status.load_balancer.ingress]
        for one in balancers
    }
    for check in judge.judge_front(shown):
        yield check


async def _webhooks(kube: Kube, now: datetime) -> AsyncIterator[Check]:
    found = await kube.list(CONFIGURATIONS, _Configuration, label_selector=LABELS)
    for configuration in found.objects:
        for webhook in configuration.webhooks:
            error, ends = "", None
            try:
                bundle = base64.b64decode(webhook.client_config.ca_bundle)
                ends = pki.validity(bundle)[1] if bundle else None
            except ValueError as problem:
                error = f"its caBundle cannot be read ({problem})".partition("\n")[0]
            yield judge.judge_webhook(configuration.metadata.name, ends, error, now)
