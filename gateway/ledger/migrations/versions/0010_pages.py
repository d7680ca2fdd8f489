"""Indexes of the history's pages: what one key asked for, and what was asked of one endpoint, in order."""

from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # of each row, but for statements alone that say so too: those of the queue have indexes of their own
    listed = text("seq > 0")
    for name, column in (("request_by_key", "key"), ("request_by_endpoint", "endpoint")):
        op.create_index(name, "request", [column, "seq"], sqlite_where=listed, postgresql_where=listed)


def downgrade() -> None:
    op.drop_index("request_by_endpoint", "request")
    op.drop_index("request_by_key", "request")
