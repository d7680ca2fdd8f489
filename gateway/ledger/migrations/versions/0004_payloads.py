"""The client's input for the history, and whether it may be stored."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default is for rows of earlier revisions; the code names every value.
    op.add_column("request", sa.Column("payload", sa.String(8), nullable=False, server_default="kept"))
    op.add_column("request", sa.Column("input", sa.Text))
    op.create_index("request_payload", "request", ["payload", "finished_at"])


def downgrade() -> None:
    op.drop_index("request_payload", "request")
    op.drop_column("request", "input")
    op.drop_column("request", "payload")
