"""A role may belong to a domain."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("roles", sa.Column("domain_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM roles WHERE domain_id IS NOT NULL")
    op.execute("ALTER TABLE roles DROP COLUMN domain_id")
