"""What a TLS reference stands for in HAProxy's form, sealed: read once, when a listener or pool takes it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_TABLES = ("secrets", "secret_containers")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("converted", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "converted")
