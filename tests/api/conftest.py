"""Fixtures of the API tests."""

from tests.support.kubernetes import cluster, namespace

__all__ = ["cluster", "namespace"]
