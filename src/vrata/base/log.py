"""Structured logs: one JSON-free, readable line per event on stderr, level from `VRATA_LOG` (default info)."""

import logging
import os
import sys

import structlog


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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
