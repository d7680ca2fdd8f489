"""An index of the sync runs whose clients wait, so that a key's are counted however much else it has asked for; none by
app any more, for places in the queue are read in its order.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    opened = sa.text("listened_until IS NOT NULL")
    op.create_index("request_open", "request", ["key"], sqlite_where=opened, postgresql_where=opened)
    op.drop_index("request_position", "request")


def downgrade() -> None:
    op.create_index("request_position", "request", ["app", "state", "priority", "turn", "seq"])
    op.drop_index("request_open", "request")
