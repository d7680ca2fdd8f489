"""Asking for words: what of the prompt expander reaches a request, and what of its faults."""

import asyncio
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from deployments.expanding import Words, ask_for_words
from deployments.gateway import Door
from deployments.prompt_expander import PromptExpander, expander_of, fits_of
from deployments.settings import ExpandingSettings
from gateway.errors import PlatformError
from pipelines.catalogue import Catalogue, FamilyFile
from pipelines.prompts.expanding import Fits
from pipelines.prompts.limits import PromptLimits
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec
from tests.deployments.fakes import FakeExpander
from tests.gateway.fakes import work

SPEC = work("r", prompt="a red cube").spec.model_copy(update={"seeds": (1, 2), "expand_prompt": True})


class Response:
    """What a handle's call gives: it can be awaited once, and cancelled."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer, self.cancelled = answer, False

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answered().__await__()

    async def _answered(self) -> Any:
        answer = self._answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Of a prompt expander that answers as told."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.response = Response(answer)

    @property
    def expand(self) -> "Handle":
        return self

    def remote(self, spec: Spec, trace: object) -> Response:
        return self.response


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


async def test_the_words_are_those_of_the_expander() -> None:
    handle = Handle(lambda: ("a red cube, warm", ""))
    assert await ask_for_words(handle, SPEC, 10) == Words(("a red cube, warm", ""))
    assert not handle.response.cancelled


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: asyncio.sleep(60), "took longer than 0.05 s"),
        (raising(TimeoutError("inside")), "took longer"),
        (raising(ConnectionError("gone")), "failed"),
        (raising(ValueError("of a library")), "failed"),
    ],
)
async def test_an_expander_that_is_slow_or_fails_costs_its_words_alone(answer: Callable[[], Any], says: str) -> None:
    handle = Handle(answer)
    words = await ask_for_words(handle, SPEC, 0.05)
    assert words.texts == ("", "")
    assert says in words.note
    assert handle.response.cancelled


async def test_who_leaves_leaves_no_call_behind() -> None:
    handle = Handle(lambda: asyncio.sleep(60))
    asking = asyncio.create_task(ask_for_words(handle, SPEC, 60))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert handle.response.cancelled


def anything() -> Fits:
    return lambda texts: True


async def expanded(of: Callable[[], Any], *specs: Spec) -> list[tuple[str, ...]]:
    stage = PromptExpander.__new__(PromptExpander)
    await stage.__init__(of, Phrasebook, anything)  # type: ignore[misc]
    return stage._expand(specs)


async def test_every_picture_of_every_request_has_its_text() -> None:
    other = SPEC.model_copy(update={"prompt": "a cube", "seeds": (3,)})
    found = await expanded(FakeExpander, SPEC, other)
    assert found == [("a red cube, more 1", "a red cube, more 2"), ("a cube, more 3",)]


async def test_without_a_model_nothing_is_added() -> None:
    assert await expanded(lambda: None, SPEC) == [("", "")]


@pytest.mark.parametrize(("error", "told"), [(TimeoutError("late"), TimeoutError), (KeyError("x"), PlatformError)])
async def test_only_errors_that_a_caller_can_read_leave_it(error: Exception, told: type[Exception]) -> None:
    class Failing:
        def expand(self, prompts: object, seeds: object) -> list[str]:
            raise error

    with pytest.raises(told):
        await expanded(Failing, SPEC)


def test_the_model_is_the_familys_or_the_settings(pocket_family_folder: Path, tmp_path: Path) -> None:
    drawing = DrawingSettings(family=pocket_family_folder)
    found = expander_of(drawing, ExpandingSettings(max_new_tokens=20))
    assert found is not None
    (longer,) = found.expand(["a red circle"], [1])
    assert longer != "a red circle"
    assert fits_of(drawing)([longer])
    assert not fits_of(drawing)([longer] * 33)
    (tmp_path / "family.json").write_text('{"name": "toy", "version": "1", "checkpoint": "family.json"}')
    toy = DrawingSettings(family=tmp_path)
    assert expander_of(toy, ExpandingSettings()) is None
    theirs = expander_of(toy, ExpandingSettings(folder=pocket_family_folder / "expansion", allowed=("epic",)))
    assert theirs is not None
    assert theirs.expand(["a red circle"] * 4, range(4)) == ["a red circle, epic"] * 4


def test_a_folder_of_the_settings_makes_up_for_the_part_that_a_family_lacks(pocket_family_folder: Path) -> None:
    family = json.loads((pocket_family_folder / "family.json").read_text())
    catalogue = Catalogue(pocket_family_folder.resolve(), FamilyFile.model_validate({**family, "parts": {}}))
    limits = PromptLimits([])
    assert "expansion" in Door(limits, catalogue).family.missing
    told = Door(limits, catalogue, expands=True).family
    assert "expansion" in told.has
    assert "expansion" not in told.missing
