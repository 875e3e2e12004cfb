"""The images of one sandbox: OCI archives are checked, unpacked once a digest, and found by the names that pods use.

Format: OCI image layout and manifest specifications. Everything lies below one directory, which `vrata down` removes;
what an import that was killed has left is removed by the next one.
"""

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from vrata.base.errors import InvalidInput
from vrata.base.files import write_atomic
from vrata.sandbox.containers.model import Image, is_named, parse_config

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
          "application/vnd.docker.image.rootfs.diff.tar.gzip")  # fmt: skip
DOCUMENT_MAX = 4 << 20
Json = dict[str, Any]


class Images:
    """The unpacked images below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def root(self, image: Image) -> Path:
        """The image's root file system, which nobody may write to."""
        return self._directory / _hex(image.digest) / "rootfs"

    def all(self) -> list[Image]:
        """Every image, the one that was imported last first."""
        files = sorted(self._directory.glob("*/image.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [msgspec.json.decode(file.read_bytes(), type=Image) for file in files]

    def find(self, name: str) -> Image | None:
        """The image that a pod means; of two with one name, the one that came last."""
        return next((image for image in self.all() if is_named(image, name)), None)

    def add(self, file: Path) -> list[Image]:
        """Unpack the images of an OCI archive; InvalidInput if it is none, or damaged."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for unfinished in self._directory.glob(".*.new"):
                shutil.rmtree(unfinished)
            try:
                with tarfile.open(file) as opened:
                    archive = _Archive(file, opened)
                    return [self._add(archive, *found) for found in archive.images()]
            except (tarfile.TarError, EOFError) as error:
                why = str(error).partition("\n")[0].rstrip(":")
                raise InvalidInput("--image", str(file), f"use an OCI archive ({why})") from None

    def _add(self, archive: "_Archive", digest: str, names: tuple[str, ...], manifest: Json) -> Image:
        final = self._directory / _hex(digest)
        if not final.exists():
            beside = self._directory / f".{_hex(digest)}.new"
            (beside / "rootfs").mkdir(parents=True, mode=0o755)
            for layer in manifest.get("layers") or ():
                _unpack(archive, layer, beside)
            beside.rename(final)
        passwd, group = (_text(final / "rootfs", f"etc/{name}") for name in ("passwd", "group"))
        config = archive.document(manifest["config"]["digest"])
        image = parse_config(digest, names, config, passwd, group)
        write_atomic(final / "image.json", msgspec.json.encode(image))
        return image


def _unpack(archive: "_Archive", layer: Json, beside: Path) -> None:
    if layer.get("mediaType") not in LAYERS:
        raise archive.wrong(f"layers of type {layer.get('mediaType')} are not read; use tar or tar+gzip")
    blob = beside / "layer"
    archive.copy(layer["digest"], blob)
    command = [sys.executable, "-m", "vrata.sandbox.containers.unpack", str(blob), str(beside / "rootfs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    blob.unlink()
    if done.returncode:
        raise archive.wrong(f"layer {layer['digest'][:19]}: {done.stderr.strip() or f'status {done.returncode}'}")


class _Archive:
    """An OCI image layout in a tar file."""

    def __init__(self, path: Path, archive: tarfile.TarFile) -> None:
        self._path = path
        self._archive = archive

    def wrong(self, remedy: str) -> InvalidInput:
        return InvalidInput("--image", str(self._path), remedy)

    def images(self) -> Iterator[tuple[str, tuple[str, ...], Json]]:
        """(digest, names, manifest) of every image for this machine."""
        index = self._json(self._read("index.json"))
        for entry in index.get("manifests") or ():
            notes = entry.get("annotations") or {}
            names = tuple(dict.fromkeys(notes[key] for key in NAME_KEYS if notes.get(key)))
            if not names:
                raise self.wrong("the archive does not name its image; push it as oci-archive:FILE:NAME:TAG")
            digest, manifest = self._manifest(entry["digest"])
            yield digest, names, manifest

    def _manifest(self, digest: str) -> tuple[str, Json]:
        """The manifest behind a digest; of an index the one for this machine."""
        document = self.document(digest)
        if "manifests" not in document:
            return digest, document
        wanted = MACHINES.get(platform.machine(), platform.machine())
        for entry in document["manifests"]:
            if (entry.get("platform") or {}).get("architecture") == wanted:
                return self._manifest(entry["digest"])
        raise self.wrong(f"it has no image for {wanted}")

    def document(self, digest: str) -> Json:
        """A blob that is JSON."""
        content = self._read(f"blobs/sha256/{_hex(digest)}")
        if hashlib.sha256(content).hexdigest() != _hex(digest):
            raise self.wrong(f"{digest} does not have this digest: the file is damaged")
        return self._json(content)

    def copy(self, digest: str, target: Path) -> None:
        """Copy a blob into a file and check it."""
        sha256 = hashlib.sha256()
        with self._member(f"blobs/sha256/{_hex(digest)}") as source, target.open("wb") as out:
            while chunk := source.read(1 << 20):
                sha256.update(chunk)
                out.write(chunk)
        if sha256.hexdigest() != _hex(digest):
            raise self.wrong(f"{digest} does not have this digest: the file is damaged")

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[Any]:
        try:
            found = self._archive.extractfile(name)
        except KeyError:
            found = None
        if found is None:
            raise self.wrong(f"it has no {name}; make an OCI archive, as with podman save --format oci-archive")
        with found:
            yield found

    def _read(self, name: str) -> bytes:
        with self._member(name) as found:
            content: bytes = found.read(DOCUMENT_MAX + 1)
        return content

    def _json(self, content: bytes) -> Json:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.wrong("a document in it is no JSON object")
        return found


def _hex(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise InvalidInput("digest", digest, "want sha256: and 64 hexadecimal digits")
    return value


def _text(root: Path, name: str) -> str:
    """A file of an image; empty if there is none, or if links lead out of the image."""
    file = (root / name).resolve()
    return file.read_text(errors="replace") if file.is_file() and file.is_relative_to(root.resolve()) else ""
