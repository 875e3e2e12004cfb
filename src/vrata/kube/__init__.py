"""Kubernetes client: configuration, typed calls, informers, events."""
