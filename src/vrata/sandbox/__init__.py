"""A cloud and a cluster on one Linux machine: topology, API server, nodes, pods. Not for production."""
