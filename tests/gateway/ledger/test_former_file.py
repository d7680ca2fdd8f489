"""A ledger file that revision 0004 of this service wrote, under way, goes on as it was left."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.errors import RETRYABLE_PLATFORM
from gateway.ledger.models import Idempotency, IdempotencyConflict, Outcome, State, Terms
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.webhooks.sender import Sender, SendingLimits
from gateway.webhooks.signing import ring_of
from tests.gateway.fakes import FAST, until
from tests.gateway.ledger.works import OK, Clock
from tests.kills.client import Receiver, receiver

# Written by version 0.1.0 as it was at schema 0004, with a clock of its own, then vacuumed: eight requests of which
# two have ended, one runs, two are sync runs of its gateways (born claimed, which no later version does), three wait.
FILE = Path(__file__).parents[2] / "data" / "ledger-0004.db"
LEFT_AT = datetime(2026, 1, 1, 0, 0, 8, tzinfo=UTC)
LEASES_END = 20.0  # seconds later
TOLD, OWING, RUNNING, RUN, RUN_NOT_BEGUN, QUEUED, OF_KEY, LOW = (
    f"0f8fad5b-d9cb-469f-a165-{number:012}" for number in range(1, 9)
)
FOOOCUS = "fal-ai/fooocus"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file, copied."""
    return Path(shutil.copy(FILE, tmp_path / "ledger.db"))


@pytest.fixture
def clock() -> Clock:
    """Goes on from where the file was left."""
    clock = Clock()
    clock.now = LEFT_AT
    return clock


@pytest.fixture
async def ledger(path: Path, clock: Clock) -> AsyncIterator[SqlLedger]:
    opened = await SqlLedger.open(f"sqlite:///{path}", clock)
    yield opened
    await opened.close()


async def test_the_file_is_kept_beside_the_one_that_goes_on(ledger: SqlLedger, path: Path) -> None:
    with (
        closing(sqlite3.connect(path.with_name("ledger-0004.backup.db"))) as kept,
        closing(sqlite3.connect(FILE)) as written,
    ):
        assert [*kept.iterdump()] == [*written.iterdump()]
    with closing(sqlite3.connect(path)) as current:
        assert current.execute("SELECT version_num FROM alembic_version").fetchone() > ("0004",)


async def test_what_waited_is_claimed_in_its_order_and_can_be_read(ledger: SqlLedger) -> None:
    claims = await ledger.claim("new", 9, 60)
    assert [claim.work.request_id for claim in claims] == [OF_KEY, QUEUED, LOW]  # its key has had less
    assert [claim.work.spec.prompt for claim in claims] == ["a queued hat", "a queued cube", "a low cube"]
    start = claims[0].work.spec.start
    assert start is not None
    assert start.source == "https://example.com/a.png"
    for claim in claims:
        assert await ledger.running(claim)
        assert await ledger.finish(claim, Outcome.OK, OK)


async def test_what_ran_is_left_to_its_owner_until_its_lease_is_over(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.claim("new", 9, 60)
    assert await ledger.expire() == 0
    status = await ledger.status(RUNNING, FAST)
    assert status is not None
    assert (status.state, status.lines) == (State.RUNNING, 2)
    clock.turn(LEASES_END)
    assert await ledger.expire() == 1
    (again,) = await ledger.claim("new", 9, 60)
    assert (again.work.request_id, again.attempt, again.work.spec.seeds) == (RUNNING, 2, (3, 4))


async def test_what_has_ended_is_answered_as_before(ledger: SqlLedger) -> None:
    answer = await ledger.answer(TOLD, FAST)
    assert answer is not None
    assert (answer.status, answer.body["seed"], answer.body["prompt"]) == (200, 1, "a red cube")
    assert answer.body["images"][0]["url"] == f"http://127.0.0.1:8000/files/outputs/{TOLD}/0.png"
    assert await ledger.answer(OWING, FOOOCUS, "another-key") is None
    record = await ledger.history.show(TOLD)
    assert record is not None
    assert record.input == {"prompt": "a red cube", "seed": 1}


async def test_sync_runs_of_gateways_that_have_gone_end_as_something_to_send_again(
    ledger: SqlLedger, clock: Clock
) -> None:
    assert await ledger.expire() == 0
    clock.turn(LEASES_END)
    await ledger.expire()
    for run in (RUN, RUN_NOT_BEGUN):
        status, answer = await ledger.status(run, FAST), await ledger.answer(run, FAST)
        assert status is not None
        assert answer is not None
        assert status.outcome is Outcome.ERROR
        assert answer.error_type in RETRYABLE_PLATFORM
        assert (answer.status, answer.headers["x-fal-retryable"]) == (503, "true")


async def test_a_name_that_a_client_gave_its_submission_is_still_known(ledger: SqlLedger) -> None:
    _, queued, _ = await ledger.claim("new", 9, 60)
    again = queued.work.model_copy(update={"request_id": "0f8fad5b-d9cb-469f-a165-999999999999"})
    accepted = await ledger.submit(again, FAST, Terms(idempotency=Idempotency("name-6", "f" * 64)))
    assert (accepted.request_id, accepted.repeated) == (QUEUED, True)
    with pytest.raises(IdempotencyConflict):
        await ledger.submit(again, FAST, Terms(idempotency=Idempotency("name-6", "0" * 64)))


async def test_a_webhook_that_was_owed_is_delivered_once(path: Path, clock: Clock, settings: GatewaySettings) -> None:
    with receiver() as hook:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE request SET webhook = ? WHERE webhook IS NOT NULL", [hook.url])
            connection.commit()
        ledger = await SqlLedger.open(f"sqlite:///{path}", clock)
        clock.turn(LEASES_END)
        await check_that_it_is_told_once(ledger, hook, settings)
        await ledger.close()


async def check_that_it_is_told_once(ledger: SqlLedger, hook: Receiver, settings: GatewaySettings) -> None:
    limits = SendingLimits(tick_s=0.01, allow_loopback=True)
    sender = Sender(ledger.outbox, ring_of(settings), limits, "sender")
    sending = asyncio.create_task(sender.run())

    async def delivered() -> bool:
        sent = await ledger.outbox.of(OWING)
        return sent is not None and sent.state is DeliveryState.DELIVERED

    await until(delivered)
    assert await ledger.outbox.claim("another", 9, 60) == []
    sender.stop()
    await sending
    assert hook.heard == {OWING: 1}
    assert hook.bodies[OWING]["payload"]["images"][0]["url"].endswith(f"{OWING}/0.png")
