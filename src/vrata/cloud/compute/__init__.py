"""Compute: machines that are registered as servers, so that a cluster's cloud provider finds its nodes (Nova v2.1)."""
