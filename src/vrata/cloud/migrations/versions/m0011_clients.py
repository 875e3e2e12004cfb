"""What clients keep with resources: extra attributes of identity, a port's binding profile, metadata of secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

COLUMNS = (
    ("domains", "extra"), ("projects", "extra"), ("users", "extra"), ("roles", "extra"),
    ("ports", "binding_profile"), ("secrets", "metadata"), ("secrets", "consumers"),
)  # fmt: skip


def upgrade() -> None:
    for table, name in COLUMNS:
        op.add_column(table, sa.Column(name, sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    for table, name in COLUMNS:
        op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
