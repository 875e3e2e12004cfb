"""Fixtures of the hostile suite."""

from tests.system.host.conftest import short_path

__all__ = ["short_path"]
