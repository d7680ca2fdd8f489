"""A ledger as the former version (schema 0004) left it, written with that version's own statements."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from gateway.ledger.database import migrate
from tests.gateway.ledger.works import APP, engine_of, work

REVISION = "0004"
HOOK = "https://example.com/hook"

_REQUEST = text("""
INSERT INTO request (
    id, app, endpoint, key, state, outcome, priority, turn, attempt, retries, crashes, may_retry, payload, owner,
    lease_until, cancel_requested, sync, created_at, started_at, finished_at, start_by, lines, idempotency_key,
    fingerprint, answer_status, error, error_type, webhook, input_media, output_media, answer_headers, work, input,
    answer_body
) VALUES (
    :id, :app, :endpoint, :key, :state, :outcome, 0, :turn, :attempt, 0, 0, :may_retry, 'kept', :owner,
    :lease_until, false, :sync, :created_at, :started_at, :finished_at, NULL, 0, NULL,
    NULL, :answer_status, NULL, NULL, :webhook, '[]', '[]', :answer_headers, :work, NULL,
    :answer_body
)
""")
_TURN = text("INSERT INTO turn (priority, key, claimed) VALUES (0, 'k1', :claimed)")
_DELIVERY = text("""
INSERT INTO delivery (request_seq, state, attempt, next_at)
SELECT seq, 'waiting', 0, created_at FROM request WHERE webhook IS NOT NULL AND state = 'done'
""")
_EMPTY = ("outcome", "owner", "lease_until", "started_at", "finished_at", "answer_status", "webhook", "answer_headers")


def insert_request(connection: Connection, name: str, now: datetime, **values: Any) -> None:
    """As a process of the former version does it, which knows no listeners."""
    usual = {
        "id": name,
        "app": APP,
        "endpoint": APP,
        "key": "k1",
        "state": "queued",
        "turn": 5,
        "attempt": 0,
        "may_retry": True,
        "sync": False,
        "created_at": _time(now),
        "work": work(name).model_dump_json(),
        "answer_body": None,
        **dict.fromkeys(_EMPTY),
    }
    connection.execute(_REQUEST, usual | values)


def write_ledger(url: str, now: datetime) -> None:
    """Two that wait, one that runs, a sync run, and one that has ended and owes its webhook; leases of 10 s."""
    held = {"attempt": 1, "lease_until": _time(now + timedelta(seconds=10))}
    ended = {"state": "done", "outcome": "ok", "attempt": 1, "finished_at": _time(now), "webhook": HOOK}
    answer = {"answer_status": 200, "answer_headers": "{}", "answer_body": '{"images": []}'}
    engine = engine_of(url)
    with engine.begin() as connection:
        migrate(connection, REVISION)
        connection.execute(_TURN, {"claimed": 4})
        insert_request(connection, "ended", now, **ended, **answer)
        insert_request(connection, "running", now, state="running", owner="old", started_at=_time(now), turn=4, **held)
        insert_request(connection, "run", now, state="claimed", owner="run:run", sync=True, may_retry=False, **held)
        for number in (5, 6):
            insert_request(connection, f"queued{number}", now, turn=number)
        connection.execute(_DELIVERY)
    engine.dispose()


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")
