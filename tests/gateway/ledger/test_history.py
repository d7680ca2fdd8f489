"""What was asked and answered: lists, records, deletion with the keys of files, retention."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from benchmarks.ledger_depth import PostgresqlRows, SqliteSteps
from gateway.ledger.history import StillInProgress
from gateway.ledger.models import Outcome, Payload, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from tests.gateway.ledger.works import APP, OK, Clock, state, work

INPAINT = "fal-ai/fooocus/inpaint"
FEW: Sequence[Any] = (
    {"key": "rare"},
    {"key": "rare", "outcome": Outcome.CANCELLED},
    {"endpoint": INPAINT},
    {"endpoint": INPAINT, "outcome": Outcome.CANCELLED},
    {"states": [State.QUEUED]},
    {"key": "k1", "states": [State.QUEUED]},
    {"key": "k1", "endpoint": APP, "states": [State.QUEUED]},
    {"states": [State.DONE], "limit": 1},
)


async def done(ledger: SqlLedger, name: str, key: str = "", webhook: str | None = None) -> None:
    await ledger.submit(work(name), APP, Terms(key=key, media=[f"inputs/{name}/0.png"], webhook=webhook))
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.log(claim, [("INFO", "line")])
    assert await ledger.finish(claim, Outcome.OK, OK, [f"outputs/{name}/0.png"])


async def test_a_list_is_of_one_key_and_endpoint_newest_first_in_pages(ledger: SqlLedger) -> None:
    for number in range(5):
        await ledger.submit(work(f"a{number}"), APP, Terms(key="k1"))
        await ledger.submit(work(f"b{number}"), APP, Terms(key="k2"))
        await ledger.submit(work(f"c{number}", INPAINT), APP, Terms(key="k1"))
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = await ledger.history.list("k1", APP, cursor, limit=2)
        names += [entry.request_id for entry in page.entries]
        if (cursor := page.cursor) is None:
            break
    assert names == ["a4", "a3", "a2", "a1", "a0"]
    assert len((await ledger.history.list("k1")).entries) == 10
    assert len((await ledger.history.list()).entries) == 15
    assert (await ledger.history.list("k3")).entries == []


async def test_a_list_is_of_some_states_or_of_one_outcome_in_pages(ledger: SqlLedger) -> None:
    for number in range(3):
        await done(ledger, f"ok{number}", "k1")
        await ledger.submit(work(f"gone{number}"), APP, Terms(key="k1"))
        await ledger.cancel(f"gone{number}", APP)
    await ledger.submit(work("waits"), APP, Terms(key="k1"))
    first = await ledger.history.list("k1", APP, limit=2, outcome=Outcome.CANCELLED)
    second = await ledger.history.list("k1", APP, first.cursor, 2, outcome=Outcome.CANCELLED)
    assert [entry.request_id for entry in [*first.entries, *second.entries]] == ["gone2", "gone1", "gone0"]
    assert second.cursor is None
    waiting = await ledger.history.list("k1", states=[State.QUEUED, State.CLAIMED])
    assert [entry.request_id for entry in waiting.entries] == ["waits"]
    ended = await ledger.history.list(states=[State.DONE], limit=4)
    assert [entry.request_id for entry in ended.entries] == ["gone2", "ok2", "gone1", "ok1"]
    assert (await ledger.history.list("k2", outcome=Outcome.OK)).entries == []


async def test_a_page_of_a_rare_outcome_looks_at_so_many_and_leads_on(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.history.LOOKED_AT", 2)
    await ledger.submit(work("gone"), APP)
    await ledger.cancel("gone", APP)
    for number in range(4):
        await done(ledger, f"ok{number}")
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await ledger.history.list(cursor=cursor, outcome=Outcome.CANCELLED)
        found.append([entry.request_id for entry in page.entries])
        if (cursor := page.cursor) is None:
            break
    assert found == [[], [], ["gone"]]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_page_of_few_costs_no_more_in_a_long_history(
    kind: str, clock: Clock, request: pytest.FixtureRequest
) -> None:
    meter = SqliteSteps() if kind == "sqlite" else PostgresqlRows()
    ledger = await SqlLedger.open(request.getfixturevalue(f"{kind}_url"), clock)
    await ledger.submit(work("few", INPAINT), APP, Terms(key="rare"))
    await ledger.cancel("few", APP)
    await ledger.submit(work("waits"), APP, Terms(key="k1"))
    counted: list[list[int]] = []
    for numbers in (range(300), range(300, 6_000)):
        await ledger.database.write(partial(_add_ended, numbers=numbers))
        counted.append([])
        for asked in FEW:
            with meter.counting():
                pages = [await ledger.history.list(**asked, cursor=cursor) for cursor in (None, str(10**9))]
            assert [len(page.entries) for page in pages] == [1, 1]
            counted[-1].append(meter.counted)
    meter.close()
    await ledger.close()
    for asked, short, long in zip(FEW, *counted, strict=True):
        assert 0 < long <= short + 50, asked


def _add_ended(connection: Connection, numbers: Sequence[int]) -> None:
    """As many that were drawn for a key as that are given."""
    row = dict(connection.execute(request.select().where(request.c.id == "waits")).mappings().one())
    del row["seq"]
    ended = row | {"state": State.DONE, "outcome": Outcome.OK}
    connection.execute(insert(request), [ended | {"id": f"d{number}"} for number in numbers])
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE request"))  # as the server does by itself a little later


async def test_a_page_does_not_shift_when_requests_come_in(ledger: SqlLedger) -> None:
    for name in "abcd":
        await ledger.submit(work(name), APP)
    first = await ledger.history.list(limit=2)
    await ledger.submit(work("e"), APP)
    second = await ledger.history.list(cursor=first.cursor, limit=2)
    assert [entry.request_id for entry in [*first.entries, *second.entries]] == ["d", "c", "b", "a"]
    assert second.cursor is None


async def test_a_foreign_cursor_is_refused(ledger: SqlLedger) -> None:
    for cursor in ("", "x", "-1", "1.5", "٣", "9" * 30):
        with pytest.raises(ValueError, match="cursor"):
            await ledger.history.list(cursor=cursor)


async def test_a_record_has_what_went_in_and_came_out(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("a"), APP, Terms(key="k1"))
    waiting = await ledger.history.show("a", "k1")
    assert waiting is not None
    assert (waiting.entry.state, waiting.answer, waiting.media) == (State.QUEUED, None, [])
    assert waiting.work["spec"]["prompt"] == "a red cube"
    await ledger.cancel("a", APP)
    await done(ledger, "b", "k1")
    record = await ledger.history.show("b", "k1")
    assert record is not None
    assert (record.entry.outcome, record.answer) == (Outcome.OK, OK)
    assert record.entry.created_at == clock.now
    assert record.media == ["inputs/b/0.png", "outputs/b/0.png"]
    assert await ledger.history.show("b", "k2") is None
    assert await ledger.history.show("unknown") is None


async def test_a_deleted_request_is_unknown_and_says_which_files_it_had(ledger: SqlLedger) -> None:
    await done(ledger, "a", "k1")
    assert await ledger.history.delete("a", "k2") is None
    assert await ledger.history.delete("a", "k1") == ["inputs/a/0.png", "outputs/a/0.png"]
    assert await ledger.status("a", APP) is None
    assert await ledger.logs("a") == []
    assert await ledger.history.delete("a", "k1") is None


async def test_what_is_in_progress_is_not_deleted(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    with pytest.raises(StillInProgress):
        await ledger.history.delete("a")
    (claim,) = await ledger.claim("one", 1, 60)
    with pytest.raises(StillInProgress):
        await ledger.history.delete("a")
    assert await ledger.finish(claim, Outcome.OK, OK)


async def test_old_requests_are_retired_in_batches_and_only_they(ledger: SqlLedger, clock: Clock) -> None:
    await ledger.submit(work("waiting"), APP)
    (held,) = await ledger.claim("one", 1, 60)
    for name in ("old1", "old2", "old3"):
        await done(ledger, name)
    await done(ledger, "owing", webhook="https://example.com/hook")
    clock.turn(3600)
    await done(ledger, "young")
    limit = clock.now - timedelta(seconds=60)
    batches = [await ledger.history.retire(limit, 2) for _ in range(3)]
    assert [batch.requests for batch in batches] == [2, 1, 0]
    media = sorted(key for batch in batches for key in batch.media)
    assert media == sorted(f"{place}/old{i}/0.png" for place in ("inputs", "outputs") for i in (1, 2, 3))
    assert {entry.request_id for entry in (await ledger.history.list()).entries} == {"waiting", "owing", "young"}
    assert await ledger.logs("old1") == []
    assert await ledger.finish(held, Outcome.OK, OK)
    (delivery,) = await ledger.outbox.claim("sender", 9, 20)
    await ledger.outbox.delivered(delivery)
    assert (await ledger.history.retire(limit)).requests == 1


async def test_the_input_is_kept_as_it_came_unless_it_may_not_be(ledger: SqlLedger) -> None:
    given = '{"prompt": "größer"}'
    await ledger.submit(work("kept"), APP, Terms(input=given))
    await ledger.submit(work("passing"), APP, Terms(input=given, store_io=False))
    await ledger.submit(work("run"), APP, Terms(input=given, key="k1", listener="gateway"))
    found = {name: await ledger.history.show(name) for name in ("kept", "passing", "run")}
    assert {name: record and (record.input, record.payload) for name, record in found.items()} == {
        "kept": ({"prompt": "größer"}, Payload.KEPT),
        "passing": (None, Payload.PASSING),
        "run": ({"prompt": "größer"}, Payload.KEPT),
    }


async def test_only_what_may_not_be_stored_is_forgotten_and_only_when_it_is_done_and_told(
    ledger: SqlLedger, clock: Clock
) -> None:
    passing = Terms(store_io=False, media=["inputs/a/0.png"])
    for name, terms in (
        ("kept", Terms()),
        ("a", passing),
        ("b", passing),
        ("owing", Terms(store_io=False, webhook="https://example.com/hook")),
    ):
        await ledger.submit(work(name), APP, terms)
    for claim in await ledger.claim("one", 9, 60):
        await ledger.log(claim, [("INFO", "Prompt: a secret")])
        assert await ledger.finish(claim, Outcome.OK, OK, ["outputs/a/0.png"])
    await ledger.submit(work("waiting"), APP, passing)
    clock.turn(3600)
    assert (await ledger.history.forget(clock.now - timedelta(hours=2))).requests == 0
    batches = [await ledger.history.forget(clock.now, 1) for _ in range(3)]
    assert [(batch.requests, batch.media) for batch in batches] == [
        (1, ["inputs/a/0.png"]),
        (1, ["inputs/a/0.png"]),
        (0, []),
    ]
    for name in ("kept", "owing"):
        assert await ledger.answer(name, APP) == OK
        assert len(await ledger.logs(name)) == 1
    assert await ledger.logs("a") == []
    forgotten = await ledger.answer("a", APP)
    assert forgotten is not None
    assert forgotten.status == 404
    assert await state(ledger, "a") == (State.DONE, Outcome.OK)
    assert await ledger.history.delete("a") == ["outputs/a/0.png"]
    (claim,) = await ledger.claim("one", 9, 60)
    assert claim.work == work("waiting")


async def test_a_name_that_no_text_of_a_database_can_hold_is_unknown(ledger: SqlLedger) -> None:
    name = "a\0b"
    assert await ledger.history.show(name) is None
    assert await ledger.history.delete(name) is None
    assert await ledger.status(name, APP) is None
    assert await ledger.status("a", name) is None
    assert (await ledger.history.list(key=name)).entries == []
    assert (await ledger.history.list(endpoint=name)).entries == []
