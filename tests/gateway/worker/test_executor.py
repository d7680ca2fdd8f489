"""One claimed work from claim to end: what the ledger says afterwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from gateway import retries
from gateway.endpoints import app_of
from gateway.errors import ModelError, PlatformError, ServiceError, StoreUnavailable, ValidationErrors
from gateway.ledger.models import Answer, Claim, Limits, Outcome, ReleaseOutcome, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.transitions import Lines
from gateway.work import Event, Finished, Note, Placed, Runner, Step, Waits, Work
from gateway.worker.executor import LeaseLost, Requeued, execute
from gateway.worker.lease import LeaseKeeper
from tests.gateway.fakes import FAST, FakeRunner, finished, until, work

APP = app_of(FAST)
LIMIT_S = 10.0
USUAL, NO_RETRY = Terms(), Terms(may_retry=False)


async def claimed(ledger: SqlLedger, terms: Terms = USUAL) -> Claim:
    await ledger.submit(work("one"), APP, terms)
    (claim,) = await ledger.claim("me", 1, 30)
    return claim


async def run(
    claim: Claim, ledger: SqlLedger, runner: Runner, limit_s: float = LIMIT_S, delivery_limit_s: float | None = None
) -> Answer:
    return await execute(claim, ledger, LeaseKeeper(ledger, claim.owner, 30), runner, limit_s, delivery_limit_s)


async def until_drawing(ledger: SqlLedger) -> None:
    async def drawing() -> bool:
        status = await ledger.status("one", APP)
        return status is not None and status.state is State.RUNNING

    await until(drawing)


async def test_a_finished_run_is_written_as_the_output_schema_has_it(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    answer = await run(claim, ledger, FakeRunner())
    assert answer == await ledger.answer("one", APP)
    assert answer.status == 200
    assert set(answer.body) == {"images", "timings", "has_nsfw_concepts", "seed", "prompt"}
    status = await ledger.status("one", APP)
    assert status is not None
    assert (status.state, status.outcome, status.error) == (State.DONE, Outcome.OK, None)


async def test_a_request_is_in_progress_from_the_first_step(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    runner = FakeRunner(pause_s=0.1)
    runner.gate.clear()
    task = asyncio.create_task(run(claim, ledger, runner))
    await until(runner.begun)
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.state is State.CLAIMED
    runner.gate.set()
    await until_drawing(ledger)
    await task
    done = await ledger.status("one", APP)
    assert done is not None
    assert done.inference_seconds is not None
    assert 0.3 < done.inference_seconds < 60


async def test_every_step_is_in_the_log_at_the_end_at_the_latest(ledger: SqlLedger) -> None:
    await run(await claimed(ledger), ledger, FakeRunner(steps=40))
    lines = [entry.message for entry in await ledger.logs("one")]
    assert lines == [f"Sampling step {step}/40" for step in range(41)]


async def test_what_was_made_of_the_input_is_in_the_log(ledger: SqlLedger) -> None:
    class Noting(FakeRunner):
        async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
            yield Note("Prompt: a cat", "INFO")
            yield Note("no face was found")
            async for event in super().run(work, previews):
                yield event

    heard: list[object] = []
    claim = await claimed(ledger)
    await execute(claim, ledger, LeaseKeeper(ledger, claim.owner, 30), Noting(), LIMIT_S, on_event=heard.append)
    words, first, *others = await ledger.logs("one")
    assert (words.level, words.message) == ("INFO", "Prompt: a cat")
    assert (first.level, first.message) == ("WARNING", "no face was found")
    assert others
    assert not any(isinstance(event, Note) for event in heard)


async def test_what_does_not_act_is_the_first_line_with_the_field_that_was_meant(ledger: SqlLedger) -> None:
    asked = work("one").model_copy(update={"inactive": ("request_id", "unknown:image_sise")})
    await ledger.submit(asked, APP, USUAL)
    (claim,) = await ledger.claim("me", 1, 30)
    await run(claim, ledger, FakeRunner())
    first, *_ = await ledger.logs("one")
    told = "Without effect: request_id, unknown:image_sise (did you mean image_size?)"
    assert (first.level, first.message) == ("WARNING", told)


@pytest.mark.parametrize(("steps", "crashed"), [(3, 1), (-1, 0)])
async def test_a_fault_of_the_infrastructure_puts_the_request_back(ledger: SqlLedger, steps: int, crashed: int) -> None:
    """A replica that died while it drew may have died of the request, one that died before has not."""
    fault = PlatformError("runner_disconnected", "The replica died.")
    taken: list[bool] = []

    class Noting(SqlLedger):
        async def retry(self, claim: Claim, fault: Answer, *, crashed: bool = False) -> ReleaseOutcome:
            taken.append(crashed)
            return await super().retry(claim, fault, crashed=crashed)

    claim = await claimed(ledger)
    with pytest.raises(Requeued):
        await run(claim, Noting(ledger.database), FakeRunner(steps=steps, fault=fault))
    assert taken == [bool(crashed)]
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.state is State.QUEUED
    assert [entry.level for entry in await ledger.logs("one")][-1] == "ERROR"
    (again,) = await ledger.claim("me", 1, 30)
    assert again.attempt == 2
    assert (await run(again, ledger, FakeRunner())).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "error_type", "retryable"),
    [
        (ModelError("file_download_error", "No such file.", ("image_url",)), 422, "file_download_error", "false"),
        (ValidationErrors([ModelError("missing", "Field required", ("prompt",))]), 422, "missing", "false"),
        (PlatformError("runner_disconnected", "The replica died."), 503, "runner_disconnected", "true"),
    ],
)
async def test_a_failure_is_replayed_as_it_is(
    ledger: SqlLedger, fault: ServiceError, status: int, error_type: str, retryable: str
) -> None:
    await run(await claimed(ledger, NO_RETRY), ledger, FakeRunner(fault=fault))
    answer = await ledger.answer("one", APP)
    assert answer is not None
    assert (answer.status, answer.body, answer.error_type) == (status, fault.body(), error_type)
    assert answer.headers["x-fal-retryable"] == retryable
    row = await ledger.status("one", APP)
    assert row is not None
    assert (row.outcome, row.error, row.error_type) == (Outcome.ERROR, str(fault), error_type)
    assert (await ledger.logs("one"))[-1].level == "ERROR"


async def test_internals_reach_the_log_and_not_the_client(ledger: SqlLedger, caplog: pytest.LogCaptureFixture) -> None:
    answer = await run(await claimed(ledger), ledger, FakeRunner(fault=KeyError("secret.path")))
    assert (answer.status, answer.error_type) == (500, "internal_error")
    assert "secret" not in str(answer)
    assert "secret.path" in caplog.text


async def test_a_runs_own_timeout_is_no_generation_timeout(ledger: SqlLedger) -> None:
    answer = await run(await claimed(ledger), ledger, FakeRunner(fault=TimeoutError()))
    assert answer.error_type == "internal_error"


async def test_a_run_without_a_result_is_an_error(ledger: SqlLedger) -> None:
    class Silent:
        async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Step | Finished]:
            yield Step(0, 1)

    answer = await run(await claimed(ledger), ledger, Silent())
    assert (answer.status, answer.error_type) == (502, "runner_incomplete_response")


async def test_a_run_that_takes_too_long_is_stopped(ledger: SqlLedger) -> None:
    runner = FakeRunner(pause_s=5)
    answer = await run(await claimed(ledger), ledger, runner, 0.1)
    assert (answer.status, answer.body["detail"][0]["type"]) == (504, "generation_timeout")
    assert runner.left == ["one"]


async def test_what_is_drawn_may_take_longer_to_be_delivered(ledger: SqlLedger) -> None:
    answer = await run(await claimed(ledger), ledger, FakeRunner(delivery_s=1), 0.5)
    assert answer.status == 200


async def test_a_delivery_that_takes_too_long_is_put_back(ledger: SqlLedger) -> None:
    runner = FakeRunner(delivery_s=5)
    with pytest.raises(Requeued):
        await run(await claimed(ledger), ledger, runner, delivery_limit_s=0.1)
    assert runner.left == ["one"]
    assert await ledger.answer("one", APP) is None


@pytest.mark.parametrize("steps", [-1, 3])
async def test_a_store_that_is_away_costs_a_request_nothing(ledger: SqlLedger, steps: int) -> None:
    """Neither before it is drawn nor after; and more often than faults may put it back, even one that may not retry."""
    away = FakeRunner(steps=steps, fault=StoreUnavailable("files"))
    limited = SqlLedger(ledger.database, limits=Limits(retries=0, crashes=1))
    claim = await claimed(limited, NO_RETRY)
    for _ in range(3):
        with pytest.raises(Requeued):
            await run(claim, limited, away)
        status = await limited.status("one", APP)
        assert status is not None
        assert status.state is State.QUEUED
        (claim,) = await limited.claim("me", 1, 30)
    assert (await run(claim, limited, FakeRunner())).status == 200


async def test_the_time_that_a_ledger_is_away_is_not_the_runs(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.2,))
    running, tries = ledger.running, 0

    async def away(claim: Claim) -> bool:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise StoreUnavailable("ledger")
        return await running(claim)

    claim = await claimed(ledger)
    monkeypatch.setattr(ledger, "running", away)
    assert (await run(claim, ledger, FakeRunner(pause_s=0.01), 0.4)).status == 200


async def test_what_ends_when_a_store_fails_it_is_answered(ledger: SqlLedger) -> None:
    """Its cancellation was asked for, so it does not wait for the store."""
    claim = await claimed(ledger)
    await ledger.cancel("one", APP)
    answer = await run(claim, ledger, FakeRunner(fault=StoreUnavailable("files")))
    assert answer == await ledger.answer("one", APP)
    assert (answer.status, answer.error_type) == (499, "client_cancelled")


async def test_a_run_that_nobody_begins_is_put_back(ledger: SqlLedger) -> None:
    runner = FakeRunner()
    runner.gate.clear()
    with pytest.raises(Requeued):
        await run(await claimed(ledger), ledger, runner, 0.1)
    (again,) = await ledger.claim("me", 1, 30)
    assert again.attempt == 2


async def test_cancelling_ends_the_request_and_closes_the_run(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    runner = FakeRunner(pause_s=5)
    task = asyncio.create_task(run(claim, ledger, runner))
    await until_drawing(ledger)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await ledger.answer("one", APP)
    assert answer is not None
    assert (answer.status, answer.error_type) == (499, "client_cancelled")
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.outcome is Outcome.CANCELLED
    assert runner.left == ["one"]


async def test_a_run_cancelled_from_below_is_our_fault(ledger: SqlLedger) -> None:
    runner = FakeRunner(fault=asyncio.CancelledError())
    answer = await run(await claimed(ledger, NO_RETRY), ledger, runner)
    assert (answer.status, answer.error_type) == (503, "runner_disconnected")


async def test_a_claim_lost_before_drawing_stops_the_run(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    await ledger.requeue(claim)
    runner = FakeRunner(pause_s=60)
    async with asyncio.timeout(30):
        with pytest.raises(LeaseLost):
            await run(claim, ledger, runner)
    assert runner.left == ["one"]
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.state is State.QUEUED


async def test_a_claim_lost_while_drawing_writes_nothing(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    runner = FakeRunner(steps=2, pause_s=0.1)
    task = asyncio.create_task(run(claim, ledger, runner))
    await until_drawing(ledger)
    await ledger.requeue(claim)
    with pytest.raises(LeaseLost):
        await task
    assert await ledger.answer("one", APP) is None


async def test_a_result_survives_a_ledger_that_fails_for_a_moment(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SqlLedger):
        failures = 2

        async def finish(
            self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = (), lines: Lines = ()
        ) -> bool:
            if Failing.failures:
                Failing.failures -= 1
                raise OSError("disk")
            return await super().finish(claim, outcome, answer, media, lines)

    monkeypatch.setattr(retries, "PAUSES_S", (0.01, 0.01, 0.01))
    answer = await run(await claimed(ledger), Failing(ledger.database), FakeRunner())
    assert answer == await ledger.answer("one", APP)


async def test_the_time_in_the_queue_is_told_apart_from_the_work(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    answer = await run(replace(claim, queued_s=7.5), ledger, FakeRunner())
    assert answer.body["timings"] == {"queue": 7.5, "inference": 0.1}


class Waiting:
    """Waits for somebody with room for `wait_s`, is silent for `silent_s`, then draws in `draw_s`."""

    def __init__(self, wait_s: float, draw_s: float, silent_s: float = 0.0) -> None:
        self._wait_s, self._draw_s, self._silent_s = wait_s, draw_s, silent_s

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        yield Waits()
        await asyncio.sleep(self._wait_s)
        yield Placed()
        await asyncio.sleep(self._silent_s)
        yield Step(0, 1)
        await asyncio.sleep(self._draw_s)
        yield finished(work)


async def test_the_time_until_somebody_has_room_is_not_the_run_s(ledger: SqlLedger) -> None:
    answer = await run(await claimed(ledger), ledger, Waiting(1.7, 0.0), limit_s=1.5)
    assert answer.status == 200
    assert [entry.message for entry in await ledger.logs("one")] == ["Sampling step 0/1"]


async def test_a_place_at_which_nothing_begins_is_a_fault(ledger: SqlLedger) -> None:
    with pytest.raises(Requeued):
        await asyncio.wait_for(run(await claimed(ledger), ledger, Waiting(0.1, 0.0, 20.0), limit_s=0.4), 10)


async def test_the_time_behind_it_is(ledger: SqlLedger) -> None:
    answer = await run(await claimed(ledger), ledger, Waiting(0.1, 20.0), limit_s=0.4)
    assert answer.error_type == "generation_timeout"
