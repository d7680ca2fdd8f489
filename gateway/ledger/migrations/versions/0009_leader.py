"""Which dispatcher of a service leads, and until when."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Processes of the earlier version know nothing of it: each of theirs goes on as if it led.
    op.create_table(
        "leader",
        sa.Column("service", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("leader")
