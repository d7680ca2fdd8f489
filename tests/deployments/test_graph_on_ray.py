"""The graph through real Ray handles, with a drawer that needs no weights."""

import asyncio
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from gateway.errors import ModelError, PlatformError, StoreUnavailable, ValidationErrors
from gateway.files.output_names import OutputNames
from gateway.files.store import FileStore
from gateway.media import decode_image
from gateway.settings import OutputSettings
from gateway.work import Delivering, Delivery, Finished, Note, Preview, Step, Work
from pipelines.images.face import FaceFinder
from pipelines.images.resize import stretch
from pipelines.prompts.expanding import Fits
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.spec import Guidance, Lora, Reference, Size, Spec, Start, Structure
from tests.cluster import kill_replicas
from tests.deployments.fakes import (
    ASTRONAUT,
    FakeCatalogue,
    FakeDrawer,
    FakeExpander,
    FakeFinder,
    FakePictures,
    FakeWeights,
    fake_checkers,
    no_models,
)
from tests.detector import DETECTOR, needs_detector
from tests.gateway.files.away import AwayBlobs

pytestmark = pytest.mark.cluster
APP = "graph"
SIDE = 256


def work(prompt: str = "a red cube", **of_spec: Any) -> Work:
    spec = Spec(
        **{
            "prompt": prompt,
            "size": Size(width=SIDE, height=SIDE),
            "seeds": (7,),
            "steps": 20,
            "sampler": "euler",
            "schedule": "sgm_uniform",
            "guidance": Guidance(scale=4.0),
            **of_spec,
        }
    )
    return Work(
        request_id=str(uuid4()),
        endpoint="fal-ai/fooocus",
        spec=spec,
        delivery=Delivery(format="png"),
        base_url="http://127.0.0.1:8000",
    )


def open_faces() -> FaceFinder | None:
    return FaceFinder(DETECTOR) if DETECTOR.is_file() else None


