"""Alembic migrations of the cloud's database."""
