"""Time as an argument: pure code takes `now`, callers at the edge ask here."""

import time
from datetime import UTC, datetime

_BEGAN_S = time.time() - time.monotonic()


def now() -> datetime:
    """The current time, UTC, aware."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Seconds on a clock that never jumps, for intervals and deadlines."""
    return time.monotonic()


def thread_s() -> float:
    """Processor time of this thread, seconds."""
    return time.thread_time()


def steady_s() -> float:
    """Unix time that follows the clock as it was when this process began, and never jumps with it."""
    return _BEGAN_S + time.monotonic()


def rfc3339(moment: datetime) -> str:
    """`2026-01-02T03:04:05Z`, as Kubernetes' metav1.Time writes it (whole seconds)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`2026-01-02T03:04:05.678901Z`, as Kubernetes' metav1.MicroTime writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
