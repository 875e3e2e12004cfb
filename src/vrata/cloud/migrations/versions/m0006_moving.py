"""Hosts that are drained; instances that shall be replaced, or hand over (Unix time since when)."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COLUMNS = (("hosts", "drained_at"), ("instances", "replace_at"), ("instances", "yield_at"))


def upgrade() -> None:
    for table, column in _COLUMNS:
        op.add_column(table, sa.Column(column, sa.Float(), nullable=True))


def downgrade() -> None:
    for table, column in _COLUMNS:
        op.drop_column(table, column)
