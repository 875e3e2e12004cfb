"""Balancing: load balancers and all under them (Octavia v2), and the instances that carry them."""
