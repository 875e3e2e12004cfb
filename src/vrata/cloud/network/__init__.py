"""Network: networks, subnets, ports, routers, floating IPs, security groups (Neutron v2.0)."""
