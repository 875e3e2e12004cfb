"""Hosts join with a token, and have certificates that can be revoked; the database says which programs may use it.

`least` is the newest revision that a program must know to use this database. A migration that only adds leaves it as it
is, so replicas of the last version continue, and may restart, beside newer ones; one that changes or removes what the last
version uses sets it.
"""

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
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_host_revocations")),
    )
    op.add_column("databases", sa.Column("least", sa.String(length=16), server_default="0013", nullable=False))


def downgrade() -> None:
    op.execute("ALTER TABLE databases DROP COLUMN least")
    for table in ("host_revocations", "host_tokens"):
        op.drop_table(table)
