"""Ingress controller: Ingress objects become routes in HAProxy, by DNS name and path."""
