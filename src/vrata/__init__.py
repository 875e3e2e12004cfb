"""Vrata: the way into a Kubernetes cluster, an active-standby HAProxy pair behind every address."""

__version__ = "0.1.0"
