"""What happened to instances and hosts, the newest of it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), server_default="", nullable=False)


def upgrade() -> None:
    op.create_table(
        "transitions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        _text("owner_id", 64),
        _text("instance_id", 64),
        _text("host", 255),
        _text("before", 16),
        _text("after", 16),
        sa.Column("cause", sa.String(length=16), nullable=True),
        sa.Column("lasted_s", sa.Float(), nullable=True),
        sa.Column("silent_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    for column in ("owner_id", "instance_id"):
        op.create_index(op.f(f"ix_transitions_{column}"), "transitions", [column])


def downgrade() -> None:
    op.drop_table("transitions")
