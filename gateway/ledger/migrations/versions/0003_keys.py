"""API keys and what each has used."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("previous_hash", sa.String(64)),
        sa.Column("previous_until", sa.DateTime),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("concurrency", sa.Integer),
        sa.Column("queue_length", sa.Integer),
        sa.Column("pixel_steps", sa.BigInteger),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime),
        sa.Column("revoked_at", sa.DateTime),
    )
    op.create_table(
        "api_key_usage",
        sa.Column("key", sa.String(64), sa.ForeignKey("api_key.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("pixel_steps", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("api_key_usage")
    op.drop_table("api_key")
