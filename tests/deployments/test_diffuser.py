"""The Diffuser as a plain class, over a drawer that needs no weights."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deployments import diffuser as module
from deployments.diffuser import Diffuser
from deployments.routing import Elsewhere
from deployments.stage import StageLog
from gateway.errors import RETRYABLE_PLATFORM, PlatformError
from gateway.monitoring.contract import LIVE_JOBS, UNET_CALLS, UNET_ROWS
from gateway.weights.sharing import WeightsOfNode
from pipelines.errors import EngineDead, FileGone
from pipelines.events import Complete, Preview, Step, Words
from pipelines.inputs import FoundEmbedding, FoundLora, Inputs
from pipelines.prompts.assembly import Texts
from pipelines.spec import Embedding, Guidance, Lora, Size, Spec
from tests.deployments.fakes import FakeDrawer, FakeWeights, wait_until
from tests.gateway.images.test_fetch import answer, serving
from tests.gateway.monitors import RememberingMonitor
from tests.gateway.weights.files import FIELD, finder, weights

SPEC = Spec(seeds=(1,), steps=4, sampler="euler", schedule="sgm_uniform", guidance=Guidance(scale=1))


def saying(prompt: str) -> Inputs:
    return Inputs(Size(width=8, height=8), texts=(Texts((prompt,), ("",), prompt),))


async def draw(diffuser: Any, *given: Any, **named: Any) -> AsyncGenerator[Any, None]:
    """What a drawing tells, one after the other, and its pixels."""
    async with aclosing(diffuser.draw(*given, **named)) as items:
        async for item in items:
            for event in item if isinstance(item, tuple) else (item,):
                yield event


@pytest.fixture
async def diffuser(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(module.StageLog, "of", lambda name: StageLog(name, RememberingMonitor()))

    async def nobody(*reads: object) -> None:
        pass

    monkeypatch.setattr(module, "keep_reporting", nobody)
    made: Any = Diffuser.__new__(Diffuser)
    await made.__init__(FakeDrawer, 8, FakeWeights)
    return made


async def test_it_can_hold_what_it_was_told_until_its_engine_is_dead(diffuser: Any) -> None:
    assert diffuser._capacity() == 8
    diffuser._drawer.dead = True
    assert diffuser._capacity() == 0


async def test_progress_comes_before_the_pictures(diffuser: Any) -> None:
    events = [event async for event in draw(diffuser, "r", SPEC, saying("a cube"))]
    assert isinstance(events[1], Words)
    assert all(isinstance(event, Step) for event in (events[0], *events[2:-2]))
    assert isinstance(events[-2], Complete)
    assert events[-2].pictures == len(events[-1]) == 1
    assert np.unique(events[-1]) == [1]


async def test_words_that_were_added_go_to_the_drawer_and_are_told(diffuser: Any) -> None:
    events = [event async for event in draw(diffuser, "r", SPEC, saying("a cube"), ("a cube, slow",))]
    (words,) = (event for event in events if isinstance(event, Words))
    assert words.texts[0].expanded == words.texts[0].prompt == "a cube, slow"


async def test_previews_come_where_they_are_asked_for(diffuser: Any) -> None:
    slow = SPEC.model_copy(update={"steps": 200})
    events = draw(diffuser, "r", slow, saying("slow"), previews=True)
    assert isinstance(await anext(event async for event in events if not isinstance(event, Words | Step)), Preview)
    await events.aclose()


async def test_two_attempts_at_a_request_do_not_meet(diffuser: Any) -> None:
    first = draw(diffuser, "r", SPEC, saying("slow"))
    await anext(first)
    assert [event async for event in draw(diffuser, "r", SPEC, saying("a cube"))]
    assert (await diffuser.stats()).live_jobs == 1
    await first.aclose()


async def test_a_closed_drawing_is_cancelled(diffuser: Any) -> None:
    events = draw(diffuser, "r", SPEC, saying("slow"))
    await anext(events)
    await events.aclose()
    await asyncio.to_thread(wait_until, lambda: diffuser._drawer.stats().live_jobs == 0, 5)


async def test_metrics_count_calls_rows_and_live_jobs(diffuser: Any) -> None:
    events = draw(diffuser, "r", SPEC, saying("a cube"))
    await anext(events)
    assert diffuser._log.monitor.gauge(LIVE_JOBS) == 1
    async for _ in events:
        pass
    assert diffuser._log.monitor.count(UNET_CALLS) == 4
    assert diffuser._log.monitor.count(UNET_ROWS) == 8
    assert diffuser._log.monitor.gauge(LIVE_JOBS) == 0


async def test_metrics_follow_a_long_job_while_it_runs(diffuser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PERIOD_S", 0.0)
    events = draw(diffuser, "r", SPEC.model_copy(update={"steps": 200}), saying("slow"))
    async for event in events:
        if isinstance(event, Step) and event.step == 3:
            break
    assert diffuser._log.monitor.count(UNET_CALLS) >= 2
    await events.aclose()


async def test_a_replica_whose_reports_have_ended_fails_the_health_check(diffuser: Any) -> None:
    """For nothing would be sent to it any more, and nobody would know why."""

    async def failing() -> None:
        raise LookupError("a count that the engine has not")

    diffuser._reporting = asyncio.create_task(failing())
    await asyncio.wait([diffuser._reporting])
    with pytest.raises(LookupError):
        diffuser.check_health()


async def test_a_dead_engine_fails_the_health_check_and_new_work(diffuser: Any) -> None:
    diffuser.check_health()
    diffuser._drawer.dead = True
    with pytest.raises(EngineDead):
        diffuser.check_health()
    with pytest.raises(PlatformError) as caught:
        await anext(draw(diffuser, "r", SPEC, saying("a cube")))
    assert caught.value.error_type == "runner_disconnected"


async def test_it_draws_with_files_of_its_own_node(diffuser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        async def bring(self, path: Path) -> Path:
            return Path("/here") / path.name

    drawn: list[Inputs] = []

    def submit(job_id: str, spec: Spec, inputs: Inputs, *given: Any, **options: Any) -> None:
        drawn.append(inputs)
        raise EngineDead("it is enough")

    monkeypatch.setattr(diffuser, "_weights", Elsewhere())
    monkeypatch.setattr(diffuser._drawer, "submit", submit)
    lora, words = Lora(source="a", scale=1), Embedding(source="b")
    inputs = replace(
        saying("a cube"),
        loras=(FoundLora(lora, Path("/there/a")),),
        embeddings=(FoundEmbedding(words, Path("/there/b")),),
    )
    with pytest.raises(PlatformError):
        await anext(draw(diffuser, "r", SPEC, inputs))
    assert drawn == [
        replace(
            saying("a cube"),
            loras=(FoundLora(lora, Path("/here/a")),),
            embeddings=(FoundEmbedding(words, Path("/here/b")),),
        )
    ]


async def test_the_way_to_a_place_is_waiting_and_making_ready_is_work(diffuser: Any) -> None:
    made = replace(saying("a cube"), took_s=2.0, ready_at=time.time() - 5)
    *_, last, _ = [event async for event in draw(diffuser, "r", SPEC, made)]
    assert set(last.timings) == {"prepare", "wait", "denoise"}
    assert 2.0 <= last.timings["prepare"] < 4.0
    assert 5.0 <= last.timings["wait"] < 7.0
    assert last.timings["denoise"] == 0.5


async def test_a_clock_that_is_ahead_gives_no_time_back(diffuser: Any) -> None:
    made = replace(saying("a cube"), ready_at=time.time() + 60)
    *_, last, _ = [event async for event in draw(diffuser, "r", SPEC, made)]
    assert last.timings["wait"] == 0.0


async def test_what_the_caller_still_waited_for_is_not_the_way_to_a_place(diffuser: Any) -> None:
    made = replace(saying("a cube"), ready_at=time.time() - 60)
    *_, last, _ = [event async for event in draw(diffuser, "r", SPEC, made, asked_at=time.time() - 5)]
    assert 5.0 <= last.timings["wait"] < 30.0


async def test_a_lora_that_left_the_cache_is_a_fault_to_try_again_after_which_it_is_fetched_anew(
    diffuser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds = finder(tmp_path)
    monkeypatch.setattr(diffuser, "_weights", WeightsOfNode(finds._cache, None))
    async with serving(lambda *_: answer(weights())) as url:
        lora = Lora(source=url, scale=1)
        path = await finds.find(url, FIELD, "LoRA")
        path.unlink()
        with pytest.raises(PlatformError) as caught:
            await anext(draw(diffuser, "r", SPEC, replace(saying("a cube"), loras=(FoundLora(lora, path),))))
        assert caught.value.error_type in RETRYABLE_PLATFORM
        assert "Weights of this request" in caught.value.detail
        again = replace(saying("a cube"), loras=(FoundLora(lora, await finds.find(url, FIELD, "LoRA")),))
        assert [event async for event in draw(diffuser, "r", SPEC, again)]


async def test_a_file_that_goes_while_it_is_read_is_a_fault_to_try_again(
    diffuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*given: Any, **options: Any) -> None:
        raise FileGone("/secret/path is not there any more")

    monkeypatch.setattr(diffuser._drawer, "submit", submit)
    with pytest.raises(PlatformError) as caught:
        await anext(draw(diffuser, "r", SPEC, saying("a cube")))
    assert caught.value.error_type in RETRYABLE_PLATFORM
    assert "/secret" not in caught.value.detail


async def test_what_was_meant_for_another_replica_begins_with_who_draws_it(
    diffuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SimpleNamespace(replica_id=SimpleNamespace(unique_id="here"))
    monkeypatch.setattr(module.serve, "get_replica_context", lambda: here)
    first, *_ = [event async for event in draw(diffuser, "r", SPEC, saying("a cube"), place="there")]
    assert first == Elsewhere("here")
    first, *_ = [event async for event in draw(diffuser, "r", SPEC, saying("a cube"), place="here")]
    assert isinstance(first, Step)
