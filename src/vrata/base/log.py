"""Structured logs: one readable line (logfmt) per event on stderr, level from `VRATA_LOG` (default info)."""

import contextlib
import logging
import os

import structlog


class _Stderr:
    """Writes lines to stderr; a full disk under the log costs the line, never the process that wrote it."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, message.encode(errors="replace") + b"\n")

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = msg


def configure() -> None:
    """Set up structlog for this process; call once, from a command."""
    level = logging.getLevelNamesMapping().get(os.environ.get("VRATA_LOG", "info").upper(), logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=_Stderr,
    )
