"""Hosts join with a token, and have certificates that can be revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "host_tokens",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), server_default="", nullable=False),
        sa.Column("ends", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_host_tokens")),
    )
    op.create_table(
        "host_revocations",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_host_revocations")),
    )


def downgrade() -> None:
    for table in ("host_revocations", "host_tokens"):
        op.drop_table(table)
