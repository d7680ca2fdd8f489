"""What each key has uploaded. Processes of the earlier version go on beside it, and count nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("file", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("parts", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("check_at", sa.DateTime, nullable=False),
    )
    op.create_index("upload_of_key", "upload", ["key", "parts", "bytes"])
    op.create_index("upload_check", "upload", ["check_at"])
    op.create_table(
        "upload_part",
        sa.Column("file", sa.String(128), sa.ForeignKey("upload.file", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("upload_part")
    op.drop_table("upload")
