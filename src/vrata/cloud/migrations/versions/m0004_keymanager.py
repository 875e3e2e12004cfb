"""The tables of the key manager."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _times() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=True),
    )


def _text(name: str, length: int = 255) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), server_default="", nullable=False)


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(length=64), nullable=False),
        _text("project_id", 64),
        _text("creator_id", 64),
        _text("name"),
        _text("secret_type", 16),
        sa.Column("algorithm", sa.String(length=255), nullable=True),
        sa.Column("bit_length", sa.Integer(), nullable=True),
        sa.Column("mode", sa.String(length=255), nullable=True),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("content_type", sa.String(length=64), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("acl", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        *_times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
    )
    op.create_index(op.f("ix_secrets_project_id"), "secrets", ["project_id"])
    op.create_table(
        "secret_containers",
        sa.Column("id", sa.String(length=64), nullable=False),
        _text("project_id", 64),
        _text("creator_id", 64),
        _text("name"),
        _text("type", 16),
        sa.Column("secrets", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("acl", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        *_times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secret_containers")),
    )
    op.create_index(op.f("ix_secret_containers_project_id"), "secret_containers", ["project_id"])
    op.create_table(
        "secret_consumers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("container_id", sa.String(length=64), nullable=False),
        _text("name"),
        _text("url", 500),
        *_times(),
        sa.ForeignKeyConstraint(
            ["container_id"], ["secret_containers.id"], name=op.f("fk_secret_consumers_container_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secret_consumers")),
        sa.UniqueConstraint("container_id", "name", "url", name=op.f("uq_secret_consumers_container_id_name_url")),
    )  # fmt: skip
    op.create_index(op.f("ix_secret_consumers_container_id"), "secret_consumers", ["container_id"])


def downgrade() -> None:
    for table in ("secret_consumers", "secret_containers", "secrets"):
        op.drop_table(table)
