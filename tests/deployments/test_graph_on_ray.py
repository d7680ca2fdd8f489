"""The graph through real Ray handles, with a drawer that needs no weights: what it draws and what it tells."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.files.store import FileStore
from gateway.images.codec import decode_image
from gateway.work import Finished, Note, Preview
from pipelines.images.face import FaceFinder
from pipelines.images.resize import stretch
from pipelines.spec import Reference, Size, Start, Structure
from tests.deployments.fakes import (
    ASTRONAUT,
)
from tests.deployments.graph_on_ray import SIDE, run, work
from tests.detector import DETECTOR, needs_detector

pytestmark = pytest.mark.cluster


async def test_steps_come_before_the_pictures(stages: Any, files: FileStore) -> None:
    request = work(seeds=(7, 13))
    steps, finished = await run(stages, request)
    assert {step.steps for step in steps} == {20}  # not each of them comes: a reader gets the newest
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


async def test_handles_by_value_carry_pictures_beyond_the_size_of_a_message(stages: Any) -> None:
    names = [stage.name for stage in fields(stages) if stage.name != "expanding_limit_s"]
    # the expander's replica may still be on its way back from the test before
    patient = replace(stages, expanding_limit_s=60)
    by_value = replace(patient, **{name: getattr(stages, name).options(_by_reference=False) for name in names})
    size = Size(width=1280, height=1280)  # 4.9 MB, as a start, a hint and a picture each
    start = Start(source="a start", strength=0.5, field="f")
    edges = Structure(kind="PyraCanny", source="a structure", field="g")
    request = work(size=size, pictures=(start, edges), expand_prompt=True)
    _, finished = await run(by_value, request)
    assert finished.prompt == "a red cube, more 7"
    (image,) = finished.images
    assert (image.width, image.height) == (size.width, size.height)


async def test_files_of_a_second_attempt_have_the_same_names(stages: Any, tmp_path: Path) -> None:
    request = work()
    _, first = await run(stages, request)
    _, second = await run(stages, request)
    assert [image.url for image in first.images] == [image.url for image in second.images]
