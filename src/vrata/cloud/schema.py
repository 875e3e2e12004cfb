"""The database's one metadata object and the column shapes that every part of the schema shares.

It decides names of constraints (so that migrations can address them on both databases) and never queries.
Times are naive UTC; lists and small trees that no query looks into are JSON.
"""

from typing import Any

import sqlalchemy as sa

HEAD = "0013"  # the newest migration; `serve` compares it without importing Alembic

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key() -> sa.Column[str]:
    """The primary key `id`: a UUID in text, as the APIs write it."""
    return sa.Column("id", sa.String(64), primary_key=True)


def reference(name: str, target: str, *, nullable: bool = False, ondelete: str = "CASCADE") -> sa.Column[Any]:
    """A foreign key with an index."""
    return sa.Column(name, sa.String(64), sa.ForeignKey(target, ondelete=ondelete), nullable=nullable, index=True)


def text(name: str, length: int = 255, *, nullable: bool = False, index: bool = False, default: str = "") -> Any:
    """A string; NOT NULL ones default to empty."""
    if nullable:
        return sa.Column(name, sa.String(length), nullable=True, index=index)
    return sa.Column(name, sa.String(length), nullable=False, server_default=default, index=index)


def flag(name: str, *, default: bool = False) -> sa.Column[bool]:
    """A boolean, never null."""
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.true() if default else sa.false())


def number(name: str, *, nullable: bool = True, default: int | None = None) -> sa.Column[int]:
    """An integer."""
    return sa.Column(
        name, sa.Integer, nullable=nullable, server_default=None if default is None else sa.text(str(default))
    )


def data(name: str) -> sa.Column[Any]:
    """A JSON value; null means not given."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=True)


def owned() -> tuple[sa.Column[Any], ...]:
    """What every resource of a project has: its project, a name, a description, tags and two times."""
    return (
        text("project_id", 64, index=True),
        text("name"),
        text("description", 1024),
        data("tags"),
        *times(),
    )


def times() -> tuple[sa.Column[Any], ...]:
    """Creation and last change."""
    return (
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=True),
    )
