"""Keys, fair turns, retries, deadlines, idempotency, media and the webhook outbox."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_INDEXES = (
    ("request_claim", ["state", "priority", "turn", "seq"]),
    ("request_position", ["app", "state", "priority", "turn", "seq"]),
    ("request_start_by", ["state", "start_by"]),
    ("request_owner", ["owner", "state"]),
    ("request_of_key", ["key", "state", "priority", "turn"]),
    ("request_history", ["key", "endpoint", "seq"]),
    ("request_finished", ["state", "finished_at"]),
)


def _columns() -> list[sa.Column[Any]]:
    # The defaults are for rows of the first revision; the code names every value.
    return [
        sa.Column("key", sa.String(64), nullable=False, server_default=""),
        sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("retries", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("crashes", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("may_retry", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("start_by", sa.DateTime),
        sa.Column("lines", sa.Integer, nullable=False, server_default="0"),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("webhook", sa.Text),
        sa.Column("input_media", sa.Text, nullable=False, server_default="[]"),
        sa.Column("output_media", sa.Text, nullable=False, server_default="[]"),
    ]


def upgrade() -> None:
    op.drop_index("request_claim", "request")
    op.drop_index("request_position", "request")
    for column in _columns():
        op.add_column("request", column)
    for name, columns in _INDEXES:
        op.create_index(name, "request", columns)
    op.create_index("request_idempotency", "request", ["key", "endpoint", "idempotency_key"], unique=True)
    op.execute(
        "UPDATE request SET lines = (SELECT coalesce(max(log.number), 0) FROM log WHERE log.request_seq = request.seq)"
    )
    # What waits was one key's: one turn each, in its order, so that new keys do not wait behind all of it.
    op.execute(
        "UPDATE request SET turn = seq - (SELECT min(first.seq) FROM request AS first WHERE first.state = 'queued')"
        " WHERE state = 'queued'"
    )
    op.create_table(
        "turn",
        sa.Column("priority", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("claimed", sa.BigInteger, nullable=False),
    )
    op.create_index("turn_round", "turn", ["priority", "claimed"])
    op.execute("INSERT INTO turn (priority, key, claimed) SELECT DISTINCT priority, key, -1 FROM request")
    op.create_table(
        "delivery",
        sa.Column(
            "request_seq",
            _SEQUENCE,
            sa.ForeignKey("request.seq", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("owner", sa.String(128)),
        sa.Column("next_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("error", sa.Text),
    )
    op.create_index("delivery_due", "delivery", ["state", "next_at"])


def downgrade() -> None:
    op.drop_table("delivery")
    op.drop_table("turn")
    op.drop_index("request_idempotency", "request")
    for name, _ in reversed(_INDEXES):
        op.drop_index(name, "request")
    with op.batch_alter_table("request") as batch:
        for column in reversed(_columns()):
            batch.drop_column(column.name)
    op.create_index("request_claim", "request", ["state", "priority", "seq"])
    op.create_index("request_position", "request", ["app", "state", "priority", "seq"])
