"""Nodes of the cluster and their servers in the cloud: addresses, provider ids, labels, taints, deletion."""
