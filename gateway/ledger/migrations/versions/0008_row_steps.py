"""What drawing a request costs, and an index of what is not done, by which work that waits is added up fast."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With a default, so that processes of the earlier version go on while they are replaced; theirs cost nothing.
    op.add_column("request", sa.Column("row_steps", sa.Float, nullable=False, server_default=sa.text("0")))
    going = sa.text("state <> 'done'")
    columns = ["state", "priority", "created_at", "row_steps"]
    op.create_index("request_demand", "request", columns, sqlite_where=going, postgresql_where=going)


def downgrade() -> None:
    op.drop_index("request_demand", "request")
    op.drop_column("request", "row_steps")
