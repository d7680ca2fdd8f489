"""Indexes of the history's pages: what one key asked for, and what was asked of one endpoint, in order."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("request_by_key", "request", ["key", "seq"])
    op.create_index("request_by_endpoint", "request", ["endpoint", "seq"])


def downgrade() -> None:
    op.drop_index("request_by_endpoint", "request")
    op.drop_index("request_by_key", "request")
