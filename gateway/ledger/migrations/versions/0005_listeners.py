"""Who waits for a sync run, which takes its turn in the queue like any other request."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Both may be empty, so that processes of the earlier version go on while they are replaced.
    op.add_column("request", sa.Column("listener", sa.String(128)))
    op.add_column("request", sa.Column("listened_until", sa.DateTime))
    op.create_index("request_listener", "request", ["listener", "state"])
    op.create_index("request_listened_until", "request", ["state", "listened_until"])


def downgrade() -> None:
    op.drop_index("request_listened_until", "request")
    op.drop_index("request_listener", "request")
    op.drop_column("request", "listened_until")
    op.drop_column("request", "listener")
