"""Network's tables: networks, subnets, ports and addresses, routers, floating IPs, security groups (Neutron v2)."""

import sqlalchemy as sa

from vrata.cloud.schema import data, flag, key, metadata, number, owned, reference, text

networks = sa.Table(
    "networks", metadata, key(), *owned(), flag("admin_state_up", default=True), text("status", 16, default="ACTIVE"),
    flag("shared"), flag("router_external"), flag("is_default"), flag("port_security_enabled", default=True),
    text("provider_network_type", 32, nullable=True), text("provider_physical_network", nullable=True),
    number("provider_segmentation_id"), number("mtu", nullable=False, default=1500), text("dns_domain"),
    number("revision_number", nullable=False, default=1),
)  # fmt: skip
subnets = sa.Table(
    "subnets", metadata, key(), *owned(), reference("network_id", "networks.id", ondelete="RESTRICT"),
    number("ip_version", nullable=False), text("cidr", 64), text("gateway_ip", 64, nullable=True),
    flag("enable_dhcp", default=True), data("allocation_pools"), data("dns_nameservers"), data("host_routes"),
    text("ipv6_ra_mode", 32, nullable=True), text("ipv6_address_mode", 32, nullable=True),
    text("subnetpool_id", 64, nullable=True), data("service_types"),
    number("revision_number", nullable=False, default=1),
)  # fmt: skip
ports = sa.Table(
    "ports", metadata, key(), *owned(), reference("network_id", "networks.id", ondelete="RESTRICT"),
    flag("admin_state_up", default=True), text("status", 16, default="DOWN"), text("mac_address", 32),
    text("device_id", index=True), text("device_owner"), data("security_groups"), data("allowed_address_pairs"),
    data("extra_dhcp_opts"), flag("port_security_enabled", default=True), text("dns_name"),
    text("binding_host_id", nullable=True), text("binding_vnic_type", 32, default="normal"),
    data("binding_profile"),
    number("revision_number", nullable=False, default=1), sa.UniqueConstraint("network_id", "mac_address"),
)  # fmt: skip
addresses = sa.Table(
    "port_addresses", metadata,
    sa.Column("port_id", sa.String(64), sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ip_address", sa.String(64), primary_key=True),
    reference("subnet_id", "subnets.id", ondelete="RESTRICT"),
    sa.Column("network_id", sa.String(64), sa.ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    number("position", nullable=False, default=0),
    sa.UniqueConstraint("network_id", "ip_address"),  # the last word on who has an address
)  # fmt: skip
routers = sa.Table(
    "routers", metadata, key(), *owned(), flag("admin_state_up", default=True), text("status", 16, default="ACTIVE"),
    reference("external_network_id", "networks.id", nullable=True, ondelete="RESTRICT"),
    flag("enable_snat", default=True), text("gateway_port_id", 64, nullable=True), data("routes"),
    number("generation", nullable=False, default=1), number("revision_number", nullable=False, default=1),
)  # fmt: skip
floating_ips = sa.Table(
    "floating_ips", metadata, key(), *owned(),
    reference("floating_network_id", "networks.id", ondelete="RESTRICT"), text("floating_ip_address", 64),
    text("floating_port_id", 64), reference("port_id", "ports.id", nullable=True, ondelete="SET NULL"),
    text("fixed_ip_address", 64, nullable=True), text("router_id", 64, nullable=True, index=True),
    text("status", 16, default="DOWN"), text("dns_name"), text("dns_domain"),
    number("revision_number", nullable=False, default=1), sa.UniqueConstraint("port_id", "fixed_ip_address"),
)  # fmt: skip
security_groups = sa.Table(
    "security_groups", metadata, key(), *owned(), flag("stateful", default=True), flag("shared"), flag("is_default"),
    number("revision_number", nullable=False, default=1),
)  # fmt: skip
security_group_rules = sa.Table(
    "security_group_rules", metadata, key(), *owned(), reference("security_group_id", "security_groups.id"),
    text("direction", 16), text("ethertype", 8), text("protocol", 32, nullable=True), number("port_range_min"),
    number("port_range_max"), text("remote_ip_prefix", 64, nullable=True), text("remote_group_id", 64, nullable=True),
    number("revision_number", nullable=False, default=1),
)  # fmt: skip
subnet_pools = sa.Table(
    "subnet_pools", metadata, key(), *owned(), data("prefixes"), number("ip_version", nullable=False),
    number("default_prefixlen", nullable=False), number("min_prefixlen", nullable=False),
    number("max_prefixlen", nullable=False), number("default_quota"), flag("shared"), flag("is_default"),
    number("revision_number", nullable=False, default=1),
)  # fmt: skip
quotas = sa.Table("network_quotas", metadata, sa.Column("project_id", sa.String(64), primary_key=True), data("limits"))
