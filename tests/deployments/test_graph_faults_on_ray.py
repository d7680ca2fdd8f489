"""The graph through real Ray handles: faults, callers who leave, replicas that die, and stores that are away."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.errors import ModelError, PlatformError, StoreUnavailable, ValidationErrors
from gateway.files.store import FileStore
from gateway.images.codec import decode_image
from gateway.work import Delivering, Finished, Step
from pipelines.spec import Lora, Start, Structure
from tests.cluster import kill_replicas
from tests.deployments.fakes import HalfwayDiffuser
from tests.deployments.graph_on_ray import APP, SIDE, run, work
from tests.gateway.files.away import AwayBlobs

pytestmark = pytest.mark.cluster


async def test_a_fault_in_preparing_arrives_with_its_attributes(stages: Any) -> None:
    with pytest.raises(ModelError) as caught:
        await run(stages, work(pictures=(Start(source="http://x/missing", strength=0.5, field="image_url"),)))
    assert type(caught.value) is ModelError
    assert caught.value.type == "file_download_error"
    assert caught.value.loc == ("image_url",)
    assert caught.value.ctx == {"n": 1}


async def test_all_faulty_pictures_are_told_at_once(stages: Any) -> None:
    edges = tuple(Structure(kind="PyraCanny", source=f"http://x/{n}/missing", field=f"p{n}") for n in range(2))
    with pytest.raises(ValidationErrors) as caught:
        await run(stages, work(pictures=edges))
    assert [error.loc for error in caught.value.errors] == [("p0",), ("p1",)]


async def test_an_unknown_lora_names_its_field(stages: Any) -> None:
    with pytest.raises(ModelError) as caught:
        await run(stages, work(loras=(Lora(source="unknown", scale=1, field="loras.0.path"),)))
    assert caught.value.loc == ("loras", 0, "path")


async def test_a_fault_in_drawing_arrives_with_its_attributes(stages: Any) -> None:
    with pytest.raises(ModelError) as caught:
        await run(stages, work("fault"))
    assert caught.value.type == "image_too_small"
    assert caught.value.loc == ("image_prompt_1", "image_url")
    assert caught.value.ctx == {"min_width": 8}


async def test_an_error_that_callers_cannot_load_is_an_internal_one(stages: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        await run(stages, work("broken"))
    assert caught.value.error_type == "internal_error"


async def test_closing_a_run_takes_its_job_out(stages: Any) -> None:
    from deployments.graph import Graph

    events = Graph(stages).run(work("slow"))
    assert await anext(event async for event in events if isinstance(event, Step)) == Step(0, 20)
    assert (await stages.diffuser.stats.remote()).live_jobs == 1
    await events.aclose()
    await until_live(stages, 0)


async def test_cancelling_the_reader_takes_the_job_out(stages: Any) -> None:
    reading = asyncio.create_task(run(stages, work("slow")))
    await until_live(stages, 1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until_live(stages, 0)


async def until_live(stages: Any, jobs: int) -> None:
    async with asyncio.timeout(12):  # what is slow has ended by itself after 20 s
        while (await stages.diffuser.stats.remote()).live_jobs != jobs:  # noqa: ASYNC110 (another process's event)
            await asyncio.sleep(0.05)


async def test_cancelling_reaches_a_stage_before_the_drawing(stages: Any, tmp_path: Path) -> None:
    fetching = Start(source=str(tmp_path / "slow"), strength=0.5, field="image_url")
    reading = asyncio.create_task(run(stages, work(pictures=(fetching,))))
    await asyncio.sleep(0.5)  # it is being fetched
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(30):
        while not (tmp_path / "slow").exists():  # noqa: ASYNC110 (another process's event)
            await asyncio.sleep(0.05)


async def test_faults_in_preparing_take_no_slot_of_the_diffuser(stages: Any) -> None:
    missing = Start(source="http://x/missing", strength=0.5, field="image_url")
    runs = (run(stages, work(pictures=(missing,))) for _ in range(60))  # more than a replica may have at once
    faults = await asyncio.gather(*runs, return_exceptions=True)
    assert {type(fault) for fault in faults} == {ModelError}
    async with asyncio.timeout(20):
        await run(stages, work())


async def test_a_replica_that_dies_while_preparing_is_a_clear_retryable_error(stages: Any, tmp_path: Path) -> None:
    fetching = Start(source=str(tmp_path / "slow"), strength=0.5, field="image_url")
    reading = asyncio.create_task(run(stages, work(pictures=(fetching,))))
    await asyncio.sleep(0.5)  # it is being fetched
    kill_replicas(APP, "Preprocessor")
    with pytest.raises(PlatformError) as caught:
        await reading
    assert caught.value.error_type == "runner_disconnected"
    await run(stages, work())  # the next replica


async def test_a_replica_that_dies_while_drawing_is_a_clear_retryable_error(stages: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        await run(stages, work("die"))
    assert caught.value.error_type == "runner_disconnected"
    assert caught.value.status == 503
    assert caught.value.headers()["x-fal-retryable"] == "true"
    _, finished = await run(stages, work())  # the next replica
    assert len(finished.images) == 1


async def test_a_replica_that_dies_after_its_last_event_loses_nothing(stages: Any, files: FileStore) -> None:
    killing = KillsBeforeChecking(stages.safety_checker, stages.diffuser)
    _, finished = await run(replace(stages, safety_checker=killing), work(seeds=(200, 201)))
    assert killing.killed
    for image, value in zip(finished.images, (200, 201), strict=True):
        stored = await files.get(image.url.removeprefix("http://127.0.0.1:8000/files/"))
        assert stored is not None
        assert np.array_equal(decode_image(stored.content, 10**6, ""), np.full((SIDE, SIDE, 3), value))


@pytest.fixture(scope="module")
def halfway(stages: Any) -> Iterator[Any]:
    from ray import serve

    name = "halfway"
    options = {"graceful_shutdown_timeout_s": 0.1, "ray_actor_options": {"num_cpus": 0.1}}
    serve.run(serve.deployment(**options)(HalfwayDiffuser).bind(), name=name, route_prefix=None)
    yield replace(stages, diffuser=serve.get_app_handle(name))
    serve.delete(name)


@pytest.mark.parametrize("check_safety", [True, False])
async def test_pixels_that_fail_to_come_are_a_fault_of_their_request(halfway: Any, check_safety: bool) -> None:
    with pytest.raises(ModelError) as caught:
        await run(halfway, work(check_safety=check_safety))
    assert caught.value.type == "image_too_small"


async def test_pixels_that_die_with_their_replica_are_a_clear_retryable_error(halfway: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        await run(halfway, work("die"))
    assert caught.value.error_type == "runner_disconnected"


class KillsBeforeChecking:
    """A handle of the safety checker that first kills the replica that drew, and waits until it is dead."""

    def __init__(self, checker: Any, diffuser: Any) -> None:
        self._checker, self._diffuser = checker, diffuser
        self.killed = False

    def options(self, **_: object) -> "KillsBeforeChecking":
        return self

    @property
    def check(self) -> "KillsBeforeChecking":
        return self

    def remote(self, drawn: Any, *given: object) -> Any:
        kill_replicas(APP, "Diffuser")
        self.killed = True
        return self._checker.check.remote(drawn, *given)


async def test_what_is_drawn_waits_for_a_store_that_is_away(stages: Any, blobs: AwayBlobs, files: FileStore) -> None:
    from deployments.graph import Graph

    blobs.take_away()
    events = Graph(stages).run(work())
    async with asyncio.timeout(30):
        await anext(event async for event in events if isinstance(event, Delivering))
        finishing = asyncio.ensure_future(anext(events))
        await until_refused(blobs, 3)
        blobs.give_back()
        finished = await finishing
    assert isinstance(finished, Finished)
    assert await files.get(finished.images[0].url.removeprefix("http://127.0.0.1:8000/files/")) is not None


async def test_a_replica_that_dies_while_delivering_is_a_clear_retryable_error(stages: Any, blobs: AwayBlobs) -> None:
    blobs.take_away()
    reading = asyncio.create_task(run(stages, work()))
    await until_refused(blobs, 2)
    kill_replicas(APP, "Postprocessor")
    with pytest.raises(PlatformError) as caught:
        await reading
    blobs.give_back()
    assert caught.value.error_type == "runner_disconnected"
    _, finished = await run(stages, work())  # the next replica
    assert len(finished.images) == 1


async def test_a_cancelled_request_stops_asking_a_store_that_is_away(stages: Any, blobs: AwayBlobs) -> None:
    blobs.take_away()
    reading = asyncio.create_task(run(stages, work()))
    await until_refused(blobs, 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.sleep(1)  # the cancellation is on its way to another process
    refusals = blobs.refusals
    await asyncio.sleep(3)  # more than a pause between two attempts by now
    assert blobs.refusals == refusals
    blobs.give_back()


async def test_a_store_that_keeps_an_input_away_arrives_as_what_it_is(stages: Any) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await run(stages, work(pictures=(Start(source="stored:away", strength=0.5, field="image_url"),)))
    assert caught.value.store == "files"


async def until_refused(blobs: AwayBlobs, times: int) -> None:
    async with asyncio.timeout(20):
        while blobs.refusals < times:  # noqa: ASYNC110 (another process's event)
            await asyncio.sleep(0.05)