def open_fits() -> Fits:
    return lambda texts: True


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> AwayBlobs:
    return AwayBlobs(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def files(blobs: AwayBlobs) -> FileStore:
    return FileStore(blobs)


@pytest.fixture(scope="module")
def stages(cluster: int, files: FileStore) -> Iterator[Any]:
    from ray import serve

    from deployments.diffuser import Diffuser
    from deployments.graph import Stages
    from deployments.postprocessor import Postprocessor
    from deployments.preprocessor import Preprocessor
    from deployments.prompt_expander import PromptExpander
    from deployments.safety_checker import SafetyChecker
    from tests.deployments.root import Root

    def bound(cls: type, *args: Any) -> Any:
        options = {
            "graceful_shutdown_timeout_s": 0.1,
            "health_check_period_s": 1,
            "max_ongoing_requests": 50,
            "ray_actor_options": {"num_cpus": 0.1},
        }
        return serve.deployment(name=cls.__name__, **options)(cls).bind(*args)

    applications = Stages(
        preprocessor=bound(Preprocessor, FakePictures, FakeCatalogue, FakeFinder, open_faces),
        prompt_expander=bound(PromptExpander, FakeExpander, Phrasebook, open_fits),
        diffuser=bound(Diffuser, FakeDrawer, 8, FakeWeights),
        safety_checker=bound(SafetyChecker, fake_checkers),
        postprocessor=bound(Postprocessor, files, partial(OutputNames, b"s" * 32), 30.0, OutputSettings(), no_models),
        expanding_limit_s=10,
    )
    serve.run(bound(Root, applications), name=APP, route_prefix=None)
    yield Stages(
        preprocessor=serve.get_deployment_handle("Preprocessor", APP),
        prompt_expander=serve.get_deployment_handle("PromptExpander", APP),
        diffuser=serve.get_deployment_handle("Diffuser", APP),
        safety_checker=serve.get_deployment_handle("SafetyChecker", APP),
        postprocessor=serve.get_deployment_handle("Postprocessor", APP),
        expanding_limit_s=10,
    )
    serve.delete(APP)


async def run(stages: Any, request: Work) -> tuple[list[Step], Finished]:
    from deployments.graph import Graph

    events = [event async for event in Graph(stages).run(request)]
    assert isinstance(events[-1], Finished)
    return [event for event in events if isinstance(event, Step)], events[-1]


async def test_steps_come_before_the_pictures(stages: Any, files: FileStore) -> None:
    request = work(seeds=(7, 13))
    steps, finished = await run(stages, request)
    assert steps[0] == Step(0, 20)
    assert [step.step for step in steps] == sorted(step.step for step in steps)
    assert finished.nsfw == [False, True]
    assert finished.prompt == "a red cube"
    assert {"inference", "denoise"} <= set(finished.timings)
    stored = await files.get(finished.images[0].url.removeprefix("http://127.0.0.1:8000/files/"))
    assert stored is not None
    assert (decode_image(stored.content, 10**6, "") == 7).all()
    flagged = await files.get(finished.images[1].url.removeprefix("http://127.0.0.1:8000/files/"))
    assert flagged is not None
    assert (decode_image(flagged.content, 10**6, "") == 0).all()


@pytest.mark.parametrize(("version", "black"), [("v1", 0), ("v2", 1)])
async def test_a_black_picture_is_flagged_and_has_its_line_in_the_log(
    stages: Any, files: FileStore, version: str, black: int
) -> None:
    from deployments.graph import Graph

    request = work(seeds=(13, 14, 15), safety_checker_version=version)
    events = [event async for event in Graph(stages).run(request)]
    *_, finished = events
    assert isinstance(finished, Finished)
    assert finished.nsfw == [number == black for number in range(3)]
    (note,) = [event.text for event in events if isinstance(event, Note) and event.level == "WARNING"]
    told = (
        f"picture {black + 1} of 3 (seed {13 + black}) is black: the safety checker {version} objects to it, by 0.250"
    )
    assert note == told
    for number, image in enumerate(finished.images):
        stored = await files.get(image.url.removeprefix("http://127.0.0.1:8000/files/"))
        assert stored is not None
        assert decode_image(stored.content, 10**6, "").max() == (0 if number == black else 13 + number)


async def test_who_does_not_want_the_check_gets_every_picture(stages: Any, files: FileStore) -> None:
    _, finished = await run(stages, work(seeds=(13, 14), check_safety=False))
    assert finished.nsfw == [False, False]
    stored = await files.get(finished.images[0].url.removeprefix("http://127.0.0.1:8000/files/"))
    assert stored is not None
    assert (decode_image(stored.content, 10**6, "") == 13).all()


@pytest.mark.parametrize(("check_safety", "side"), [(False, SIDE // 8), (True, SIDE // 32)])
async def test_previews_are_files_and_veiled_where_the_safety_checker_speaks_later(
    stages: Any, check_safety: bool, side: int
) -> None:
    from deployments.graph import Graph

    request = work("slow", seeds=(1, 2), check_safety=check_safety)
    events = Graph(stages).run(request, previews=True)
    preview = await anext(event async for event in events if isinstance(event, Preview))
    assert (len(preview.contents), preview.width, preview.height, preview.steps) == (2, side, side, 20)
    assert decode_image(preview.contents[0], 10**6, "").shape == (side, side, 3)
    await events.aclose()  # type: ignore[attr-defined]


@needs_detector
async def test_the_crop_of_a_face_reaches_the_replica_that_draws(stages: Any, files: FileStore) -> None:
    face = Reference(kind="FaceSwap", source="http://x/astronaut")
    _, finished = await run(stages, work("mirror", pictures=(face,), check_safety=False))
    stored = await files.get(finished.images[0].url.removeprefix("http://127.0.0.1:8000/files/"))
    assert stored is not None
    crop = FaceFinder(DETECTOR).crop(ASTRONAUT)
    assert crop is not None
    assert np.array_equal(decode_image(stored.content, 10**6, ""), stretch(crop, Size(width=224, height=224)))


async def test_what_was_made_of_a_picture_is_told_before_the_steps(stages: Any) -> None:
    from deployments.graph import Graph

    face = Reference(kind="FaceSwap", source="http://x/nobody", field="image_prompt_1.image_url")
    first, *others = [event async for event in Graph(stages).run(work("mirror", pictures=(face,)))]
    assert isinstance(first, Note)
    assert first.text.startswith("image_prompt_1.image_url: no face")
    assert first.level == "WARNING"
    assert [event for event in others if isinstance(event, Note)] == [Note("Prompt: mirror", "INFO")]


async def test_what_each_picture_is_drawn_from_is_told(stages: Any) -> None:
    from deployments.graph import Graph

    asked = work("a [[red,blue]] ball\nat noon", negative_prompt="rain", styles=("SAI Craft Clay",), seeds=(1, 2))
    notes = [event async for event in Graph(stages).run(asked) if isinstance(event, Note)]
    assert {note.level for note in notes} == {"INFO"}
    first, second, negative = (note.text for note in notes)
    assert first.startswith("Prompt of picture 1: ")
    assert "a red ball" in first
    assert second.startswith("Prompt of picture 2: ")
    assert "a  blue ball" in second
    assert second.endswith("\nat noon")
    assert negative.startswith("Negative prompt: ")
    assert negative.endswith("\nrain")


async def test_an_expanded_prompt_is_the_one_that_is_told(stages: Any) -> None:
    from deployments.graph import Graph

    request = work("a blue ball\na lake", expand_prompt=True, check_safety=False)
    *events, finished = [event async for event in Graph(stages).run(request)]
    assert isinstance(finished, Finished)
    assert finished.prompt == "a blue ball, more 7\na lake"
    assert any("a blue ball, more 7" in event.text for event in events if isinstance(event, Note))
    assert finished.nsfw == [False]


@pytest.mark.parametrize(
    ("prompt", "says"), [("a stuck one", "took longer than 0.5 s"), ("a shy one", "failed"), ("a lost one", "failed")]
)
async def test_without_its_words_a_request_is_drawn_as_it_was(stages: Any, prompt: str, says: str) -> None:
    from deployments.graph import Graph

    hasty = replace(stages, expanding_limit_s=0.5 if "stuck" in prompt else 10)
    note, *_, finished = [event async for event in Graph(hasty).run(work(prompt, expand_prompt=True))]
    assert isinstance(note, Note)
    assert says in note.text
    assert isinstance(finished, Finished)
    assert finished.prompt == prompt


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
    async with asyncio.timeout(5):
        while (await stages.diffuser.stats.remote()).live_jobs != jobs:  # noqa: ASYNC110 (another process's event)
            await asyncio.sleep(0.05)


async def test_cancelling_reaches_a_stage_before_the_drawing(stages: Any, tmp_path: Path) -> None:
    fetching = Start(source=str(tmp_path / "slow"), strength=0.5, field="image_url")
    reading = asyncio.create_task(run(stages, work(pictures=(fetching,))))
    await asyncio.sleep(0.5)  # it is being fetched
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(5):
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


async def test_handles_by_value_carry_pictures_beyond_the_size_of_a_message(stages: Any) -> None:
    names = [stage.name for stage in fields(stages) if stage.name != "expanding_limit_s"]
    by_value = replace(stages, **{name: getattr(stages, name).options(_by_reference=False) for name in names})
    size = Size(width=1280, height=1280)  # 4.9 MB, as a start, a hint and a picture each
    start = Start(source="a start", strength=0.5, field="f")
    edges = Structure(kind="PyraCanny", source="a structure", field="g")
    request = work(size=size, pictures=(start, edges), expand_prompt=True)
    _, finished = await run(by_value, request)
    assert finished.prompt == "a red cube, more 7"
    (image,) = finished.images
    assert (image.width, image.height) == (size.width, size.height)


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

    def remote(self, drawn: Any, version: str) -> Any:
        kill_replicas(APP, "Diffuser")
        self.killed = True
        return self._checker.check.remote(drawn, version)


async def test_files_of_a_second_attempt_have_the_same_names(stages: Any, tmp_path: Path) -> None:
    request = work()
    _, first = await run(stages, request)
    _, second = await run(stages, request)
    assert [image.url for image in first.images] == [image.url for image in second.images]


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
