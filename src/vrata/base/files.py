"""Files that are whole or not there: written beside, flushed, renamed; a full disk becomes an error with a remedy."""

import errno
import os
from pathlib import Path

from vrata.base.errors import VrataError

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: Path, content: bytes | str, *, durable: bool = False, mode: int = 0o644) -> None:
    """Replace `path` at once; an interruption leaves the old content. `durable` also survives a power cut."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        beside.rename(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        remedy = "free some space there" if error.errno in _OUT_OF_SPACE else "make the directory writable"
        raise VrataError(f"{path}: not written ({error.strerror})", remedy=remedy) from error
