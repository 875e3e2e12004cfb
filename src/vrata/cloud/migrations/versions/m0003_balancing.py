"""The tables of balancing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "availability_zone_profiles",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("provider_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("availability_zone_data", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_availability_zone_profiles")),
    )
    op.create_table(
        "flavor_profiles",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("provider_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("flavor_data", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavor_profiles")),
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("physical_networks", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("alive", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("last_seen", sa.Float(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "load_balancers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("vip_address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("vip_port_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("vip_subnet_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("vip_network_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("vip_qos_policy_id", sa.String(length=64), nullable=True),
        sa.Column("vip_vnic_type", sa.String(length=32), server_default="normal", nullable=False),
        sa.Column("vip_sg_ids", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("additional_vips", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("vip_port_owned", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provider", sa.String(length=64), server_default="", nullable=False),
        sa.Column("flavor_id", sa.String(length=64), nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("topology", sa.String(length=32), server_default="ACTIVE_STANDBY", nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_balancers")),
    )
    op.create_index(op.f("ix_load_balancers_project_id"), "load_balancers", ["project_id"], unique=False)
    op.create_index(
        op.f("ix_load_balancers_provisioning_status"), "load_balancers", ["provisioning_status"], unique=False
    )
    op.create_index(op.f("ix_load_balancers_vip_port_id"), "load_balancers", ["vip_port_id"], unique=False)
    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("loadbalancer", sa.Integer(), nullable=True),
        sa.Column("listener", sa.Integer(), nullable=True),
        sa.Column("pool", sa.Integer(), nullable=True),
        sa.Column("member", sa.Integer(), nullable=True),
        sa.Column("healthmonitor", sa.Integer(), nullable=True),
        sa.Column("l7policy", sa.Integer(), nullable=True),
        sa.Column("l7rule", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_quotas")),
    )
    op.create_table(
        "availability_zones",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("availability_zone_profile_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["availability_zone_profile_id"],
            ["availability_zone_profiles.id"],
            name=op.f("fk_availability_zones_availability_zone_profile_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_availability_zones")),
    )
    op.create_index(
        op.f("ix_availability_zones_availability_zone_profile_id"),
        "availability_zones",
        ["availability_zone_profile_id"],
        unique=False,
    )
    op.create_table(
        "flavors",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("flavor_profile_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["flavor_profile_id"],
            ["flavor_profiles.id"],
            name=op.f("fk_flavors_flavor_profile_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavors")),
        sa.UniqueConstraint("name", name=op.f("uq_flavors_name")),
    )
    op.create_index(op.f("ix_flavors_flavor_profile_id"), "flavors", ["flavor_profile_id"], unique=False)
    op.create_table(
        "instances",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), server_default="", nullable=False),
        sa.Column("owner_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("leaving", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("vrrp_address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("vrrp_port_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("observed_generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="UNKNOWN", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("members", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("listeners", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_instances_host"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("owner_id", "host", name=op.f("uq_instances_owner_id_host")),
    )
    op.create_index(op.f("ix_instances_host"), "instances", ["host"], unique=False)
    op.create_index(op.f("ix_instances_owner_id"), "instances", ["owner_id"], unique=False)
    op.create_table(
        "pools",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("load_balancer_id", sa.String(length=64), nullable=False),
        sa.Column("protocol", sa.String(length=16), server_default="", nullable=False),
        sa.Column("lb_algorithm", sa.String(length=32), server_default="", nullable=False),
        sa.Column("session_persistence", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("tls_enabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("ca_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("crl_container_ref", sa.String(length=255), nullable=True),
        sa.Column("tls_ciphers", sa.String(length=2048), nullable=True),
        sa.Column("tls_versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("alpn_protocols", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name=op.f("fk_pools_load_balancer_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pools")),
    )
    op.create_index(op.f("ix_pools_load_balancer_id"), "pools", ["load_balancer_id"], unique=False)
    op.create_index(op.f("ix_pools_project_id"), "pools", ["project_id"], unique=False)
    op.create_index(op.f("ix_pools_provisioning_status"), "pools", ["provisioning_status"], unique=False)
    op.create_table(
        "health_monitors",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("pool_id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), server_default="", nullable=False),
        sa.Column("delay", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("max_retries_down", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("http_method", sa.String(length=16), nullable=True),
        sa.Column("url_path", sa.String(length=2048), nullable=True),
        sa.Column("expected_codes", sa.String(length=64), nullable=True),
        sa.Column("http_version", sa.Float(), nullable=True),
        sa.Column("domain_name", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_health_monitors_pool_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_health_monitors")),
        sa.UniqueConstraint("pool_id", name=op.f("uq_health_monitors_pool_id")),
    )
    op.create_index(op.f("ix_health_monitors_pool_id"), "health_monitors", ["pool_id"], unique=False)
    op.create_index(op.f("ix_health_monitors_project_id"), "health_monitors", ["project_id"], unique=False)
    op.create_index(
        op.f("ix_health_monitors_provisioning_status"), "health_monitors", ["provisioning_status"], unique=False
    )
    op.create_table(
        "listeners",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("load_balancer_id", sa.String(length=64), nullable=False),
        sa.Column("protocol", sa.String(length=16), server_default="", nullable=False),
        sa.Column("transport", sa.String(length=8), server_default="", nullable=False),
        sa.Column("protocol_port", sa.Integer(), nullable=False),
        sa.Column("connection_limit", sa.Integer(), server_default=sa.text("-1"), nullable=False),
        sa.Column("default_pool_id", sa.String(length=64), nullable=True),
        sa.Column("default_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("sni_container_refs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("insert_headers", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("timeout_client_data", sa.Integer(), server_default=sa.text("50000"), nullable=False),
        sa.Column("timeout_member_connect", sa.Integer(), server_default=sa.text("5000"), nullable=False),
        sa.Column("timeout_member_data", sa.Integer(), server_default=sa.text("50000"), nullable=False),
        sa.Column("timeout_tcp_inspect", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("client_authentication", sa.String(length=16), server_default="NONE", nullable=False),
        sa.Column("client_ca_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("client_crl_container_ref", sa.String(length=255), nullable=True),
        sa.Column("allowed_cidrs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("tls_ciphers", sa.String(length=2048), nullable=True),
        sa.Column("tls_versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("alpn_protocols", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("hsts_max_age", sa.Integer(), nullable=True),
        sa.Column("hsts_include_subdomains", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("hsts_preload", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(
            ["default_pool_id"], ["pools.id"], name=op.f("fk_listeners_default_pool_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name=op.f("fk_listeners_load_balancer_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listeners")),
        sa.UniqueConstraint(
            "load_balancer_id",
            "transport",
            "protocol_port",
            name=op.f("uq_listeners_load_balancer_id_transport_protocol_port"),
        ),
    )
    op.create_index(op.f("ix_listeners_default_pool_id"), "listeners", ["default_pool_id"], unique=False)
    op.create_index(op.f("ix_listeners_load_balancer_id"), "listeners", ["load_balancer_id"], unique=False)
    op.create_index(op.f("ix_listeners_project_id"), "listeners", ["project_id"], unique=False)
    op.create_index(op.f("ix_listeners_provisioning_status"), "listeners", ["provisioning_status"], unique=False)
    op.create_table(
        "members",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("pool_id", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("protocol_port", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("backup", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("subnet_id", sa.String(length=64), nullable=True),
        sa.Column("monitor_address", sa.String(length=64), nullable=True),
        sa.Column("monitor_port", sa.Integer(), nullable=True),
        sa.Column("vnic_type", sa.String(length=32), server_default="normal", nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_members_pool_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint(
            "pool_id", "address", "protocol_port", name=op.f("uq_members_pool_id_address_protocol_port")
        ),
    )
    op.create_index(op.f("ix_members_pool_id"), "members", ["pool_id"], unique=False)
    op.create_index(op.f("ix_members_project_id"), "members", ["project_id"], unique=False)
    op.create_index(op.f("ix_members_provisioning_status"), "members", ["provisioning_status"], unique=False)
    op.create_table(
        "l7policies",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("listener_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), server_default="", nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("redirect_url", sa.String(length=2048), nullable=True),
        sa.Column("redirect_prefix", sa.String(length=2048), nullable=True),
        sa.Column("redirect_http_code", sa.Integer(), nullable=True),
        sa.Column("redirect_pool_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["listener_id"], ["listeners.id"], name=op.f("fk_l7policies_listener_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["redirect_pool_id"], ["pools.id"], name=op.f("fk_l7policies_redirect_pool_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_l7policies")),
    )
    op.create_index(op.f("ix_l7policies_listener_id"), "l7policies", ["listener_id"], unique=False)
    op.create_index(op.f("ix_l7policies_project_id"), "l7policies", ["project_id"], unique=False)
    op.create_index(op.f("ix_l7policies_provisioning_status"), "l7policies", ["provisioning_status"], unique=False)
    op.create_index(op.f("ix_l7policies_redirect_pool_id"), "l7policies", ["redirect_pool_id"], unique=False)
    op.create_table(
        "l7rules",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("provisioning_status", sa.String(length=16), server_default="PENDING_CREATE", nullable=False),
        sa.Column("operating_status", sa.String(length=16), server_default="OFFLINE", nullable=False),
        sa.Column("l7policy_id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=32), server_default="", nullable=False),
        sa.Column("compare_type", sa.String(length=32), server_default="", nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("value", sa.String(length=255), server_default="", nullable=False),
        sa.Column("invert", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(
            ["l7policy_id"], ["l7policies.id"], name=op.f("fk_l7rules_l7policy_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_l7rules")),
    )
    op.create_index(op.f("ix_l7rules_l7policy_id"), "l7rules", ["l7policy_id"], unique=False)
    op.create_index(op.f("ix_l7rules_project_id"), "l7rules", ["project_id"], unique=False)
    op.create_index(op.f("ix_l7rules_provisioning_status"), "l7rules", ["provisioning_status"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_l7rules_provisioning_status"), table_name="l7rules")
    op.drop_index(op.f("ix_l7rules_project_id"), table_name="l7rules")
    op.drop_index(op.f("ix_l7rules_l7policy_id"), table_name="l7rules")
    op.drop_table("l7rules")
    op.drop_index(op.f("ix_l7policies_redirect_pool_id"), table_name="l7policies")
    op.drop_index(op.f("ix_l7policies_provisioning_status"), table_name="l7policies")
    op.drop_index(op.f("ix_l7policies_project_id"), table_name="l7policies")
    op.drop_index(op.f("ix_l7policies_listener_id"), table_name="l7policies")
    op.drop_table("l7policies")
    op.drop_index(op.f("ix_members_provisioning_status"), table_name="members")
    op.drop_index(op.f("ix_members_project_id"), table_name="members")
    op.drop_index(op.f("ix_members_pool_id"), table_name="members")
    op.drop_table("members")
    op.drop_index(op.f("ix_listeners_provisioning_status"), table_name="listeners")
    op.drop_index(op.f("ix_listeners_project_id"), table_name="listeners")
    op.drop_index(op.f("ix_listeners_load_balancer_id"), table_name="listeners")
    op.drop_index(op.f("ix_listeners_default_pool_id"), table_name="listeners")
    op.drop_table("listeners")
    op.drop_index(op.f("ix_health_monitors_provisioning_status"), table_name="health_monitors")
    op.drop_index(op.f("ix_health_monitors_project_id"), table_name="health_monitors")
    op.drop_index(op.f("ix_health_monitors_pool_id"), table_name="health_monitors")
    op.drop_table("health_monitors")
    op.drop_index(op.f("ix_pools_provisioning_status"), table_name="pools")
    op.drop_index(op.f("ix_pools_project_id"), table_name="pools")
    op.drop_index(op.f("ix_pools_load_balancer_id"), table_name="pools")
    op.drop_table("pools")
    op.drop_index(op.f("ix_instances_owner_id"), table_name="instances")
    op.drop_index(op.f("ix_instances_host"), table_name="instances")
    op.drop_table("instances")
    op.drop_index(op.f("ix_flavors_flavor_profile_id"), table_name="flavors")
    op.drop_table("flavors")
    op.drop_index(op.f("ix_availability_zones_availability_zone_profile_id"), table_name="availability_zones")
    op.drop_table("availability_zones")
    op.drop_table("quotas")
    op.drop_index(op.f("ix_load_balancers_vip_port_id"), table_name="load_balancers")
    op.drop_index(op.f("ix_load_balancers_provisioning_status"), table_name="load_balancers")
    op.drop_index(op.f("ix_load_balancers_project_id"), table_name="load_balancers")
    op.drop_table("load_balancers")
    op.drop_table("hosts")
    op.drop_table("flavor_profiles")
    op.drop_table("availability_zone_profiles")
