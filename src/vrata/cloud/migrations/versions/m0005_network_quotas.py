"""Network's quotas and subnet pools."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _text(name: str, length: int = 255) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), server_default="", nullable=False)


def upgrade() -> None:
    op.create_table(
        "network_quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_network_quotas")),
    )
    op.create_table(
        "subnet_pools",
        sa.Column("id", sa.String(length=64), nullable=False),
        _text("project_id", 64),
        _text("name"),
        _text("description", 1024),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
        sa.Column("prefixes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("default_prefixlen", sa.Integer(), nullable=False),
        sa.Column("min_prefixlen", sa.Integer(), nullable=False),
        sa.Column("max_prefixlen", sa.Integer(), nullable=False),
        sa.Column("default_quota", sa.Integer(), nullable=True),
        sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("revision_number", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subnet_pools")),
    )
    op.create_index(op.f("ix_subnet_pools_project_id"), "subnet_pools", ["project_id"])


def downgrade() -> None:
    for table in ("subnet_pools", "network_quotas"):
        op.drop_table(table)
