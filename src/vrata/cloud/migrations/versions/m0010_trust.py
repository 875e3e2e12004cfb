"""Which database this is, signs of life in rows of their own, and what hosts refuse."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    databases = op.create_table(
        "databases",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("revision_floor", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_databases")),
    )
    op.bulk_insert(databases, [{"id": str(uuid.uuid4()), "revision_floor": 0}])
    op.create_table(
        "heartbeats",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("beat", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("boot", sa.String(length=64), server_default="", nullable=False),
        sa.Column("number", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "departures",
        sa.Column("instance_id", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_departures")),
    )
    op.create_index(op.f("ix_departures_host"), "departures", ["host"])
    op.execute("INSERT INTO heartbeats (host, beat, at) SELECT name, 0, last_seen FROM hosts")
    op.add_column("hosts", sa.Column("refusal", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("hosts", sa.Column("adopt", sa.String(length=64), server_default="", nullable=False))
    op.execute("ALTER TABLE hosts DROP COLUMN last_seen")


def downgrade() -> None:
    op.add_column("hosts", sa.Column("last_seen", sa.Float(), server_default="0", nullable=False))
    for name in ("refusal", "adopt"):
        op.execute(f"ALTER TABLE hosts DROP COLUMN {name}")
    for table in ("departures", "heartbeats", "databases"):
        op.drop_table(table)
