"""Unpacks one layer of an image over those below it: `python -m vrata.sandbox.containers.unpack LAYER DIRECTORY`.

It changes its root to the directory first, so that no link in any layer leads out of it. Names that go upwards are refused
all the same. Devices are left out: the runtime makes those that a container has. Format: OCI image layer specification.
"""

import os
import shutil
import sys
import tarfile
from pathlib import Path

# A program that has changed its root finds no module any more: those that tarfile imports when it needs them come now.
import bz2  # noqa: F401  # isort: skip
import gzip  # noqa: F401  # isort: skip
import lzma  # noqa: F401  # isort: skip
import zlib  # noqa: F401  # isort: skip

_REMOVED = ".wh."
_EMPTIED = ".wh..wh..opq"


def checked(name: str) -> str:
    """A member's name without leading `./`; ValueError if it leads anywhere but below the root."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} leads out of the image")
    return os.path.normpath(name)


def remove(path: Path) -> None:
    """Remove what is there of lower layers, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def empty(directory: Path, kept: set[Path]) -> None:
    """Remove what lower layers have in a directory, not what this layer has put there."""
    for path in list(directory.iterdir()) if directory.is_dir() else ():
        if path not in kept:
            remove(path)


def unpack(layer: tarfile.TarFile, root: Path) -> None:
    """Extract all members below `root`."""
    layer.extraction_filter = staticmethod(lambda member, _path: member)
    written = {root}
    for member in layer:
        member.name = checked(member.name)
        path = root / member.name
        if path.name == _EMPTIED:
            empty(path.parent, written)
        elif path.name.startswith(_REMOVED):
            remove(path.with_name(path.name.removeprefix(_REMOVED)))
        elif member.isfile() or member.isdir() or member.issym() or member.islnk() or member.isfifo():
            if member.islnk():
                member.linkname = checked(member.linkname)
            if not member.isdir() or not path.is_dir():
                remove(path)
            layer.extract(member, root, numeric_owner=True)
            written.update((path, *path.parents))


def main() -> None:
    """Unpack, or end with one line that says what is wrong."""
    _, source, directory = sys.argv
    with Path(source).open("rb") as file:
        os.chroot(directory)
        os.chdir("/")
        try:
            with tarfile.open(fileobj=file, mode="r|*") as layer:
                unpack(layer, Path("/"))
        except (OSError, ValueError, tarfile.TarError) as error:
            sys.exit(f"{error}")


if __name__ == "__main__":
    main()
