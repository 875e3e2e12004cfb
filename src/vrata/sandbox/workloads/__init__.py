"""Deployments, ReplicaSets, pod placement and EndpointSlices of the sandbox's cluster."""
