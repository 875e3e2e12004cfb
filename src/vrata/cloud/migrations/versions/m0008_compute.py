"""Servers and their flavors."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def _text(name: str, length: int = 255, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), server_default=default, nullable=False)


def _times() -> tuple[sa.Column[datetime], ...]:
    return (
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
    )


def upgrade() -> None:
    op.create_table(
        "server_flavors",
        sa.Column("id", sa.String(length=64), nullable=False),
        _text("name"),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("ram", sa.Integer(), nullable=False),
        sa.Column("disk", sa.Integer(), server_default=sa.text("0"), nullable=False),
        *_times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_flavors")),
        sa.UniqueConstraint("name", name=op.f("uq_server_flavors_name")),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.String(length=64), nullable=False),
        _text("project_id", 64),
        _text("user_id", 64),
        _text("name"),
        _text("status", 16, "ACTIVE"),
        _text("availability_zone"),
        sa.Column("flavor", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=True),
        *_times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
    )
    op.create_index(op.f("ix_servers_project_id"), "servers", ["project_id"])


def downgrade() -> None:
    op.drop_table("servers")
    op.drop_table("server_flavors")
