"""Balancing's tables: Octavia's tree, quotas, flavors, and the hosts and instances that carry load balancers."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.schema import data, flag, key, metadata, number, owned, reference, text, times


def statuses() -> tuple[sa.Column[Any], ...]:
    """Administrative state and Octavia's two statuses."""
    return (
        flag("admin_state_up", default=True),
        text("provisioning_status", 16, index=True, default="PENDING_CREATE"),
        text("operating_status", 16, default="OFFLINE"),
    )


def tls() -> tuple[sa.Column[Any], ...]:
    """What listeners and pools say about TLS."""
    return (text("tls_ciphers", 2048, nullable=True), data("tls_versions"), data("alpn_protocols"))


load_balancers = sa.Table(
    "load_balancers", metadata, key(), *owned(), *statuses(), text("vip_address", 64),
    text("vip_port_id", 64, index=True), text("vip_subnet_id", 64), text("vip_network_id", 64),
    text("vip_qos_policy_id", 64, nullable=True), text("vip_vnic_type", 32, default="normal"), data("vip_sg_ids"),
    data("additional_vips"), flag("vip_port_owned", default=True), text("provider", 64),
    text("flavor_id", 64, nullable=True), text("availability_zone", nullable=True),
    text("topology", 32, default="ACTIVE_STANDBY"), number("generation", nullable=False, default=1),
)  # fmt: skip
pools = sa.Table(
    "pools", metadata, key(), *owned(), *statuses(), reference("load_balancer_id", "load_balancers.id"),
    text("protocol", 16), text("lb_algorithm", 32), data("session_persistence"), flag("tls_enabled"),
    text("tls_container_ref", nullable=True), text("ca_tls_container_ref", nullable=True),
    text("crl_container_ref", nullable=True), *tls(),
)  # fmt: skip
listeners = sa.Table(
    "listeners", metadata, key(), *owned(), *statuses(), reference("load_balancer_id", "load_balancers.id"),
    text("protocol", 16), text("transport", 8), number("protocol_port", nullable=False),
    number("connection_limit", nullable=False, default=-1),
    reference("default_pool_id", "pools.id", nullable=True, ondelete="SET NULL"),
    text("default_tls_container_ref", nullable=True), data("sni_container_refs"), data("insert_headers"),
    number("timeout_client_data", nullable=False, default=50000),
    number("timeout_member_connect", nullable=False, default=5000),
    number("timeout_member_data", nullable=False, default=50000),
    number("timeout_tcp_inspect", nullable=False, default=0), text("client_authentication", 16, default="NONE"),
    text("client_ca_tls_container_ref", nullable=True), text("client_crl_container_ref", nullable=True),
    data("allowed_cidrs"), *tls(), number("hsts_max_age"), flag("hsts_include_subdomains"), flag("hsts_preload"),
    sa.UniqueConstraint("load_balancer_id", "transport", "protocol_port"),
)  # fmt: skip
members = sa.Table(
    "members", metadata, key(), *owned(), *statuses(), reference("pool_id", "pools.id"), text("address", 64),
    number("protocol_port", nullable=False), number("weight", nullable=False, default=1), flag("backup"),
    text("subnet_id", 64, nullable=True), text("monitor_address", 64, nullable=True), number("monitor_port"),
    text("vnic_type", 32, default="normal"), sa.UniqueConstraint("pool_id", "address", "protocol_port"),
)  # fmt: skip
health_monitors = sa.Table(
    "health_monitors", metadata, key(), *owned(), *statuses(), reference("pool_id", "pools.id"), text("type", 16),
    number("delay", nullable=False), number("timeout", nullable=False), number("max_retries", nullable=False),
    number("max_retries_down", nullable=False, default=3), text("http_method", 16, nullable=True),
    text("url_path", 2048, nullable=True), text("expected_codes", 64, nullable=True),
    sa.Column("http_version", sa.Float, nullable=True), text("domain_name", nullable=True),
    sa.UniqueConstraint("pool_id"),
)  # fmt: skip
l7policies = sa.Table(
    "l7policies", metadata, key(), *owned(), *statuses(), reference("listener_id", "listeners.id"),
    text("action", 32), number("position", nullable=False), text("redirect_url", 2048, nullable=True),
    text("redirect_prefix", 2048, nullable=True), number("redirect_http_code"),
    reference("redirect_pool_id", "pools.id", nullable=True, ondelete="RESTRICT"),
)  # fmt: skip
l7rules = sa.Table(
    "l7rules", metadata, key(), *owned(), *statuses(), reference("l7policy_id", "l7policies.id"), text("type", 32),
    text("compare_type", 32), text("key", nullable=True), text("value"), flag("invert"),
)  # fmt: skip
quotas = sa.Table(
    "quotas", metadata, sa.Column("project_id", sa.String(64), primary_key=True),
    *(number(name) for name in ("loadbalancer", "listener", "pool", "member", "healthmonitor", "l7policy", "l7rule")),
)  # fmt: skip
flavor_profiles = sa.Table(
    "flavor_profiles", metadata, key(), text("name"), text("provider_name"), data("flavor_data"),
)  # fmt: skip
flavors = sa.Table(
    "flavors", metadata, key(), text("name"), text("description", 1024), flag("enabled", default=True),
    reference("flavor_profile_id", "flavor_profiles.id", ondelete="RESTRICT"), sa.UniqueConstraint("name"),
)  # fmt: skip
availability_zone_profiles = sa.Table(
    "availability_zone_profiles", metadata, key(), text("name"), text("provider_name"), data("availability_zone_data"),
)  # fmt: skip
availability_zones = sa.Table(
    "availability_zones", metadata, sa.Column("name", sa.String(255), primary_key=True), text("description", 1024),
    flag("enabled", default=True),
    reference("availability_zone_profile_id", "availability_zone_profiles.id", ondelete="RESTRICT"),
)  # fmt: skip
databases = sa.Table(
    "databases", metadata, key(), number("revision_floor", nullable=False, default=0),
    text("least", 16, default="0013"),
)  # fmt: skip # one row: which database this is; no host's revision is below the floor; see migration 0013
hosts = sa.Table(
    "hosts", metadata, sa.Column("name", sa.String(255), primary_key=True), data("physical_networks"), flag("alive"),
    number("revision", nullable=False, default=1), sa.Column("drained_at", sa.Float, nullable=True), data("refusal"),
    text("adopt", 64),
)  # fmt: skip
heartbeats = sa.Table(  # apart from `hosts`: a sign of life waits for no transaction that changes a desired set
    "heartbeats", metadata, sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"), sa.Column("at", sa.Float, nullable=False),
    text("boot", 64), sa.Column("number", sa.BigInteger, nullable=False, server_default="0"),  # of the last report
)  # fmt: skip
host_tokens = sa.Table(  # with which a host joins, once; of the token itself there is only a hash
    "host_tokens", metadata, sa.Column("hash", sa.String(64), primary_key=True), text("host"),
    sa.Column("ends", sa.Float, nullable=False),
)  # fmt: skip
host_revocations = sa.Table(  # certificates of this host with a lower epoch are not accepted
    "host_revocations", metadata, sa.Column("host", sa.String(255), primary_key=True),
    number("epoch", nullable=False, default=0),
)  # fmt: skip
departures = sa.Table(  # instances that are no more, until the host that had them reports without them
    "departures", metadata, sa.Column("instance_id", sa.String(64), primary_key=True), text("host", index=True),
)  # fmt: skip
instances = sa.Table(
    "instances", metadata, key(), text("kind", 16), text("owner_id", 64, index=True),
    reference("host", "hosts.name", ondelete="RESTRICT"), flag("leaving"),
    number("priority", nullable=False), text("vrrp_address", 64), text("vrrp_port_id", 64),
    number("observed_generation", nullable=False, default=0), text("state", 16, default="UNKNOWN"),
    sa.Column("error", sa.Text, nullable=True), data("members"), data("listeners"), *times(),
    sa.Column("replace_at", sa.Float, nullable=True), sa.Column("yield_at", sa.Float, nullable=True),
    sa.UniqueConstraint("owner_id", "host"),
)  # fmt: skip
transitions = sa.Table(
    "transitions", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.Float, nullable=False),
    text("owner_id", 64, index=True), text("instance_id", 64, index=True), text("host"), text("before", 16),
    text("after", 16), text("cause", 16, nullable=True), sa.Column("lasted_s", sa.Float, nullable=True),
    sa.Column("silent_s", sa.Float, nullable=True),
)  # fmt: skip
