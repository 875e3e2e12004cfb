"""The volumes of pods: directories, memory, and files from Secrets, ConfigMaps, tokens and the pod's own fields.

Files are replaced all at once, as the kubelet does it: names are links into `..data`, which is a link to the directory of
one version. Volumes that would be the machine's own files (hostPath, claims) are refused.
"""

import base64
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from vrata.base import clock
from vrata.base.errors import InvalidInput
from vrata.kube import config, resources
from vrata.kube.client import Kube, Resource
from vrata.net.command import run
from vrata.sandbox.containers.model import parse_quantity
from vrata.sandbox.kubelet.model import (
    Container,
    DownwardFile,
    DownwardSource,
    FieldRef,
    FileSource,
    Pod,
    ProjectedPart,
    ProjectedSource,
    TokenSource,
    Volume,
    VolumeMount,
    field_value,
)

ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCOUNT_VOLUME = "kube-api-access"
TOKEN_S = 3600
_NAMESPACE = DownwardSource((DownwardFile("namespace", FieldRef("metadata.namespace")),))
Files = dict[str, tuple[bytes, int]]  # path -> content and mode
Json = dict[str, Any]


@dataclass(frozen=True)
class Addresses:
    """What the downward API knows of a running pod."""

    pod: str
    host: str


class Sources:
    """Asks the API server for what volumes and variables are made of; tokens are kept until a fifth of their time is left."""

    def __init__(self, kube: Kube, kubeconfig: Path) -> None:
        self._kube = kube
        self._kubeconfig = kubeconfig
        self._tokens: dict[tuple[str, ...], tuple[str, datetime]] = {}
        self._service: tuple[str, str] | None = None

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The data of a Secret; None if there is none."""
        found: Json | None = await self._kube.get(resources.SECRETS, dict, name, namespace)
        return None if found is None else _decoded(found.get("data"))

    async def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The data of a ConfigMap; None if there is none. A cluster that publishes no CA to its pods has one here."""
        found: Json | None = await self._kube.get(resources.CONFIG_MAPS, dict, name, namespace)
        if found is None and name == "kube-root-ca.crt":
            return {"ca.crt": config.authority(self._kubeconfig)}
        if found is None:
            return None
        return {key: value.encode() for key, value in (found.get("data") or {}).items()} | _decoded(
            found.get("binaryData")
        )

    async def token(self, pod: Pod, source: TokenSource) -> str:
        """A token of the pod's ServiceAccount (authentication.k8s.io/v1 TokenRequest), bound to the pod."""
        account = pod.spec.service_account_name or "default"
        key = (pod.metadata.uid, account, source.audience, str(source.expiration_seconds))
        known = self._tokens.get(key)
        if known and clock.now() < known[1]:
            return known[0]
        about = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
        spec: Json = {"expirationSeconds": source.expiration_seconds, "boundObjectRef": about}
        if source.audience:
            spec["audiences"] = [source.audience]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = Resource("", "v1", f"serviceaccounts/{account}/token", "TokenRequest")
        answer = await self._kube.create(path, request, pod.metadata.namespace)
        token: str = answer["status"]["token"]
        self._tokens[key] = (token, clock.now() + timedelta(seconds=source.expiration_seconds * 0.8))
        return token

    def forget(self, uid: str) -> None:
        """Drop the tokens of a pod that is gone."""
        self._tokens = {key: value for key, value in self._tokens.items() if key[0] != uid}

    async def service(self) -> tuple[str, str]:
        """Address and port of the Service `kubernetes`."""
        if self._service is None:
            found: Json | None = await self._kube.get(resources.SERVICES, dict, "kubernetes", "default")
            if found is None:
                raise InvalidInput("service", "default/kubernetes", "the cluster has none yet")
            self._service = (found["spec"]["clusterIP"], str(found["spec"]["ports"][0]["port"]))
        return self._service

    async def files(self, pod: Pod, volume: Volume, addresses: Addresses) -> Files:
        """The files of a volume that is made of objects."""
        projected = volume.projected
        if projected is None:
            part = ProjectedPart(volume.secret, volume.config_map, volume.downward_api)
            own = volume.secret or volume.config_map
            projected = ProjectedSource((part,), own.default_mode if own else 0o644)
        found: Files = {}
        for part in projected.sources:
            found |= await self._part(pod, part, projected.default_mode, addresses)
        return found

    async def _part(self, pod: Pod, part: ProjectedPart, mode: int, addresses: Addresses) -> Files:
        namespace = pod.metadata.namespace
        if part.service_account_token:
            token = await self.token(pod, part.service_account_token)
            return {part.service_account_token.path: (token.encode(), mode)}
        if part.downward_api:
            return plan_downward(pod, part.downward_api.items, mode, addresses)
        for kind, source, read in (
            ("secret", part.secret, self.secret),
            ("configmap", part.config_map, self.config_map),
        ):
            if source:
                name = source.secret_name or source.name
                return plan_files(kind, name, source, await read(namespace, name), mode)
        return {}


