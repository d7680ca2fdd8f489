"""The graph over handles that are no Ray's: what it reads of what passes through it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from deployments.graph import Graph, Stages, fetches
from deployments.routing import Elsewhere
from gateway.endpoints.fields import OFFSET_LORA
from gateway.errors import PlatformError
from gateway.work import Delivering, Finished, Placed, Step, Waits
from gateway.worker.capacity import ReplicaRegistry
from gateway.worker.places import Places
from gateway.worker.placing import Wanted
from pipelines.events import Complete
from pipelines.spec import Lora
from tests.deployments.graph_on_ray import work


class Reference:
    """What stands for an item of a stream: awaiting it reads the value."""

    def __init__(self, value: Any = None, *, may_be_read: bool = True) -> None:
        self._value, self._may_be_read = value, may_be_read

    def __await__(self) -> Iterator[Any]:
        assert self._may_be_read, "the pixels were read by who only passes them on"
        return asyncio.sleep(0, self._value).__await__()


class Stream:
    """As Ray's: waiting for an item on a loop reads it, waiting for it in a thread does not."""

    def __init__(self, *references: Reference) -> None:
        self._references = iter(references)

    def __next__(self) -> Reference:
        return next(self._references)

    def __aiter__(self) -> AsyncIterator[Reference]:
        return self

    async def __anext__(self) -> Reference:
        reference = next(self._references, None)
        if reference is None:
            raise StopAsyncIteration
        await reference
        return reference

    async def _to_object_ref_gen(self) -> "Stream":
        return self

    def cancel(self) -> None:
        pass


class Handle:
    """A handle whose every method answers with what `answer` gives. given: the arguments of the calls. options_given:
    the options that it was asked for."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer
        self.given: list[Any] = []
        self.options_given: list[dict[str, object]] = []

    def options(self, **given: object) -> "Handle":
        self.options_given.append(given)
        return self

    def __getattr__(self, method: str) -> "Handle":
        return self

    def remote(self, *given: Any, **_: Any) -> Any:
        self.given += given
        return self._answer()


PIXELS = Reference(may_be_read=False)
INPUTS = Reference(may_be_read=False)


def graph(*items: Reference) -> tuple[Graph, Stages]:
    stages = Stages(
        preprocessor=Handle(lambda: INPUTS),
        prompt_expander=Handle(lambda: None),
        diffuser=Handle(lambda: Stream(*items)),
        safety_checker=Handle(lambda: Reference([0.5, -0.5])),
        postprocessor=Handle(lambda: Reference(["one", "two"])),
        expanding_limit_s=1,
    )
    return Graph(stages), stages


async def test_pixels_go_on_unread_to_the_stages_that_use_them() -> None:
    drawing, stages = graph(Reference((Step(0, 2),)), Reference((Complete(2, {"denoise": 0.5}),)), PIXELS)
    first, *_, delivering, black, finished = [event async for event in drawing.run(work(seeds=(1, 2)))]
    assert (first, delivering) == (Step(0, 2), Delivering())
    assert "picture 1 of 2 (seed 1) is black" in black.text
    assert isinstance(finished, Finished)
    assert (finished.images, finished.nsfw) == (["one", "two"], [True, False])
    assert finished.timings["denoise"] == 0.5
    assert INPUTS in stages.diffuser.given
    assert PIXELS in stages.safety_checker.given
    assert PIXELS in stages.postprocessor.given


async def test_as_many_pictures_as_were_drawn_pass_without_a_check() -> None:
    drawing, stages = graph(Reference((Complete(2, {}),)), PIXELS)
    *_, finished = [event async for event in drawing.run(work(seeds=(1, 2), check_safety=False))]
    assert isinstance(finished, Finished)
    assert finished.nsfw == [False, False]
    assert stages.safety_checker.given == []


@pytest.mark.parametrize("items", [[(Step(0, 2),)], [(Step(0, 2), Complete(1, {}))]])
async def test_a_drawing_that_ends_without_its_pictures_is_our_fault(items: list[Any]) -> None:
    drawing, _ = graph(*map(Reference, items))
    with pytest.raises(PlatformError) as caught:
        assert [event async for event in drawing.run(work())]
    assert caught.value.error_type == "runner_incomplete_response"


def placing(*items: Reference) -> tuple[Graph, Stages, Places]:
    replicas = ReplicaRegistry()
    replicas.report("one", 2)
    places = Places(replicas, 4, 100)
    _, stages = graph(*items)
    return Graph(stages, places), stages, places


DRAWN = (Reference((Step(0, 2),)), Reference((Complete(1, {}),)), PIXELS)


async def test_the_chosen_replica_draws_and_its_place_is_free_again_before_the_delivery() -> None:
    drawing, stages, places = placing(*DRAWN)
    taken = []
    async for event in drawing.run(work(check_safety=False)):
        taken.append((type(event), bool(places.room())))
    assert taken == [(Step, False), (Delivering, True), (Finished, True)]
    assert stages.diffuser.options_given[-1] == {"session_id": "one"}


async def test_nothing_is_handed_to_the_diffuser_while_nobody_has_room() -> None:
    drawing, stages, places = placing(*DRAWN)
    other = places.ask("other", Wanted(2))
    events = drawing.run(work(check_safety=False))
    assert isinstance(await anext(events), Waits)
    going_on: asyncio.Future[Any] = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.01)
    assert stages.preprocessor.given
    assert not stages.diffuser.given
    places.give_back(other)
    assert isinstance(await going_on, Placed)
    assert await anext(events) == Step(0, 2)
    assert INPUTS in stages.diffuser.given


@pytest.mark.parametrize("is_drawn", [False, True])
async def test_a_client_that_leaves_leaves_no_place_taken(is_drawn: bool) -> None:
    drawing, _, places = placing(*DRAWN)
    other = places.ask("other", Wanted(2))
    events = drawing.run(work(check_safety=False))
    await anext(events)
    if not is_drawn:
        waiting: asyncio.Future[Any] = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        places.give_back(other)
    else:
        places.give_back(other)
        await anext(events)
        assert not places.room()
        await events.aclose()  # type: ignore[attr-defined]
    assert places.room()


@pytest.mark.parametrize(
    ("lora", "slow"),
    [
        ("film", False),
        (OFFSET_LORA, False),
        ("https://example.com/film.safetensors", True),
        ("owner/repo", True),
        ("owner/repo/path/file.safetensors", True),
        ("stored:uploads/film.safetensors#etag", True),
    ],
)
def test_nobody_s_rows_wait_for_weights_that_have_to_be_fetched(lora: str, slow: bool) -> None:
    assert fetches(work(loras=(Lora(source=lora, scale=1),)).spec) is slow


async def test_a_drawing_that_fails_gives_its_place_back() -> None:
    drawing, _, places = placing(Reference((Step(0, 2),)), Reference((Step(1, 2),)))
    with pytest.raises(PlatformError):
        assert [event async for event in drawing.run(work(check_safety=False))]
    assert places.room()


async def test_who_draws_instead_of_the_chosen_one_is_counted() -> None:
    drawing, _, places = placing(Reference((Elsewhere("two"),)), *DRAWN)
    events = [event async for event in drawing.run(work(check_safety=False))]
    assert [type(event) for event in events] == [Step, Delivering, Finished]
    assert not places.room()  # nothing goes to the chosen one for a while
