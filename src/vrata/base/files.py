"""Files that are whole or not there: written beside, flushed, renamed; a full disk becomes an error with a remedy."""

import errno
import os
import shutil
from pathlib import Path

from vrata.base.errors import VrataError

CHECKED = ".check"  # how the name of something ends that is looked at by a daemon before it takes effect
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


def remove_unfinished(directory: Path) -> None:
    """Remove what was being written or checked when its writer was killed; nobody may be writing there now."""
    for pattern in (".*.new", f"*{CHECKED}"):
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
