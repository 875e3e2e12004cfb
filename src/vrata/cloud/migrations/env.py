"""Alembic's entry: runs the steps on the connection that `vrata.cloud.migrate` hands over."""

from alembic import context

from vrata.cloud import migrate

with_connection = context.config.attributes["connection"]
context.configure(connection=with_connection, target_metadata=migrate.metadata(), render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
