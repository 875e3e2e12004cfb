"""The audit log: one line of JSON for each write and each refusal, with who, which project, what, and the result.

A line has the path, never a query string, a header, a body or a sentence that quotes one, so no token, password or secret
can be in it. With `requests`, every other request has a line, too. Refusals of callers who have not proved who they are,
are bounded: an anonymous flood costs the disk ANONYMOUS_PER_S lines a second, and the next line says how many were left
out.
"""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from vrata.base import clock
from vrata.base.errors import VrataError

PATH_MAX = 512
REASON_MAX = 512
ANONYMOUS_PER_S = 50
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Trace(msgspec.Struct):
    """What is known of one request while it is answered."""

    request_id: str
    client: str = ""
    user_id: str = ""
    project_id: str | None = None
    roles: tuple[str, ...] = ()
    claimed: str = ""  # the user whom a login names, if there is one: not proved
    reason: str = ""


class Entry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line."""

    time: str
    event: str  # audit, request
    result: str  # success, refused, failed
    status: int
    api: str
    method: str
    path: str
    client: str
    request_id: str
    user_id: str = ""
    project_id: str | None = None
    roles: tuple[str, ...] = ()
    claimed_user: str = ""
    reason: str = ""
    duration_ms: float
    left_out: int = 0


class Audit:
    """Writes the lines to a file (reopened when it was rotated away) or to stderr; a full disk costs the line."""

    def __init__(self, path: Path | None = None, *, requests: bool = False) -> None:
        self._path = path
        self._requests = requests
        self._encode = msgspec.json.Encoder().encode
        self._descriptor, self._inode = 2, 0
        self._second, self._anonymous, self._left_out = 0, 0, 0
        if path is not None:
            try:
                self._reopen(path)
            except OSError as error:
                raise VrataError(
                    f"--audit-log {path}: {error.strerror}", remedy="give a file that can be written"
                ) from error

    def answered(self, trace: Trace, api: str, method: str, path: str, status: int, seconds: float) -> None:
        """Write down an answer, if it is of interest."""
        audited = status >= 400 or method not in _READS
        if not (audited or self._requests) or (status >= 400 and not trace.user_id and self._flooded()):
            return
        entry = Entry(
            time=clock.now().isoformat(timespec="milliseconds"), event="audit" if audited else "request",
            result="success" if status < 400 else "refused" if status < 500 else "failed", status=status, api=api,
            method=method, path=path[:PATH_MAX], client=trace.client, request_id=trace.request_id,
            user_id=trace.user_id, project_id=trace.project_id, roles=trace.roles, claimed_user=trace.claimed[:255],
            reason=trace.reason[:REASON_MAX], duration_ms=round(seconds * 1000, 1), left_out=self._left_out,
        )  # fmt: skip
        self._left_out = 0
        with contextlib.suppress(OSError):
            if self._path is not None and self._rotated(self._path):
                self._reopen(self._path)
            os.write(self._descriptor, self._encode(entry) + b"\n")

    def _flooded(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._anonymous = second, 0
        self._anonymous += 1
        if self._anonymous > ANONYMOUS_PER_S:
            self._left_out += 1
            return True
        return False

    def _rotated(self, path: Path) -> bool:
        try:
            return path.stat().st_ino != self._inode
        except OSError:
            return True

    def _reopen(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._descriptor != 2:
            os.close(self._descriptor)
        self._descriptor, self._inode = descriptor, os.fstat(descriptor).st_ino
