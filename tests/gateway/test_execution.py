"""One claimed work from claim to end: what the ledger says afterwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway import execution
from gateway.endpoints import app_of
from gateway.errors import ModelError, PlatformError, ServiceError, ValidationErrors
from gateway.execution import LostClaim, execute
from gateway.ledger.base import Answer, Claim, Outcome, State, Terms
from gateway.ledger.sql import SqlLedger
from gateway.work import Finished, Step, Work
from tests.gateway.fakes import FAST, FakeRunner, until, work

APP = app_of(FAST)
LIMIT_S = 10.0
USUAL, NO_RETRY = Terms(), Terms(may_retry=False)


async def claimed(ledger: SqlLedger, terms: Terms = USUAL) -> Claim:
    await ledger.submit(work("one"), APP, terms)
    (claim,) = await ledger.claim("me", 1, 30)
    return claim


async def until_drawing(ledger: SqlLedger) -> None:
    async def drawing() -> bool:
        status = await ledger.status("one", APP)
        return status is not None and status.state is State.RUNNING

    await until(drawing)


async def test_a_finished_run_is_written_as_the_output_schema_has_it(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    answer = await execute(claim, ledger, FakeRunner(), LIMIT_S)
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
    task = asyncio.create_task(execute(claim, ledger, runner, LIMIT_S))
    await asyncio.sleep(0.05)
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.state is State.CLAIMED
    runner.gate.set()
    await until_drawing(ledger)
    await task
    done = await ledger.status("one", APP)
    assert done is not None
    assert done.inference_seconds is not None
    assert 0.3 < done.inference_seconds < 5


async def test_every_step_is_in_the_log_in_few_transactions(ledger: SqlLedger) -> None:
    class Counting(SqlLedger):
        calls = 0

        async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
            Counting.calls += 1
            await super().log(claim, lines)

    counting = Counting(ledger._database)
    await execute(await claimed(ledger), counting, FakeRunner(steps=40, pause_s=0.01), LIMIT_S)
    lines = [entry.message for entry in await ledger.logs("one")]
    assert lines == [f"Sampling step {step}/40" for step in range(41)]
    assert Counting.calls <= 5


async def test_a_line_does_not_wait_for_the_next(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    task = asyncio.create_task(execute(claim, ledger, FakeRunner(steps=1, pause_s=0.7), LIMIT_S))
    await asyncio.sleep(0.35)
    assert [entry.message for entry in await ledger.logs("one")] == ["Sampling step 0/1"]
    await asyncio.sleep(0.7)
    assert len(await ledger.logs("one")) == 2
    await task


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
    await execute(await claimed(ledger, NO_RETRY), ledger, FakeRunner(fault=fault), LIMIT_S)
    answer = await ledger.answer("one", APP)
    assert answer is not None
    assert (answer.status, answer.body, answer.error_type) == (status, fault.body(), error_type)
    assert answer.headers["x-fal-retryable"] == retryable
    row = await ledger.status("one", APP)
    assert row is not None
    assert (row.outcome, row.error, row.error_type) == (Outcome.ERROR, str(fault), error_type)
    assert (await ledger.logs("one"))[-1].level == "ERROR"


async def test_internals_reach_the_log_and_not_the_client(ledger: SqlLedger, caplog: pytest.LogCaptureFixture) -> None:
    answer = await execute(await claimed(ledger), ledger, FakeRunner(fault=KeyError("secret.path")), LIMIT_S)
    assert (answer.status, answer.error_type) == (500, "internal_error")
    assert "secret" not in str(answer)
    assert "secret.path" in caplog.text


async def test_a_runs_own_timeout_is_no_generation_timeout(ledger: SqlLedger) -> None:
    answer = await execute(await claimed(ledger), ledger, FakeRunner(fault=TimeoutError()), LIMIT_S)
    assert answer.error_type == "internal_error"


async def test_a_run_without_a_result_is_an_error(ledger: SqlLedger) -> None:
    class Silent:
        async def run(self, work: Work) -> AsyncIterator[Step | Finished]:
            yield Step(0, 1)

    answer = await execute(await claimed(ledger), ledger, Silent(), LIMIT_S)
    assert (answer.status, answer.error_type) == (502, "runner_incomplete_response")


async def test_a_run_that_takes_too_long_is_stopped(ledger: SqlLedger) -> None:
    runner = FakeRunner(pause_s=5)
    answer = await execute(await claimed(ledger), ledger, runner, 0.1)
    assert (answer.status, answer.body["detail"][0]["type"]) == (504, "generation_timeout")
    assert runner.left == ["one"]


async def test_cancelling_ends_the_request_and_closes_the_run(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    runner = FakeRunner(pause_s=5)
    task = asyncio.create_task(execute(claim, ledger, runner, LIMIT_S))
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
    answer = await execute(await claimed(ledger, NO_RETRY), ledger, runner, LIMIT_S)
    assert (answer.status, answer.error_type) == (503, "runner_disconnected")


async def test_a_claim_lost_before_drawing_stops_the_run(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    await ledger.requeue(claim)
    runner = FakeRunner(pause_s=5)
    async with asyncio.timeout(2):
        with pytest.raises(LostClaim):
            await execute(claim, ledger, runner, LIMIT_S)
    assert runner.left == ["one"]
    status = await ledger.status("one", APP)
    assert status is not None
    assert status.state is State.QUEUED


async def test_a_claim_lost_while_drawing_writes_nothing(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    runner = FakeRunner(steps=2, pause_s=0.1)
    task = asyncio.create_task(execute(claim, ledger, runner, LIMIT_S))
    await until_drawing(ledger)
    await ledger.requeue(claim)
    with pytest.raises(LostClaim):
        await task
    assert await ledger.answer("one", APP) is None


async def test_a_result_survives_a_ledger_that_fails_for_a_moment(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SqlLedger):
        failures = 2

        async def finish(self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = ()) -> bool:
            if Failing.failures:
                Failing.failures -= 1
                raise OSError("disk")
            return await super().finish(claim, outcome, answer, media)

    monkeypatch.setattr(execution, "PAUSES_S", (0.01, 0.01, 0.01))
    answer = await execute(await claimed(ledger), Failing(ledger._database), FakeRunner(), LIMIT_S)
    assert answer == await ledger.answer("one", APP)
