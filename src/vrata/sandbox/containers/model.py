"""What is known of an image, how images are named, and quantities of resources. Pure.

Names: distribution/reference as container runtimes read them; `docker.io/library/` and `localhost/` are left out.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from vrata.base.errors import InvalidInput

_SUFFIXES = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12, "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]*)")


class Image(msgspec.Struct, frozen=True):
    """An image that is unpacked (OCI image configuration). `user`, `group`: what `User` means in the image's passwd."""

    digest: str  # of the manifest, sha256:…
    names: tuple[str, ...]  # as `normalized` gives them
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    user: int = 0
    group: int = 0


def normalized(name: str) -> str:
    """The name in full: with a tag or a digest, without the places that every runtime looks at."""
    for place in ("docker.io/", "index.docker.io/", "localhost/"):
        name = name.removeprefix(place)
    name = name.removeprefix("library/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def repository(name: str) -> str:
    """A normalized name without its tag and digest."""
    before = name.partition("@")[0]
    folder, slash, last = before.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def is_named(image: Image, name: str) -> bool:
    """Whether a pod that names `name` means this image."""
    wanted = normalized(name)
    _, _, digest = wanted.partition("@")
    if digest:
        return digest == image.digest and repository(wanted) in {repository(one) for one in image.names}
    return wanted in image.names


def parse_config(digest: str, names: tuple[str, ...], config: dict[str, Any], passwd: str, group: str) -> Image:
    """What an OCI image configuration says; the user is looked up in the image's own files."""
    own = config.get("config") or {}
    user, primary = parse_user(own.get("User") or "", passwd, group)
    return Image(
        digest=digest,
        names=tuple(normalized(one) for one in names),
        entrypoint=tuple(own.get("Entrypoint") or ()),
        command=tuple(own.get("Cmd") or ()),
        environment=tuple(own.get("Env") or ()),
        working_dir=own.get("WorkingDir") or "",
        user=user,
        group=primary,
    )


def parse_user(text: str, passwd: str, group: str) -> tuple[int, int]:
    """User and group of `USER[:GROUP]`, names or numbers; InvalidInput for a name that the image does not have."""
    name, _, group_name = text.partition(":")
    rows = [row for line in passwd.splitlines() if len(row := line.split(":")) >= 4 and row[2].isdigit()]
    found = next((row for row in rows if name in (row[0], row[2])), None)
    if found:
        user, primary = int(found[2]), int(found[3])
    elif not name or name.isdigit():
        user, primary = int(name or 0), 0
    else:
        raise InvalidInput("User", name, "the image has no such user in /etc/passwd")
    if not group_name or group_name.isdigit():
        return user, int(group_name) if group_name else primary
    for line in group.splitlines():
        row = line.split(":")
        if row[0] == group_name and len(row) >= 3:
            return user, int(row[2])
    raise InvalidInput("User", text, "the image has no such group in /etc/group")


def parse_quantity(field: str, text: str | float) -> Decimal:
    """A Kubernetes quantity as a number: `250m`, `512Mi` (apimachinery, `resource.Quantity`)."""
    try:
        found = _QUANTITY.fullmatch(str(text))
        if found and found[2] in _SUFFIXES:
            return Decimal(found[1]) * _SUFFIXES[found[2]]
        return Decimal(str(text))
    except InvalidOperation:
        raise InvalidInput(field, text, "use a quantity such as 250m or 512Mi") from None