def plan_downward(pod: Pod, items: Sequence[DownwardFile], mode: int, addresses: Addresses) -> Files:
    """The pod's own fields as files."""
    return {
        item.path: (
            field_value(pod, item.field_ref.field_path, address=addresses.pod, host_address=addresses.host).encode(),
            mode,
        )
        for item in items
        if item.field_ref
    }


def plan_files(kind: str, name: str, source: FileSource, data: Mapping[str, bytes] | None, mode: int) -> Files:
    """The files of one object; InvalidInput if it, or a key of it, is missing and must not be."""
    if data is None:
        if source.optional:
            return {}
        raise InvalidInput(kind, name, f'{kind} "{name}" not found; create it')
    if not source.items:
        return {key: (value, mode) for key, value in data.items()}
    found: Files = {}
    for item in source.items:
        if ".." in item.path.split("/") or item.path.startswith("/"):
            raise InvalidInput("items.path", item.path, "use a path below the volume")
        if item.key in data:
            found[item.path] = (data[item.key], mode if item.mode is None else item.mode)
        elif not source.optional:
            raise InvalidInput(kind, name, f"it has no key {item.key!r}; correct `items`")
    return found


def with_account(pod: Pod, container: Container) -> tuple[Container, tuple[Volume, ...]]:
    """A container and its pod's volumes with the ServiceAccount's token and the cluster's CA, if it gets them."""
    taken = any(mount.mount_path == ACCOUNT_DIR for mount in container.volume_mounts)
    if taken or not pod.spec.automount_service_account_token:
        return container, pod.spec.volumes
    names = FileSource(name="kube-root-ca.crt")
    parts = (ProjectedPart(service_account_token=TokenSource("token", expiration_seconds=TOKEN_S)),
             ProjectedPart(config_map=names), ProjectedPart(downward_api=_NAMESPACE))  # fmt: skip
    volume = Volume(ACCOUNT_VOLUME, projected=ProjectedSource(parts))
    mounts = (*container.volume_mounts, VolumeMount(ACCOUNT_VOLUME, ACCOUNT_DIR, read_only=True))
    return msgspec.structs.replace(container, volume_mounts=mounts), (*pod.spec.volumes, volume)


async def ensure_volume(directory: Path, pod: Pod, volume: Volume, sources: Sources, addresses: Addresses) -> None:
    """Make a volume, or bring its files up to date; InvalidInput for a kind that pods here cannot have."""
    group = pod.spec.security_context.fs_group
    if volume.empty_dir is not None:
        if directory.exists():
            return
        directory.mkdir(parents=True)
        if volume.empty_dir.medium == "Memory":
            size = volume.empty_dir.size_limit
            limit = f"size={int(parse_quantity('sizeLimit', size))}," if size else ""
            await run("mount", "-t", "tmpfs", "-o", f"{limit}mode=1777", "tmpfs", str(directory))
        directory.chmod(0o2777 if group is not None else 0o777)
        if group is not None:
            os.chown(directory, -1, group)
        return
    if not (volume.secret or volume.config_map or volume.projected or volume.downward_api):
        raise InvalidInput("volumes", volume.name, "use emptyDir, secret, configMap, projected or downwardAPI here")
    write_files(directory, await sources.files(pod, volume, addresses), group)


def write_files(directory: Path, files: Files, group: int | None) -> None:
    """Replace all files of a volume at once; those that are right stay."""
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "..data"
    if data.is_symlink() and _read(data) == {path: content for path, (content, _) in files.items()}:
        return
    version = directory / f"..{clock.now():%Y_%m_%d_%H_%M_%S.%f}"
    version.mkdir()
    for path, (content, mode) in files.items():
        file = version / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if group is not None:
            os.chown(file, -1, group)
        file.chmod(mode | (0o440 if group is not None else 0))
    old = data.readlink() if data.is_symlink() else None
    beside = directory / "..data_tmp"
    beside.unlink(missing_ok=True)
    beside.symlink_to(version.name)
    beside.rename(data)
    tops = {path.partition("/")[0] for path in files}
    for top in tops:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(f"..data/{top}")
    for entry in directory.iterdir():
        if entry.name not in tops and not entry.name.startswith(".."):
            entry.unlink()
    if old is not None:
        shutil.rmtree(directory / old, ignore_errors=True)


def _read(folder: Path) -> dict[str, bytes]:
    root = folder.resolve()
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (data or {}).items()}
