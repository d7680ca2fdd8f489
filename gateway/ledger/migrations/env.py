"""Alembic's environment: runs the revisions on the connection that the ledger hands over."""

from alembic import context

from gateway.files import upload_quota as uploads
from gateway.keys import sql as keys
from gateway.ledger.tables import metadata

assert keys.api_key.metadata is uploads.upload.metadata is metadata  # noqa: S101 (all tables are known by now)

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)

with context.begin_transaction():
    context.run_migrations()
