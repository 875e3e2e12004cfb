"""Namespaces, links, addresses, routes and nftables, through iproute2 and nft."""
